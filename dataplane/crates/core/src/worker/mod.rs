//! The model-server front: codecs, queue, batches handed to Python.

pub mod codec;
pub mod queue;
pub mod reply;
pub mod server;
