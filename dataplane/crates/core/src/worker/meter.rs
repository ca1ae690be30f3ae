//! How loaded the model is, for load reports: the busy share of the thread that runs it, and the calls that end, each
//! averaged over about a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What lies this long back counts 1/e: long enough for a batch or ten, short enough for a balancer.
const SECONDS: f64 = 1.0;

#[derive(Debug)]
pub struct Meter(Mutex<State>);

#[derive(Debug)]
struct State {
    at: Instant,
    is_busy: bool,
    /// When the model's thread last showed that it goes on.
    moved_at: Instant,
    load: Load,
}

/// What a meter shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Busy share, 0..=1.
    pub busy: f64,
    /// Calls, and failed calls, a second.
    pub rps: f64,
    pub eps: f64,
}

// === impl Meter ===

impl Meter {
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            at: now,
            is_busy: false,
            moved_at: now,
            load: Load::default(),
        }))
    }

    /// The model's thread begins to work, or to wait.
    pub fn set_busy(&self, is_busy: bool, now: Instant) {
        self.advance(now, |state| {
            state.is_busy = is_busy;
            state.moved_at = now;
        });
    }

    /// The model's thread has done with one call of those that it works on.
    pub fn move_on(&self, now: Instant) {
        self.advance(now, |state| state.moved_at = now);
    }

    /// For how long the model's thread has worked and got on with nothing.
    pub fn stuck_for(&self, now: Instant) -> Duration {
        self.advance(now, |state| match state.is_busy {
            true => now.saturating_duration_since(state.moved_at),
            false => Duration::ZERO,
        })
    }

    /// A call ended.
    pub fn count(&self, has_failed: bool, now: Instant) {
        self.advance(now, |state| {
            state.load.rps += 1.0 / SECONDS;
            state.load.eps += f64::from(has_failed) / SECONDS;
        });
    }

    pub fn load(&self, now: Instant) -> Load {
        self.advance(now, |state| state.load)
    }

    fn advance<T>(&self, now: Instant, change: impl FnOnce(&mut State) -> T) -> T {
        // A few numbers, which no panic leaves half-written.
        let state = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = (-now.saturating_duration_since(state.at).as_secs_f64() / SECONDS).exp();
        let target = f64::from(state.is_busy);
        state.at = now.max(state.at);
        state.load.busy = target + (state.load.busy - target) * kept;
        state.load.rps *= kept;
        state.load.eps *= kept;
        change(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_a_quarter_of_the_time_is_a_quarter_busy() {
        let start = Instant::now();
        let meter = Meter::new(start);
        let mut now = start;
        for _ in 0..500 {
            meter.set_busy(true, now);
            now += Duration::from_millis(5);
            meter.count(false, now);
            meter.set_busy(false, now);
            now += Duration::from_millis(15);
        }
        let load = meter.load(now);
        assert!((load.busy - 0.25).abs() < 0.01, "{load:?}");
        assert!((load.rps - 50.0).abs() < 1.0, "{load:?}");
        assert_eq!(load.eps, 0.0);
    }

    #[test]
    fn a_batch_that_is_still_running_counts_as_busy() {
        let start = Instant::now();
        let meter = Meter::new(start);
        meter.set_busy(true, start);
        assert!(meter.load(start + Duration::from_secs(5)).busy > 0.99);
    }

    #[test]
    fn a_thread_is_stuck_while_it_works_and_gets_on_with_nothing() {
        let start = Instant::now();
        let after = |s| start + Duration::from_secs(s);
        let meter = Meter::new(start);
        assert_eq!(meter.stuck_for(after(100)), Duration::ZERO);
        meter.set_busy(true, after(100));
        assert_eq!(meter.stuck_for(after(107)), Duration::from_secs(7));
        meter.move_on(after(108));
        assert_eq!(meter.stuck_for(after(109)), Duration::from_secs(1));
        meter.set_busy(false, after(110));
        assert_eq!(meter.stuck_for(after(200)), Duration::ZERO);
    }

    #[test]
    fn failures_are_counted_and_forgotten() {
        let start = Instant::now();
        let meter = Meter::new(start);
        meter.count(true, start);
        assert_eq!(meter.load(start).eps, 1.0);
        assert!(meter.load(start + Duration::from_secs(10)).eps < 0.001);
    }
}
