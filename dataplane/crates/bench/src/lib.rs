//! What tests and benchmarks put around the proxy: an endpoint that answers as fast as it can and
//! misbehaves on command (`endpoint`), and load at a fixed rate that hides no stall (`load`). Not shipped.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod arrivals;
pub mod broken;
pub mod calls;
pub mod console;
pub mod fault;
pub mod http1;
pub mod mixed;
pub mod report;
pub mod serve;
pub mod socket;
pub mod station;
