//! The HTTP/2 engine under tasks: a connection that one task drives, and streams that others use on the same thread.

mod ended;
mod engine;
pub mod fields;
mod handle;
mod link;

pub use ended::Ended;
pub use engine::{Engine, Turn};
pub use handle::Handle;
pub use link::Link;
