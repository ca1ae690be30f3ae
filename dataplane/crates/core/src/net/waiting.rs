//! What a drain waits for: that the listeners have closed and the calls in flight have ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::{Instant, timeout, timeout_at};

use super::drain::Phase;
use super::load::Load;
use super::server::Server;

/// How long a drain without calls in flight still waits for callers to take their last answers and close: one that
/// hangs must not use up the whole time.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// The loads of a program's workers, on their way to nothing.
pub struct Waiting {
    pub(super) server: Arc<Server>,
    pub(super) loads: Vec<Arc<Load>>,
}

// === impl Waiting ===

impl Waiting {
    /// Wait, once the drain has begun, until the listeners have closed and the calls in flight have ended. True when
    /// all ended within `limit`, and before the process was told to stop at once.
    pub fn drained(&self, limit: Duration) -> bool {
        for load in &self.loads {
            load.watch();
        }
        // A runtime of its own, as the workers' serve the calls that are waited for. Without one nothing is waited for.
        if let Ok(runtime) = Builder::new_current_thread().enable_time().build() {
            // Whether time ran out is told by the calls that are left.
            let _ = runtime.block_on(async { timeout(limit, self.quiet()).await });
        }
        self.loads.iter().all(|load| load.streams() == 0)
    }

    /// Ready when nothing is left to wait for.
    async fn quiet(&self) {
        let (mut draining, mut stopped) = (self.server.drain.watch(), self.server.drain.watch());
        // Until then a listener may still bring connections.
        draining.reached(Phase::Draining).await;
        let idle = async {
            for load in &self.loads {
                idle(load).await;
            }
        };
        tokio::select! {
            () = stopped.reached(Phase::Stopped) => {}
            () = idle => {}
        }
    }
}

/// Ready when a worker has no connections, or has had no calls for [`CLOSE_GRACE`].
async fn idle(load: &Load) {
    let mut quiet_since = None;
    loop {
        let changed = load.changed();
        if load.connections() == 0 {
            return;
        }
        if load.streams() > 0 {
            quiet_since = None;
            changed.await;
            continue;
        }
        let end = *quiet_since.get_or_insert_with(Instant::now) + CLOSE_GRACE;
        if timeout_at(end, changed).await.is_err() && load.streams() == 0 {
            return;
        }
    }
}
