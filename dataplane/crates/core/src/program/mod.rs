//! The programs, put together: the only place that knows the request path and the admin port.

mod changes;
mod dashboard;
mod model_server;
mod model_server_pages;
mod proxy;
mod proxy_pages;

pub use model_server::ModelServer;
pub use proxy::{Control, Proxy};
