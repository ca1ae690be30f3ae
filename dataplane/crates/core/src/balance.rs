//! The balancer, a crate of its own: pure logic that the simulator runs, too.

pub use dl_balance::*;
