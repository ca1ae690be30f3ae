//! Why an attempt ended without a whole answer.

use crate::error::{Error, ErrorKind};
use crate::net::stream::{Broken, Cause};

#[derive(Debug)]
pub enum Failure {
    /// The caller's side: it went away, or its request is wrong. The endpoint is not to blame.
    Caller(Error),
    /// The endpoint's side.
    Endpoint(Error),
    /// The endpoint's side, which reset the stream with CANCEL: what servers do to a call whose time is over.
    Withdrawn(Error),
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
pub fn before_headers(broken: &Broken) -> Failure {
    let kind = match broken.cause() {
        Cause::Refused => ErrorKind::RefusedStream,
        Cause::Reset => ErrorKind::StreamReset,
        Cause::Malformed => ErrorKind::BadUpstreamResponse,
        Cause::Lost => ErrorKind::ConnectionLost,
    };
    of_endpoint(broken, Error::new(kind, text(broken)))
}

/// The endpoint failed in the midst of its answer.
pub fn after_headers(broken: &Broken) -> Failure {
    let kind = match broken.cause() {
        Cause::Malformed => ErrorKind::BadUpstreamResponse,
        _ if broken.is_reset() => ErrorKind::StreamReset,
        _ => ErrorKind::ConnectionLost,
    };
    let message = format!("the answer broke off: {}", text(broken));
    of_endpoint(broken, Error::new(kind, message))
}

fn of_endpoint(broken: &Broken, error: Error) -> Failure {
    if broken.is_cancel() {
        Failure::Withdrawn(error)
    } else {
        Failure::Endpoint(error)
    }
}

/// A part of the answer's trailers is missing, as they were too large.
pub fn metadata_too_large(limit: u32) -> Error {
    let text = format!(
        "its answer's metadata is larger than {limit} bytes (limits.max_metadata_bytes): send less, or raise the limit"
    );
    Error::new(ErrorKind::BadUpstreamResponse, text)
}

fn text(broken: &Broken) -> String {
    if broken.cause() == Cause::Malformed {
        format!(
            "its answer is against the rules of HTTP/2, or its metadata is larger than limits.max_metadata_bytes \
             ({broken})"
        )
    } else if broken.is_fatal() {
        format!(
            "it broke the rules of HTTP/2, or sent metadata many times larger than limits.max_metadata_bytes ({broken})"
        )
    } else {
        broken.to_string()
    }
}
