//! Bounds on connections: how many there may be, in all and of one IP address, and when a connection whose
//! streams are reset as fast as they open must go (CVE-2023-44487).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::stats::RefusedReason;

/// Streams opened within [`RESET_WINDOW`] from which on their resets are judged; Envoy's number.
const RESET_LEAST_STREAMS: u32 = 500;

const RESET_WINDOW: Duration = Duration::from_secs(1);

/// Resolution of the window: streams opened within the same slot are forgotten together.
const RESET_SLOT: Duration = Duration::from_millis(100);

/// Admits connections. The accept task asks; workers give back by dropping guards.
pub struct ConnectionLimiter {
    counts: Arc<Mutex<Counts>>,
    most: usize,
    most_per_ip: usize,
}

#[derive(Default)]
struct Counts {
    total: usize,
    /// Only addresses with connections are kept.
    by_ip: FxHashMap<IpAddr, usize>,
}

/// One admitted connection, until it is dropped.
pub struct ConnectionGuard {
    counts: Arc<Mutex<Counts>>,
    ip: Option<IpAddr>,
}

/// Watches one connection for rapid resets: more than half of at least 500 streams opened within 1 s were reset
/// by the caller before our response headers. Not over the connection's life: calls that time out are reset too,
/// and a healthy caller of a slow model would add up.
#[derive(Default)]
pub struct ResetGuard {
    slots: VecDeque<Slot>,
    /// Of all slots: mostly none, and then there is nothing to judge.
    resets: u32,
}

struct Slot {
    start: Instant,
    opened: u32,
    reset: u32,
}

// === impl ConnectionLimiter ===

impl ConnectionLimiter {
    pub fn new(most: usize, most_per_ip: usize) -> Self {
        Self {
            counts: Arc::default(),
            most,
            most_per_ip,
        }
    }

    /// Count one more connection; `None` for a unix socket, which only the total limits.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn admit(&self, ip: Option<IpAddr>) -> Result<ConnectionGuard, RefusedReason> {
        // ::ffff:10.0.0.1, as a dual-stack socket shows it, is 10.0.0.1.
        let ip = ip.map(|ip| ip.to_canonical());
        let mut counts = lock(&self.counts);
        if counts.total >= self.most {
            return Err(RefusedReason::MaxConnections);
        }
        if let Some(ip) = ip {
            let count = counts.by_ip.get(&ip).copied().unwrap_or(0);
            if count >= self.most_per_ip {
                return Err(RefusedReason::MaxConnectionsPerIp);
            }
            counts.by_ip.insert(ip, count + 1);
        }
        counts.total += 1;
        Ok(ConnectionGuard {
            counts: self.counts.clone(),
            ip,
        })
    }

    /// Connections admitted now.
    pub fn count(&self) -> usize {
        lock(&self.counts).total
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.total -= 1;
        if let Some(ip) = self.ip
            && let Some(count) = counts.by_ip.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_ip.remove(&ip);
            }
        }
    }
}

/// Nothing that runs under the lock panics, so what it guards is whole even if another thread died.
fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl ResetGuard ===

impl ResetGuard {
    /// A stream was opened now.
    pub fn opened(&mut self, now: Instant) {
        self.forget_before(now);
        match self.slots.back_mut() {
            Some(slot) if now < slot.start + RESET_SLOT => slot.opened += 1,
            _ => self.slots.push_back(Slot {
                start: now,
                opened: 1,
                reset: 0,
            }),
        }
    }

    /// A stream that was opened at `opened` was reset now, by its caller and before our response headers.
    ///
    /// Leave out a reset that came because the stream's own deadline was over.
    pub fn reset(&mut self, opened: Instant, now: Instant) {
        self.forget_before(now);
        if let Some(slot) = self
            .slots
            .iter_mut()
            .rev()
            .find(|slot| slot.start <= opened)
        {
            slot.reset += 1;
            self.resets += 1;
        }
    }

    /// Whether the connection must be closed.
    pub fn exceeded(&self) -> bool {
        if self.resets == 0 {
            return false;
        }
        let opened = self.slots.iter().map(|slot| slot.opened).sum::<u32>();
        opened >= RESET_LEAST_STREAMS && self.resets * 2 > opened
    }

    fn forget_before(&mut self, now: Instant) {
        while let Some(slot) = self.slots.front()
            && now >= slot.start + RESET_WINDOW
        {
            self.resets -= slot.reset;
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
