//! Traces of sampled calls, sent to a collector by OTLP. A span is made when what it tells of is over, from times that
//! are known then; a call that is not sampled has none of this.

mod export;
pub mod http;
mod otlp;
mod span;
#[cfg(test)]
mod spans_tests;
pub mod tracer;

pub use export::Counts;
pub use span::{Clock, Kind, Span, Value};
pub use tracer::{Sampled, Tracer};
