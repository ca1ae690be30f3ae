//! Callers that speak another protocol than gRPC to a port of ours: what the operator's log says of them.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::notice::Notice;

/// At most one line of each kind in this time: a load balancer's check comes every few seconds.
const QUIET: Duration = Duration::from_secs(60);

/// What a caller spoke instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tongue {
    Http1,
    Tls,
}

/// Those that came and have not been spoken of yet.
#[derive(Default)]
pub struct Strangers {
    kinds: Mutex<[Kind; 2]>,
}

#[derive(Default)]
struct Kind {
    count: u64,
    last: String,
    said: Option<Instant>,
}

// === impl Strangers ===

impl Strangers {
    pub fn met(&self, tongue: Tongue, peer: &impl Display) {
        let kind = &mut self.lock()[tongue as usize];
        kind.count += 1;
        kind.last = peer.to_string();
    }

    /// The lines that are due.
    pub fn notices(&self, now: Instant) -> Vec<Notice> {
        let mut kinds = self.lock();
        let due = [Tongue::Http1, Tongue::Tls].into_iter();
        due.filter_map(|tongue| kinds[tongue as usize].notice(tongue, now))
            .collect()
    }

    /// A few numbers are guarded, which no panic can leave half-written.
    fn lock(&self) -> std::sync::MutexGuard<'_, [Kind; 2]> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Kind ===

impl Kind {
    fn notice(&mut self, tongue: Tongue, now: Instant) -> Option<Notice> {
        let is_quiet = self.said.is_some_and(|said| now < said + QUIET);
        if self.count == 0 || is_quiet {
            return None;
        }
        let Self { count, last, .. } = std::mem::take(self);
        self.said = Some(now);
        let (spoke, remedy) = match tongue {
            Tongue::Http1 => (
                "spoke HTTP/1",
                "it speaks gRPC only; checks and browsers belong to the admin port",
            ),
            Tongue::Tls => (
                "asked for TLS",
                "it speaks gRPC without TLS; the caller needs a channel without it",
            ),
        };
        let who = match count {
            1 => format!("a caller, {last},"),
            _ => format!("{count} connections, the last from {last},"),
        };
        Some(Notice::warning(format!(
            "{who} {spoke} on the gRPC port: {remedy}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_of_at_once_and_then_once_a_minute_with_its_count() {
        let strangers = Strangers::default();
        let start = Instant::now();
        let said = |seconds| {
            let notices = strangers.notices(start + Duration::from_secs(seconds));
            let texts = notices.into_iter().map(|notice| notice.text);
            texts.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(said(0), "");
        strangers.met(Tongue::Http1, &"unix");
        assert!(said(1).starts_with("a caller, unix, spoke HTTP/1 on the gRPC port"));
        for _ in 0..3 {
            strangers.met(Tongue::Http1, &"unix");
        }
        strangers.met(Tongue::Tls, &"unix");
        assert!(said(60).starts_with("a caller, unix, asked for TLS"));
        assert!(said(61).starts_with("3 connections, the last from unix, spoke HTTP/1"));
        assert_eq!(said(200), "");
    }
}
