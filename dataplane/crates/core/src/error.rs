//! The one error table of the request path: kind -> gRPC code, retryable, counts against the endpoint.

use std::borrow::Cow;

use crate::grpc::status::Code;

/// What went wrong, in the words of design.md's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    UnknownMethod,
    BadRouteKey,
    BadRequest,
    NoRoute,
    MessageTooLarge,
    Shed,
    Denied,
    NoEndpoints,
    Draining,
    DeadlineExceeded,
    ConnectFailed,
    RefusedStream,
    ConnectionLost,
    StreamReset,
    BadUpstreamResponse,
    Cancelled,
    Internal,
}

impl ErrorKind {
    /// Every kind; tests and the generated error reference run over it.
    pub const ALL: &[Self] = &[
        Self::UnknownMethod,
        Self::BadRouteKey,
        Self::BadRequest,
        Self::NoRoute,
        Self::MessageTooLarge,
        Self::Shed,
        Self::Denied,
        Self::NoEndpoints,
        Self::Draining,
        Self::DeadlineExceeded,
        Self::ConnectFailed,
        Self::RefusedStream,
        Self::ConnectionLost,
        Self::StreamReset,
        Self::BadUpstreamResponse,
        Self::Cancelled,
        Self::Internal,
    ];

    /// Name in the trailer `access-error`, in metrics and in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownMethod => "unknown_method",
            Self::BadRouteKey => "bad_route_key",
            Self::BadRequest => "bad_request",
            Self::NoRoute => "no_route",
            Self::MessageTooLarge => "message_too_large",
            Self::Shed => "shed",
            Self::Denied => "denied",
            Self::NoEndpoints => "no_endpoints",
            Self::Draining => "draining",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::ConnectFailed => "connect_failed",
            Self::RefusedStream => "refused_stream",
            Self::ConnectionLost => "connection_lost",
            Self::StreamReset => "stream_reset",
            Self::BadUpstreamResponse => "bad_upstream_response",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// The gRPC code that the caller gets.
    pub const fn code(self) -> Code {
        match self {
            Self::UnknownMethod => Code::Unimplemented,
            Self::BadRouteKey | Self::BadRequest => Code::InvalidArgument,
            Self::NoRoute => Code::NotFound,
            Self::MessageTooLarge | Self::Shed => Code::ResourceExhausted,
            Self::Denied => Code::PermissionDenied,
            Self::NoEndpoints
            | Self::Draining
            | Self::ConnectFailed
            | Self::RefusedStream
            | Self::ConnectionLost
            | Self::StreamReset => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Cancelled => Code::Cancelled,
            Self::BadUpstreamResponse | Self::Internal => Code::Internal,
        }
    }
}

/// A failed call: its kind, and a text for the caller (lower case, value, limit and remedy included).
#[derive(Clone, Debug)]
pub struct Error {
    pub kind: ErrorKind,
    pub message: Cow<'static, str>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

impl std::error::Error for Error {}
