//! The model-server front: codecs, queue, batches handed to Python.

pub mod codec;
pub mod front;
pub mod group;
mod group_times;
pub mod hand;
pub mod handle;
mod infer;
mod local;
pub mod meter;
pub mod method;
pub mod outbox;
pub mod queue;
pub mod reply;
pub mod state;
mod stream;
pub mod taken;
mod times;
mod trace;
pub mod tuner;
