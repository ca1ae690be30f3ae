//! Which endpoints went down, came back or have another health since the operator was last told. Their state is compared with what was said
//! last, now and then, instead of gathered from events: the request path does nothing for it, and nothing that waits can
//! grow or get lost. An endpoint that flaps gets a line now and then, with the number of changes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::address::Address;
use super::cluster::Cluster;
use crate::notice::Notice;

/// At most one line of an endpoint in this time.
const QUIET: Duration = Duration::from_secs(10);
/// Most lines of one look: a fleet that goes at once does not flood the log.
const MOST_LINES: usize = 20;

/// What was said of each endpoint, by its address.
#[derive(Default)]
pub struct Watch {
    told: Mutex<FxHashMap<u64, Told>>,
}

struct Told {
    condition: Condition,
    /// When a line was last written; none before the first.
    at: Option<Instant>,
    /// The address's count of changes at that time.
    changes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Up,
    /// Its calls fail: its weight is at its least in a cluster.
    Failing,
    Down,
}

/// What an endpoint is like at a look.
struct Seen<'a> {
    address: &'a str,
    condition: Condition,
    reason: String,
    changes: u64,
}

// === impl Watch ===

impl Watch {
    /// The lines that are due, of the addresses and clusters of the current state.
    pub fn notices(
        &self,
        addresses: &[Arc<Address>],
        clusters: &[Arc<Cluster>],
        now: Instant,
    ) -> Vec<Notice> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let weak = weak(clusters);
        let mut next = FxHashMap::default();
        let mut notices = Vec::new();
        let mut unsaid = 0;
        for address in addresses {
            let mut before = told.remove(&address.id).unwrap_or(Told {
                condition: Condition::Up,
                at: None,
                changes: 0,
            });
            let (is_live, changes, reason) = address.seen();
            let (condition, reason) = match weak.get(&address.id) {
                _ if address.is_pending() => (before.condition, String::new()),
                _ if !is_live => (Condition::Down, reason),
                Some((cluster, true)) => (Condition::Failing, (*cluster).to_owned()),
                // Some of its calls succeed again, which is no reason to say that it is well.
                Some(_) if before.condition == Condition::Failing => {
                    (Condition::Failing, String::new())
                }
                _ => (Condition::Up, String::new()),
            };
            let seen = Seen {
                address: &address.text,
                condition,
                reason,
                changes,
            };
            if notices.len() < MOST_LINES {
                notices.extend(before.look(&seen, now));
            } else {
                unsaid += usize::from(before.look(&seen, now).is_some());
            }
            next.insert(address.id, before);
        }
        *told = next;
        for cluster in clusters {
            for endpoint in cluster.members() {
                let Some(change) = endpoint.health.news(now) else {
                    continue;
                };
                if notices.len() >= MOST_LINES {
                    unsaid += 1;
                    continue;
                }
                let level = if change.to.is_well() {
                    Notice::info
                } else {
                    Notice::warning
                };
                notices.push(level(format!(
                    "endpoint {} of cluster {}: health {change}",
                    endpoint.address.text, cluster.name
                )));
            }
        }
        if unsaid > 0 {
            notices.push(Notice::warning(format!(
                "{unsaid} more endpoints went down, came back or have another health: /status shows them"
            )));
        }
        notices
    }
}

/// Address -> a cluster in which its weight is below the full one, and whether it is at its least there.
fn weak(clusters: &[Arc<Cluster>]) -> FxHashMap<u64, (&str, bool)> {
    let mut weak: FxHashMap<u64, (&str, bool)> = FxHashMap::default();
    for cluster in clusters {
        for (address, is_least) in cluster.weak() {
            let row = weak.entry(address).or_insert((&cluster.name, is_least));
            if is_least {
                *row = (&cluster.name, true);
            }
        }
    }
    weak
}

// === impl Told ===

impl Told {
    /// The line that is due, after which it counts as told.
    fn look(&mut self, seen: &Seen<'_>, now: Instant) -> Option<Notice> {
        let changes = seen.changes.saturating_sub(self.changes);
        // The first connect is a change, too.
        let is_first = self.at.is_none() && self.changes == 0;
        let is_news = seen.condition != self.condition || (!is_first && changes >= 2);
        if !is_news {
            if is_first {
                self.changes = seen.changes;
            }
            return None;
        }
        if self.at.is_some_and(|at| now < at + QUIET) {
            return None;
        }
        let more = match changes {
            2.. if self.at.is_some() => format!(" ({changes} changes since the last line)"),
            _ => String::new(),
        };
        let Seen {
            address, reason, ..
        } = seen;
        let notice = match seen.condition {
            Condition::Up => Notice::info(format!("endpoint {address} is up again{more}")),
            Condition::Failing => Notice::warning(format!(
                "endpoint {address} fails its calls: in cluster {reason} it gets next to none until one succeeds{more}"
            )),
            Condition::Down => {
                Notice::warning(format!("endpoint {address} is down: {reason}{more}"))
            }
        };
        *self = Self {
            condition: seen.condition,
            at: Some(now),
            changes: seen.changes,
        };
        Some(notice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(told: &mut Told, condition: Condition, changes: u64, at: Instant) -> String {
        let seen = Seen {
            address: "a:1",
            condition,
            reason: "refused".to_owned(),
            changes,
        };
        told.look(&seen, at)
            .map_or(String::new(), |notice| notice.text)
    }

    fn unknown() -> Told {
        Told {
            condition: Condition::Up,
            at: None,
            changes: 0,
        }
    }

    #[test]
    fn an_endpoint_that_flaps_gets_a_line_in_ten_seconds_with_the_number_of_its_changes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut told = unknown();
        assert_eq!(look(&mut told, Condition::Up, 1, at(0)), "");
        let down = "endpoint a:1 is down: refused";
        assert_eq!(look(&mut told, Condition::Down, 2, at(1)), down);
        for second in 2..11 {
            assert_eq!(look(&mut told, Condition::Up, second + 1, at(second)), "");
        }
        let up = "endpoint a:1 is up again (10 changes since the last line)";
        assert_eq!(look(&mut told, Condition::Up, 12, at(11)), up);
        assert_eq!(look(&mut told, Condition::Up, 12, at(60)), "");
    }

    #[test]
    fn one_that_was_away_between_two_looks_is_told_of() {
        let start = Instant::now();
        let mut told = unknown();
        assert_eq!(look(&mut told, Condition::Up, 1, start), "");
        let text = look(&mut told, Condition::Up, 3, start);
        assert!(text.starts_with("endpoint a:1 is up again"), "{text}");
    }

    #[test]
    fn one_that_is_down_from_the_start_is_told_of_and_one_that_comes_up_is_not() {
        let start = Instant::now();
        let text = look(&mut unknown(), Condition::Down, 0, start);
        assert_eq!(text, "endpoint a:1 is down: refused");
        assert_eq!(look(&mut unknown(), Condition::Up, 1, start), "");
    }
}
