//! Why an attempt ended without a whole answer.

use crate::error::{Error, ErrorKind};
use crate::net::stream::{Broken, Cause};

#[derive(Debug)]
pub enum Failure {
    /// The caller's side: it went away, or its request is wrong. The endpoint is not to blame.
    Caller(Error),
    /// The endpoint's side.
    Endpoint(Error),
    /// A time limit.
    Expired(Expired),
}

/// Which limit ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// The call's deadline.
    Deadline,
    /// `attempt_timeout_ms`.
    Attempt,
    /// `stream_idle_timeout_ms`.
    Idle,
    /// The caller brought, or took, next to nothing for `body_timeout_ms`.
    Stalled,
}

pub fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the caller cancelled the call")
}

/// The endpoint failed before its response headers.
pub fn before_headers(broken: &Broken) -> Error {
    let kind = match broken.cause() {
        Cause::Refused => ErrorKind::RefusedStream,
        Cause::Reset => ErrorKind::StreamReset,
        Cause::Lost => ErrorKind::ConnectionLost,
    };
    Error::new(kind, broken.to_string())
}

/// The endpoint failed in the midst of its answer.
pub fn after_headers(broken: &Broken) -> Error {
    let kind = match broken.is_reset() {
        true => ErrorKind::StreamReset,
        false => ErrorKind::ConnectionLost,
    };
    Error::new(kind, format!("the answer broke off: {broken}"))
}
