//! What a drain waits for: that the listeners have closed and the calls in flight have ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::drain::{Drain, Phase};
use super::load::Load;

/// How long a drain without calls in flight still waits for callers to take their last answers and close: one that
/// hangs must not use up the whole time.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// The loads of a program's workers, on their way to nothing.
pub struct Waiting {
    pub(super) drain: Drain,
    pub(super) loads: Vec<Arc<Load>>,
    /// Told by the loads.
    pub(super) changed: Arc<Notify>,
}

// === impl Waiting ===

impl Waiting {
    /// Wait, once the drain has begun, until the listeners have closed and the calls in flight have ended. True when
    /// all ended within `limit`, and before the process was told to stop at once. Who waits in several pieces loses
    /// nothing by it: time without calls counts on.
    pub fn drained(&self, limit: Duration) -> bool {
        for load in &self.loads {
            load.watch();
        }
        // A runtime of its own, as the workers' serve the calls that are waited for. Without one nothing is waited for.
        if let Ok(runtime) = Builder::new_current_thread().enable_time().build() {
            // Whether time ran out is told by the calls that are left.
            let _ = runtime.block_on(async { timeout(limit, self.ended()).await });
        }
        !self.has_calls()
    }

    /// Ready when nothing is left to wait for.
    async fn ended(&self) {
        let (mut draining, mut stopped) = (self.drain.watch(), self.drain.watch());
        let idle = async {
            // Until then a listener may still bring connections.
            draining.reached(Phase::Draining).await;
            self.idle().await;
        };
        tokio::select! {
            () = stopped.reached(Phase::Stopped) => {}
            () = idle => {}
        }
    }

    /// Ready when there are no calls, and no connections or none that had a call within [`CLOSE_GRACE`].
    async fn idle(&self) {
        loop {
            // Before the look: what changes meanwhile is not missed.
            let changed = self.changed.notified();
            if self.has_calls() {
                changed.await;
                continue;
            }
            if self.loads.iter().all(|load| load.connections() == 0) {
                return;
            }
            let quiet_since = self.loads.iter().filter_map(|load| load.quiet_since());
            let Some(last) = quiet_since.max() else {
                continue;
            };
            let end = Instant::from_std(last) + CLOSE_GRACE;
            if Instant::now() >= end {
                return;
            }
            // Whatever woke it, the next look decides.
            let _ = timeout_at(end, changed).await;
        }
    }

    fn has_calls(&self) -> bool {
        self.loads.iter().any(|load| load.streams() > 0)
    }
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
