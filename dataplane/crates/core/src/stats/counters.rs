//! Counters over a closed list of label values: one atomic for each, no map and no lock.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::code::Code;
use crate::error::{ErrorKind, TABLE};

/// A label whose values are all known: each has a position and a name.
pub trait Label: Copy + 'static {
    /// Number of values.
    const COUNT: usize;
    /// Position, below [`Self::COUNT`].
    fn index(self) -> usize;
    /// Value of the label at this position.
    fn value(index: usize) -> &'static str;
}

impl Label for Code {
    const COUNT: usize = Self::ALL.len();
    fn index(self) -> usize {
        self as usize
    }
    fn value(index: usize) -> &'static str {
        Code::ALL[index].name()
    }
}

impl Label for ErrorKind {
    const COUNT: usize = TABLE.len();
    fn index(self) -> usize {
        self as usize
    }
    fn value(index: usize) -> &'static str {
        TABLE[index].name
    }
}

/// Why a call was sent to another endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCause {
    /// The attempt failed without a status of the endpoint's.
    Error(ErrorKind),
    /// The endpoint answered with one of the cluster's `retry_codes`.
    UpstreamStatus,
    /// The endpoint answered RESOURCE_EXHAUSTED because it is full.
    Full,
    /// The endpoint has no such model, and another has.
    NotLoaded,
}

impl Label for RetryCause {
    const COUNT: usize = ErrorKind::COUNT + 3;
    fn index(self) -> usize {
        match self {
            Self::Error(kind) => kind.index(),
            Self::UpstreamStatus => ErrorKind::COUNT,
            Self::Full => ErrorKind::COUNT + 1,
            Self::NotLoaded => ErrorKind::COUNT + 2,
        }
    }
    fn value(index: usize) -> &'static str {
        if index < ErrorKind::COUNT {
            <ErrorKind as Label>::value(index)
        } else {
            ["upstream_status", "full", "not_loaded"][index - ErrorKind::COUNT]
        }
    }
}

/// How a race between two attempts of a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeResult {
    /// The second attempt answered first.
    Won,
    /// The first attempt answered after all.
    Lost,
    /// Neither answered.
    Failed,
    /// There was no second attempt: the budget was used up.
    NoBudget,
}

impl Label for HedgeResult {
    const COUNT: usize = 4;
    fn index(self) -> usize {
        self as usize
    }
    fn value(index: usize) -> &'static str {
        ["won", "lost", "failed", "no_budget"][index]
    }
}

/// Why a connection was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedReason {
    MaxConnections,
    MaxConnectionsPerIp,
    /// The system could not accept: out of file descriptors or memory.
    AcceptError,
}

impl Label for RefusedReason {
    const COUNT: usize = 3;
    fn index(self) -> usize {
        self as usize
    }
    fn value(index: usize) -> &'static str {
        ["max_connections", "max_connections_per_ip", "accept_error"][index]
    }
}

/// Why a downstream connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedReason {
    /// The caller closed it.
    Downstream,
    /// No request headers within `header_timeout_ms`.
    HeaderTimeout,
    /// No streams for `connection_idle_timeout_ms`.
    Idle,
    /// Older than `max_connection_age_ms`.
    Age,
    /// The process drains or stops.
    Drain,
    /// Control frames beyond the credit, or resets in number (ENHANCE_YOUR_CALM).
    Flood,
    /// Not HTTP, or against its rules.
    Protocol,
    /// The caller asked for TLS.
    Tls,
    /// The socket failed.
    Io,
    /// A handshake of TLS failed.
    Handshake,
    /// The caller spoke without TLS to a port that wants it.
    Plaintext,
}

impl Label for ClosedReason {
    const COUNT: usize = 11;
    fn index(self) -> usize {
        self as usize
    }
    fn value(index: usize) -> &'static str {
        [
            "downstream",
            "header_timeout",
            "idle",
            "age",
            "drain",
            "flood",
            "protocol",
            "tls",
            "io",
            "tls_handshake",
            "plaintext",
        ][index]
    }
}

/// One counter for each value of `L`; `N` is `L::COUNT`.
#[derive(Debug)]
pub struct Counters<L, const N: usize> {
    values: [AtomicU64; N],
    label: PhantomData<fn(L)>,
}

/// By gRPC code.
pub type CodeCounters = Counters<Code, { Code::COUNT }>;
/// By error kind.
pub type KindCounters = Counters<ErrorKind, { ErrorKind::COUNT }>;
/// By what led to the retry.
pub type RetryCounters = Counters<RetryCause, { RetryCause::COUNT }>;
/// By how the race ended.
pub type HedgeCounters = Counters<HedgeResult, { HedgeResult::COUNT }>;
/// By why a connection was turned away.
pub type RefusedCounters = Counters<RefusedReason, { RefusedReason::COUNT }>;
/// By why a connection ended.
pub type ClosedCounters = Counters<ClosedReason, { ClosedReason::COUNT }>;

impl<L: Label, const N: usize> Default for Counters<L, N> {
    fn default() -> Self {
        const { assert!(N == L::COUNT) };
        Self {
            values: [const { AtomicU64::new(0) }; N],
            label: PhantomData,
        }
    }
}

impl<L: Label, const N: usize> Counters<L, N> {
    /// Count one.
    pub fn add(&self, label: L) {
        self.values[label.index()].fetch_add(1, Relaxed);
    }

    /// The count of one value.
    pub fn get(&self, label: L) -> u64 {
        self.values[label.index()].load(Relaxed)
    }

    /// The count of each value, at its position.
    pub fn counts(&self) -> [u64; N] {
        std::array::from_fn(|index| self.values[index].load(Relaxed))
    }

    /// The count of all values.
    pub fn total(&self) -> u64 {
        self.values.iter().map(|value| value.load(Relaxed)).sum()
    }

    /// (name, count) of each value that was ever counted.
    pub fn used(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.all().filter(|&(_, count)| count > 0)
    }

    /// (name, count) of each value, also those at zero.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.values
            .iter()
            .enumerate()
            .map(|(index, value)| (L::value(index), value.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_values_have_the_last_names() {
        assert_eq!(
            Code::value(Code::Unauthenticated.index()),
            "UNAUTHENTICATED"
        );
        assert_eq!(RetryCause::value(RetryCause::Full.index()), "full");
        assert_eq!(
            RetryCause::value(RetryCause::NotLoaded.index()),
            "not_loaded"
        );
        assert_eq!(
            RefusedReason::value(RefusedReason::AcceptError.index()),
            "accept_error"
        );
        assert_eq!(ClosedReason::value(ClosedReason::Io.index()), "io");
    }

    #[test]
    fn only_values_that_were_counted_are_used() {
        let counters = CodeCounters::default();
        counters.add(Code::Ok);
        counters.add(Code::Unavailable);
        counters.add(Code::Unavailable);
        let used: Vec<_> = counters.used().collect();
        assert_eq!(used, [("OK", 1), ("UNAVAILABLE", 2)]);
        assert_eq!(counters.total(), 3);
        assert_eq!(counters.get(Code::Unavailable), 2);
    }
}
