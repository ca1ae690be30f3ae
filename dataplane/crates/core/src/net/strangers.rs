//! Callers that want TLS of a port without it: what the operator's log says of them.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::notice::Notice;

/// At most one line in this time: a load balancer's check comes every few seconds.
const QUIET: Duration = Duration::from_secs(60);

/// Those that came and have not been spoken of yet.
#[derive(Default)]
pub struct Strangers(Mutex<Unspoken>);

#[derive(Default)]
struct Unspoken {
    count: u64,
    last: String,
    said: Option<Instant>,
}

// === impl Strangers ===

impl Strangers {
    /// Someone asked for TLS.
    pub fn met(&self, peer: &impl Display) {
        let mut unspoken = self.lock();
        unspoken.count += 1;
        unspoken.last = peer.to_string();
    }

    /// The line that is due.
    pub fn notice(&self, now: Instant) -> Option<Notice> {
        let mut unspoken = self.lock();
        let is_quiet = unspoken.said.is_some_and(|said| now < said + QUIET);
        if unspoken.count == 0 || is_quiet {
            return None;
        }
        let Unspoken { count, last, .. } = std::mem::take(&mut *unspoken);
        unspoken.said = Some(now);
        let who = match count {
            1 => format!("a caller, {last},"),
            _ => format!("{count} connections, the last from {last},"),
        };
        Some(Notice::warning(format!(
            "{who} asked for TLS: this port speaks gRPC and HTTP without TLS; the caller needs a channel without it"
        )))
    }

    /// A few numbers are guarded, which no panic can leave half-written.
    fn lock(&self) -> std::sync::MutexGuard<'_, Unspoken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_told_of_at_once_and_then_once_a_minute_with_their_count() {
        let strangers = Strangers::default();
        let start = Instant::now();
        let said = |seconds| {
            let notice = strangers.notice(start + Duration::from_secs(seconds));
            notice.map_or_else(String::new, |notice| notice.text)
        };
        assert_eq!(said(0), "");
        strangers.met(&"unix");
        assert!(said(1).starts_with("a caller, unix, asked for TLS"));
        for _ in 0..3 {
            strangers.met(&"unix");
        }
        assert_eq!(said(60), "");
        assert!(said(61).starts_with("3 connections, the last from unix, asked for TLS"));
        assert_eq!(said(200), "");
    }
}
