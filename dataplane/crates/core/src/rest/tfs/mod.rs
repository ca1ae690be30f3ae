//! TF Serving's REST: rows and columns of tensors, examples to classify and regress, metadata and status.

mod document;
pub mod examples;
pub mod told;

pub use document::{Document, reply};
