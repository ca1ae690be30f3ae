//! The model-server front: codecs, queue, batches handed to Python.

pub mod codec;
mod handle;
mod inference;
mod message;
mod pages;
pub mod queue;
pub mod reply;
mod responder;
pub mod server;
mod state;
mod stream;
