//! The queue that chunks of a body wait in: the HTTP/2 engine's own.

pub use dl_http2::Chunks;
