//! The request path of the access service. Read `handle` first: it is the only orchestrator.

mod attempt;
pub mod body;
pub mod clock;
pub mod cluster;
pub mod endpoint;
pub mod handle;
pub mod limit;
pub mod local;
pub mod method;
pub mod pool;
pub mod responder;
pub mod retry;
pub mod route;
pub mod route_key;
pub mod server;
pub mod state;
pub mod status;
pub mod upstream;
mod verdict;
