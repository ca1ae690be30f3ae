//! AtServing's calls, `/v1/eval` and `/v1/batch`: data by URI, by value or as the body, for a model's one input.

mod batch;
mod eval;

pub use batch::reply as batch;
pub use eval::{Draft, problem, reply, target};
