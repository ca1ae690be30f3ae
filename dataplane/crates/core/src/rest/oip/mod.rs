//! The Open Inference Protocol over HTTP: its calls, JSON with binary tensors, event streams and the model repository, and
//! what they become where the model's server speaks another protocol.

mod answer;
mod call;
pub mod events;
pub mod over;
pub mod repository;
mod request;
mod told;

pub use call::Call;
