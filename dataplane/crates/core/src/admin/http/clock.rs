//! Numbers the seconds since the start, also those in which the machine slept.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

const SECOND: Duration = Duration::from_secs(1);

/// Ticks once a second; ticks that came too late are left out.
pub struct Seconds {
    started: Instant,
    slept_before: Duration,
    interval: Interval,
}

// === impl Seconds ===

impl Seconds {
    pub fn new() -> Self {
        let started = Instant::now();
        let mut interval = interval_at(started + SECOND, SECOND);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self {
            started,
            slept_before: slept(),
            interval,
        }
    }

    /// Wait for the end of the next second; return its number, from 1 on.
    pub async fn next(&mut self) -> u64 {
        self.interval.tick().await;
        self.started.elapsed().as_secs() + slept().saturating_sub(self.slept_before).as_secs()
    }
}

/// How long the machine has slept since its start: the clock that timers use stands still then.
fn slept() -> Duration {
    let read = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    let awake = read(ClockId::CLOCK_MONOTONIC);
    // Read second, it is never the smaller one.
    read(ClockId::CLOCK_BOOTTIME).saturating_sub(awake)
}
