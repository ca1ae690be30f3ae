//! Sockets and connections: accept, limits, drain.

pub mod accept;
pub mod connection;
pub mod drain;
pub mod guard;
mod http1;
mod http1_times;
pub mod http2;
pub mod inherited;
pub mod limits;
pub mod listener;
pub mod load;
mod opening;
pub mod pipe;
pub mod serve;
pub mod server;
pub mod service;
pub mod strangers;
pub mod stream;
pub mod tls;
mod waiting;
