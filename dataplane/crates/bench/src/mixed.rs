//! Calls of every kind, each with content of its own that its answer is checked against: `bin/mixed.rs`. What the
//! endpoints do meanwhile is the business of who runs it.

pub mod call;
pub mod content;
pub mod line;
pub mod plan;
pub mod tally;
