//! Turns of connects to addresses that are down, for the whole process: however many of them calls wait for, and in
//! however many workers, only so many connects are begun in a second.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// Between two turns: 1,000 refused connects in a second cost a few percent of a core; where some ten addresses are down,
/// each still has as many as it can use.
const INTERVAL: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub struct Turns {
    started: Instant,
    /// The first free turn, in nanoseconds since the start.
    next: AtomicU64,
}

// === impl Turns ===

impl Turns {
    pub fn new(now: Instant) -> Self {
        Self {
            started: now,
            next: AtomicU64::new(0),
        }
    }

    /// Take the next turn; it is when a connect may begin. One that is not used is lost.
    pub fn take(&self, now: Instant) -> Instant {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(now.saturating_duration_since(self.started));
        let turn = |next: u64| next.max(now);
        let after = |next: u64| Some(turn(next).saturating_add(nanos(INTERVAL)));
        let next = self.next.fetch_update(Relaxed, Relaxed, after);
        // It never fails: there is always a turn after.
        self.started + Duration::from_nanos(turn(next.unwrap_or(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_turns_take_a_second_and_one_after_a_pause_is_at_once() {
        let start = Instant::now();
        let turns = Turns::new(start);
        let taken: Vec<_> = (0..1001).map(|_| turns.take(start)).collect();
        assert_eq!(taken[0], start);
        assert!(taken.is_sorted());
        assert_eq!(taken[1000], start + Duration::from_secs(1));
        let later = start + Duration::from_secs(5);
        assert_eq!(turns.take(later), later);
        assert_eq!(turns.take(later), later + INTERVAL);
    }

    #[test]
    fn threads_share_the_turns() {
        let start = Instant::now();
        let turns = Turns::new(start);
        let mut taken: Vec<_> = std::thread::scope(|scope| {
            let take = || (0..500).map(|_| turns.take(start)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads
                .into_iter()
                .flat_map(|it| it.join().expect("no panic"))
                .collect()
        });
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 2000);
        assert_eq!(taken[1999], start + 1999 * INTERVAL);
    }
}
