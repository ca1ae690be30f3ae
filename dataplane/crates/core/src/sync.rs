//! The atomics of what `tests/interleavings.rs` checks, where shuttle's stand in their place.

pub use std::sync::atomic;
