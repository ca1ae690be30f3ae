//! What one worker has to do, counted: by it the accept task chooses a worker, and a drain sees that nothing is left.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// What one worker has to do right now.
#[derive(Default)]
pub struct Load {
    connections: AtomicUsize,
    streams: AtomicUsize,
    /// A drain waits for the last of them; until then nobody need be told.
    is_watched: AtomicBool,
    changed: Notify,
}

// === impl Load ===

impl Load {
    pub fn add_stream(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub fn remove_connection(&self) {
        self.remove(&self.connections);
    }

    pub fn remove_stream(&self) {
        self.remove(&self.streams);
    }

    /// Let [`changed`](Self::changed) be told from now on.
    pub fn watch(&self) {
        self.is_watched.store(true, Ordering::SeqCst);
    }

    /// Ready when the last stream or the last connection has gone after this call.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn remove(&self, count: &AtomicUsize) {
        // In one order with `watch`: who watches sees the count, or is told.
        if count.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_watched.load(Ordering::SeqCst) {
            self.changed.notify_waiters();
        }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }
}
