//! What one worker has to do, counted: by it the accept task chooses a worker, and a drain sees that nothing is left.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// What one worker has to do right now.
#[derive(Default)]
pub struct Load {
    connections: AtomicUsize,
    streams: AtomicUsize,
    /// Since when a drain waits; until then nobody need be told.
    watched_since: OnceLock<Instant>,
    is_watched: AtomicBool,
    /// When the last stream ended, in ms since then.
    quiet_ms: AtomicU64,
    /// Told when the last stream or the last connection has gone.
    changed: Arc<Notify>,
}

// === impl Load ===

impl Load {
    /// `changed` is told, once it is watched, when the last stream or the last connection has gone.
    pub fn new(changed: Arc<Notify>) -> Self {
        Self {
            changed,
            ..Self::default()
        }
    }

    pub fn add_stream(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub fn remove_stream(&self) {
        // In one order with `watch`: who watches sees the count, or is told.
        if self.streams.fetch_sub(1, Ordering::SeqCst) == 1
            && self.is_watched.load(Ordering::SeqCst)
            && let Some(since) = self.watched_since.get()
        {
            let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.quiet_ms.store(ms, Ordering::SeqCst);
            self.changed.notify_waiters();
        }
    }

    pub fn add_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub fn remove_connection(&self) {
        if self.connections.fetch_sub(1, Ordering::SeqCst) == 1
            && self.is_watched.load(Ordering::SeqCst)
        {
            self.changed.notify_waiters();
        }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    /// Tell of the end of things from now on; what is watched already goes on being.
    pub fn watch(&self) {
        self.watched_since.get_or_init(Instant::now);
        self.is_watched.store(true, Ordering::SeqCst);
    }

    /// When its last stream ended, or when it began to be watched; none while it has streams, or is not watched.
    pub fn quiet_since(&self) -> Option<Instant> {
        let since = self.watched_since.get().filter(|_| self.streams() == 0)?;
        Some(*since + Duration::from_millis(self.quiet_ms.load(Ordering::SeqCst)))
    }
}
