//! The request path of the access service. Read `handle` first: it is the only orchestrator.

mod access_log;
mod address;
mod answer;
mod attempt;
mod body;
mod call;
mod clock;
pub mod cluster;
mod exchange;
mod failure;
pub mod handle;
mod hops;
mod listing;
pub mod local;
pub mod method;
mod nearest;
mod pool;
mod relay;
pub mod retry;
pub mod route;
mod route_key;
mod settings;
pub mod split;
pub mod state;
mod verdict;
pub mod watch;
pub mod worker;
