//! Sockets and connections: accept, frame accounting, limits, drain.

pub mod accept;
pub mod buffered;
pub mod connection;
pub mod drain;
pub mod frames;
pub mod limits;
pub mod serve;
pub mod server;
pub mod stream;
