//! What an endpoint says of itself when it is asked, beside what its calls tell.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use crate::balance::Health;

/// At most one line of an endpoint in a cluster in this time.
const QUIET: Duration = Duration::from_secs(10);

/// How a health was found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    #[default]
    HealthCheck,
    ModelStatus,
    ModelReady,
    /// NOT_FOUND, or the like, for a model that another endpoint has.
    Call,
    /// What was known was of the connection before.
    Connection,
    /// It could not be asked, or took too long.
    Time,
    /// Nobody asks any more.
    Config,
}

const SOURCES: [Source; 7] = [
    Source::HealthCheck,
    Source::ModelStatus,
    Source::ModelReady,
    Source::Call,
    Source::Connection,
    Source::Time,
    Source::Config,
];

/// An endpoint's health, as it was last told.
#[derive(Debug, Default)]
pub struct Reported {
    server: AtomicU8,
    is_loading: AtomicBool,
    /// Where the last change came from.
    source: AtomicU8,
    /// Somebody asks for a model's state.
    is_asked: AtomicBool,
    logged: Mutex<Logged>,
}

/// What the operator knows.
#[derive(Debug, Default)]
struct Logged {
    health: Health,
    /// When a line was last due; none before the first.
    at: Option<Instant>,
}

/// A change that the operator does not know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub from: Health,
    pub to: Health,
    pub source: Source,
}

// === impl Source ===

impl Source {
    const fn name(self) -> &'static str {
        match self {
            Self::HealthCheck => "grpc.health.v1",
            Self::ModelStatus => "GetModelStatus",
            Self::ModelReady => "ModelReady",
            Self::Call => "a call for a model that another endpoint has",
            Self::Connection => "a new connection",
            Self::Time => "the time limit, as it did not tell",
            Self::Config => "the configuration: checks are off",
        }
    }
}

// === impl Change ===

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from.name(), self.to.name());
        write!(f, "{from} -> {to}, by {}", self.source.name())
    }
}

// === impl Reported ===

impl Reported {
    pub fn get(&self) -> Health {
        let server = Health::ALL[usize::from(self.server.load(Relaxed)) % Health::ALL.len()];
        match server {
            Health::NotServing => server,
            _ if self.is_loading.load(Relaxed) => Health::Loading,
            _ => server,
        }
    }

    /// What the server says of itself. True when that is news.
    pub fn set_server(&self, health: Health, source: Source) -> bool {
        let is_news = self.server.swap(health as u8, Relaxed) != health as u8;
        if is_news {
            self.source.store(source as u8, Relaxed);
        }
        is_news
    }

    /// Whether a model is being loaded. True when that is news.
    pub fn set_loading(&self, is_loading: bool, source: Source) -> bool {
        let is_news = self.is_loading.swap(is_loading, Relaxed) != is_loading;
        // An answer says more than the call that was the reason to ask.
        if is_news || self.source.load(Relaxed) == Source::Call as u8 {
            self.source.store(source as u8, Relaxed);
        }
        is_news
    }

    /// The change that is due for the log, after which it counts as told. That an endpoint turns out to serve, or can
    /// no longer tell, is none: nothing follows from it.
    pub fn news(&self, now: Instant) -> Option<Change> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, to) = (logged.health, self.get());
        if from.is_well() && to.is_well() {
            logged.health = to;
            return None;
        }
        if from == to || logged.at.is_some_and(|at| now < at + QUIET) {
            return None;
        }
        *logged = Logged {
            health: to,
            at: Some(now),
        };
        let source = SOURCES[usize::from(self.source.load(Relaxed)) % SOURCES.len()];
        Some(Change { from, to, source })
    }

    /// Ask for a model's state from now on. False when somebody does already.
    pub fn begin_asking(&self) -> bool {
        !self.is_asked.swap(true, Relaxed)
    }

    pub fn end_asking(&self) {
        self.is_asked.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: Source = Source::HealthCheck;

    #[test]
    fn a_server_that_does_not_serve_is_that_whatever_it_loads() {
        let reported = Reported::default();
        assert_eq!(reported.get(), Health::Unknown);
        assert!(reported.set_server(Health::Serving, CHECK));
        assert!(!reported.set_server(Health::Serving, CHECK));
        assert!(reported.set_loading(true, Source::Call));
        assert_eq!(reported.get(), Health::Loading);
        reported.set_server(Health::NotServing, CHECK);
        assert_eq!(reported.get(), Health::NotServing);
        reported.set_server(Health::Unknown, CHECK);
        assert!(reported.set_loading(false, Source::Time));
        assert_eq!(reported.get(), Health::Unknown);
    }

    #[test]
    fn a_change_is_told_once_with_what_was_before_and_how_it_was_found_out() {
        let reported = Reported::default();
        let start = Instant::now();
        let at = |seconds| reported.news(start + Duration::from_secs(seconds));
        reported.set_server(Health::Serving, CHECK);
        assert_eq!(at(0), None);
        reported.set_loading(true, Source::Call);
        reported.set_loading(true, Source::ModelStatus);
        let text = at(1).map(|change| change.to_string());
        assert_eq!(
            text.as_deref(),
            Some("serving -> loading, by GetModelStatus")
        );
        assert_eq!(at(60), None);
        reported.set_loading(false, Source::ModelReady);
        reported.set_server(Health::NotServing, CHECK);
        let change = at(70).expect("is news");
        assert_eq!(
            (change.from, change.to, change.source),
            (Health::Loading, Health::NotServing, CHECK)
        );
    }

    #[test]
    fn an_endpoint_that_flaps_is_told_of_once_in_ten_seconds_and_its_last_state_at_last() {
        let reported = Reported::default();
        let start = Instant::now();
        let mut lines = Vec::new();
        for second in 0..40 {
            let health = [Health::NotServing, Health::Serving][second % 2];
            reported.set_server(health, CHECK);
            let now = start + Duration::from_secs(second as u64);
            lines.extend(reported.news(now).map(|change| (second, change.to)));
        }
        let told = [
            (0, Health::NotServing),
            (11, Health::Serving),
            (22, Health::NotServing),
            (33, Health::Serving),
        ];
        assert_eq!(lines, told);
    }
}
