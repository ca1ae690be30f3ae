//! What can go wrong with a call, and what follows; the facts are in [`table`].

use std::borrow::Cow;
use std::time::Duration;

use crate::balance::Outcome;
use crate::code::Code;

mod table;

pub use table::{Blame, Retry, Row, TABLE};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    UnknownMethod,
    BadRouteKey,
    BadRequest,
    MissingEncoding,
    UnsupportedEncoding,
    NoRoute,
    UnknownLabel,
    MessageTooLarge,
    Shed,
    Limited,
    Denied,
    Unauthenticated,
    UriDenied,
    UriFailed,
    TooManyHops,
    NoEndpoints,
    ModelUnloaded,
    MemoryBudget,
    Draining,
    DeadlineExceeded,
    ConnectFailed,
    RefusedStream,
    ConnectionLost,
    StreamReset,
    BadUpstreamResponse,
    ModelNotFound,
    ModelNotReady,
    Hook,
    Poison,
    Cancelled,
    Internal,
}

// === impl ErrorKind ===

impl ErrorKind {
    /// Its row of the table.
    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The gRPC code that the caller gets.
    pub const fn code(self) -> Code {
        self.row().code
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let row = TABLE.iter().find(|row| row.name == name)?;
        Some(row.kind)
    }

    /// Whether a call that ended so never reached an endpoint's application, so that it may always be sent again, at
    /// no cost to the budget. A GOAWAY below the stream's id is a `RefusedStream`.
    pub const fn never_reached(self) -> bool {
        matches!(self.row().retry, Retry::Always | Retry::AnotherShare)
    }

    /// Whether another attempt may follow one that failed so before its response headers; attempts, budget and time
    /// left are the caller's to check.
    ///
    /// `is_attempt_timeout`: it was `attempt_timeout_ms` that ran out, and the call still has time.
    pub const fn may_retry(self, is_attempt_timeout: bool, is_idempotent: bool) -> bool {
        match self.row().retry {
            Retry::Always | Retry::AnotherShare => true,
            Retry::Idempotent => is_idempotent,
            Retry::AttemptTimeout => is_attempt_timeout && is_idempotent,
            // As a status it comes by `retry_codes`, not by its kind.
            Retry::Never | Retry::AsStatus => false,
        }
    }

    /// What a failed attempt says about its endpoint, before or after response headers; where time ran out, that
    /// depends on how long the endpoint held the call, which is not decided here.
    pub const fn outcome(self) -> Outcome {
        match self.row().blame {
            Blame::Yes => Outcome::Hard,
            Blame::No | Blame::IfHeld | Blame::AsStatus => Outcome::Neutral,
        }
    }
}

/// A failed call: its kind, and a text for the caller (lower case, value, limit and remedy included).
#[derive(Clone, Debug)]
pub struct Error {
    pub kind: ErrorKind,
    pub message: Cow<'static, str>,
    /// When the call may be made again, where that is known.
    pub retry_after: Option<Duration>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_at_its_number_and_found_by_its_name() {
        for (number, row) in TABLE.iter().enumerate() {
            assert_eq!(row.kind as usize, number, "{}", row.name);
            assert_eq!(ErrorKind::from_name(row.name), Some(row.kind));
        }
        assert_eq!(ErrorKind::from_name("unheard_of"), None);
        assert_eq!(ErrorKind::Internal as usize + 1, TABLE.len());
    }

    #[test]
    fn what_may_have_been_processed_is_sent_again_only_where_that_does_no_harm() {
        for row in &TABLE {
            let kind = row.kind;
            let (idempotent, always) = (kind.may_retry(true, true), kind.may_retry(true, false));
            assert_eq!(always, kind.never_reached(), "{}", row.name);
            assert!(idempotent || !always, "{}", row.name);
        }
        assert!(!ErrorKind::DeadlineExceeded.may_retry(false, true));
    }

    #[test]
    fn an_error_of_the_callers_never_counts_against_the_endpoint() {
        for row in TABLE.iter().filter(|row| row.code == Code::InvalidArgument) {
            assert_eq!(row.blame, Blame::No, "{}", row.name);
        }
    }
}
