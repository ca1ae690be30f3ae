//! go-infer's form, `/api/NAME`: an envelope around a model's inputs, and one around every answer.

mod envelope;

pub use envelope::{problem, reply};
