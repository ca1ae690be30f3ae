//! The Open Inference Protocol's ModelInfer: a request's named tensors, and an answer's. Which model is meant
//! and what becomes of a tensor is the caller's business.

mod contents;
mod request;
mod response;

#[cfg(test)]
mod tests;

pub use request::InferHead;
pub use response::{InferEnvelope, InferOutput, StreamFault, encode, encode_stream_error};

/// Most inputs, outputs or parameters of one request: more than any model has, and a bound on the memory that
/// a few bytes of request make us index.
const MAX_ENTRIES: usize = 1024;

/// A caller's name as error texts show it.
pub(in crate::worker) fn shown(name: &str) -> String {
    if name.len() <= 64 {
        return format!("{name:?}");
    }
    format!("{:?}...", name.chars().take(64).collect::<String>())
}
