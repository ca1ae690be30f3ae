//! Calls on their way from the front's thread to Python's. The front pushes and never waits; Python takes
//! batches and waits for the first call only, so a lone request waits for no batch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::codec::{Meta, Payload};
use super::reply::{Envelope, ReplySlot, Waiting, expired};
use crate::error::{Error, ErrorKind};

/// A decoded request and the slot that its answer goes to.
#[derive(Debug)]
pub struct Call {
    pub payload: Payload,
    /// The `answer` part has moved into the slot.
    pub meta: Meta,
    /// Path of the gRPC method.
    pub method: &'static str,
    pub request_id: HeaderValue,
    /// What tells it from others; 0 where nobody asks ([`super::hand`]).
    pub fingerprint: u64,
    pub slot: ReplySlot,
    /// When it came into the queue.
    pub queued: Instant,
}

/// A bounded queue of calls, shared between threads.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    capacity: usize,
    /// Callers that went while their call was not yet answered. Not exact at any one moment; it only says
    /// whether looking for calls to throw out is worth the time.
    abandoned: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    calls: VecDeque<Call>,
    is_closed: bool,
}

// === impl Queue ===

impl Queue {
    pub fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
            capacity,
            abandoned: Arc::default(),
        }
    }

    /// Make the two ends of an answer to a call of this queue.
    pub fn slot(
        &self,
        deadline: Instant,
        envelope: impl Into<Envelope>,
        max_bytes: usize,
    ) -> (ReplySlot, Waiting) {
        ReplySlot::new(deadline, envelope.into(), max_bytes, self.abandoned.clone())
    }

    /// Append a call.
    ///
    /// # Errors
    /// Shed when full, Draining when closed; the call's slot has then been answered INTERNAL, to be ignored.
    pub fn push(&self, call: Call) -> Result<(), Error> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Error::new(
                ErrorKind::Draining,
                "the model server is stopping",
            ));
        }
        if state.calls.len() >= self.capacity && self.abandoned.load(Ordering::Relaxed) > 0 {
            state.calls.retain(|call| !call.slot.is_abandoned());
        }
        if state.calls.len() >= self.capacity {
            let text = format!(
                "{} requests wait for the model (max_queue); try again later",
                self.capacity
            );
            return Err(Error::new(ErrorKind::Shed, text));
        }
        state.calls.push_back(call);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Wait up to `timeout` for calls and take at most `max` of them, oldest first. Calls whose caller has
    /// gone are skipped, those whose deadline has passed are answered DEADLINE_EXCEEDED.
    ///
    /// `None` on time-out, or at once when the queue is closed and empty.
    pub fn next_batch(&self, max: usize, timeout: Duration) -> Option<Vec<Call>> {
        let give_up = Instant::now().checked_add(timeout);
        let mut state = self.lock();
        loop {
            let batch = take_live(&mut state.calls, max, Instant::now());
            if !batch.is_empty() {
                return Some(batch);
            }
            if state.is_closed {
                return None;
            }
            let left = give_up.map_or(timeout, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            let waited = self.arrived.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Take no more calls; those that wait can still be taken.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_all();
    }

    /// Close, and answer what waits: nobody will take it any more.
    pub fn abort(&self) {
        self.close();
        let calls = std::mem::take(&mut self.lock().calls);
        for call in calls {
            call.slot
                .fail(Error::new(ErrorKind::Draining, "the model server has stopped").into());
        }
    }

    /// Calls that wait.
    pub fn len(&self) -> usize {
        self.lock().calls.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock leaves the state half changed, so a panic there poisons nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_live(calls: &mut VecDeque<Call>, max: usize, now: Instant) -> Vec<Call> {
    let mut batch = Vec::new();
    while batch.len() < max
        && let Some(call) = calls.pop_front()
    {
        if call.slot.is_abandoned() {
            continue;
        }
        if call.slot.deadline() <= now {
            call.slot.fail(expired());
        } else {
            batch.push(call);
        }
    }
    batch
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
