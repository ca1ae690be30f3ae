//! What connections give their requests to.

use super::guard::StreamGuard;
use super::stream::{Answer, Body, Head};

/// What a connection's streams are given to.
pub trait Service: 'static {
    /// Start serving one call; must not block. `stream` lives as long as the call.
    fn call(&self, head: Head, body: Body, answer: Answer, stream: StreamGuard);

    /// The program's state has changed.
    fn state_changed(&self) {}
}
