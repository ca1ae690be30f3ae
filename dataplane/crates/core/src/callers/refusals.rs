//! Calls that are nobody's: what the operator's log says of them. Their senders are not told what was wrong.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Reason;
use crate::notice::Notice;

/// At most one line in this time.
const QUIET: Duration = Duration::from_secs(1);
/// Reasons that one line tells apart.
const MAX_REASONS: usize = 8;

/// Those that came and have not been spoken of yet.
#[derive(Default)]
pub struct Refusals(Mutex<Unspoken>);

#[derive(Default)]
struct Unspoken {
    reasons: BTreeMap<Reason, u64>,
    others: u64,
    last: String,
    said: Option<Instant>,
}

// === impl Refusals ===

impl Refusals {
    /// A call was turned away.
    pub fn met(&self, reason: Reason, peer: &impl Display) {
        let mut unspoken = self.lock();
        unspoken.last = peer.to_string();
        if unspoken.reasons.len() == MAX_REASONS && !unspoken.reasons.contains_key(&reason) {
            unspoken.others += 1;
        } else {
            *unspoken.reasons.entry(reason).or_default() += 1;
        }
    }

    /// The line that is due.
    pub fn notice(&self, now: Instant) -> Option<Notice> {
        let mut unspoken = self.lock();
        let is_quiet = unspoken.said.is_some_and(|said| now < said + QUIET);
        if unspoken.reasons.is_empty() || is_quiet {
            return None;
        }
        let Unspoken {
            reasons,
            others,
            last,
            ..
        } = std::mem::take(&mut *unspoken);
        unspoken.said = Some(now);
        drop(unspoken);
        let each = reasons
            .iter()
            .map(|(reason, count)| format!("{count} with {reason}"));
        let mut each: Vec<_> = each.collect();
        if others > 0 {
            each.push(format!("{others} for other reasons"));
        }
        Some(Notice::warning(format!(
            "callers turned away: {}; the last from {last}",
            each.join(", ")
        )))
    }

    /// A few numbers and texts are guarded, which no panic can leave half-written.
    fn lock(&self) -> MutexGuard<'_, Unspoken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_told_of_at_most_once_a_second_with_what_was_wrong() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let said = |milliseconds| {
            let notice = refusals.notice(start + Duration::from_millis(milliseconds));
            notice.map_or_else(String::new, |notice| notice.text)
        };
        assert_eq!(said(0), "");
        refusals.met(Reason::NoCredential, &"unix");
        assert_eq!(
            said(1),
            "callers turned away: 1 with no credential; the last from unix"
        );
        for first in 0..20 {
            refusals.met(Reason::UnknownKey(first), &"unix");
            refusals.met(Reason::Scheme, &"10.0.0.1:7");
        }
        assert_eq!(said(900), "");
        let text = said(1001);
        assert!(text.contains("20 with an authorization that is not `Bearer KEY`"));
        assert!(text.contains("1 with an unknown key (its sha256 begins with 00000000)"));
        assert!(
            text.ends_with("13 for other reasons; the last from 10.0.0.1:7"),
            "{text}"
        );
        assert_eq!(said(5000), "");
    }
}
