//! Calls on their way from the front's thread to Python's. The front pushes and never waits; Python takes batches, and
//! the tuner says when. A call whose caller goes, or whose time is over, leaves at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::codec::{Meta, Payload};
use super::reply::{Envelope, Leave, ReplySlot, Waiting, expired};
use super::tuner::{Batching, Pending, Plan, Served, Tuner};
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::{Priority, RequestId};

/// A decoded request and the slot that its answer goes to.
#[derive(Debug)]
pub struct Call {
    pub payload: Payload,
    /// The `answer` part has moved into the slot.
    pub meta: Meta,
    /// Path of the gRPC method.
    pub method: &'static str,
    pub request_id: RequestId,
    pub priority: Priority,
    /// Calls of one group may be joined ([`super::group`]).
    pub group: u64,
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
    next_id: AtomicU64,
    /// Calls that left before they were handed out: their callers had gone, or their deadlines had passed.
    left: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// By priority, the highest first; each oldest first.
    calls: [VecDeque<Call>; Priority::COUNT],
    tuner: Tuner,
    /// Reused for each plan.
    pending: Vec<Pending>,
    /// Threads that wait for calls: to wake nobody is a system call, too.
    waiting: usize,
    is_closed: bool,
}

// === impl Queue ===

impl Queue {
    pub fn new(capacity: usize, batching: Batching) -> Self {
        let state = State {
            calls: Default::default(),
            tuner: Tuner::new(batching),
            pending: Vec::new(),
            waiting: 0,
            is_closed: false,
        };
        Self {
            state: Mutex::new(state),
            arrived: Condvar::new(),
            capacity,
            next_id: AtomicU64::new(0),
            left: AtomicU64::new(0),
        }
    }

    /// Make the two ends of an answer to a call of this queue.
    pub fn slot(
        self: &Arc<Self>,
        deadline: Instant,
        envelope: impl Into<Envelope>,
        max_bytes: usize,
    ) -> (ReplySlot, Waiting) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        ReplySlot::new(id, deadline, envelope.into(), max_bytes, self.clone())
    }

    /// Append a call. Where the queue is full, the newest call of a lower priority makes room.
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
        let mut displaced = None;
        if state.len() >= self.capacity {
            let lower = &mut state.calls[call.priority as usize + 1..];
            displaced = lower.iter_mut().rev().find_map(VecDeque::pop_back);
            if displaced.is_none() {
                return Err(self.full());
            }
        }
        state.tuner.arrived(call.queued, call.group);
        state.calls[call.priority as usize].push_back(call);
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.arrived.notify_one();
        }
        if let Some(displaced) = displaced {
            displaced.slot.fail(self.full().into());
        }
        Ok(())
    }

    /// Wait up to `timeout` for calls, and take those that are to go to the model together, at most `max` of them.
    /// Calls whose caller has gone are skipped, those whose deadline has passed are answered DEADLINE_EXCEEDED.
    ///
    /// `None` on time-out, or at once when the queue is closed and empty.
    pub fn next_batch(&self, max: usize, timeout: Duration) -> Option<Vec<Call>> {
        let give_up = Instant::now().checked_add(timeout);
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            state.drop_dead(now, &self.left);
            let mut wake = give_up;
            match state.plan(now, max) {
                Some(Plan::Take(positions)) => return Some(state.take(&positions)),
                Some(Plan::Hold(until)) => wake = wake.map(|end| end.min(until)).or(Some(until)),
                None if state.is_closed => return None,
                None => {}
            }
            let now = Instant::now();
            if give_up.is_some_and(|end| end <= now) {
                return None;
            }
            let left = wake.map_or(timeout, |end| end.saturating_duration_since(now));
            state.waiting += 1;
            let waited = self.arrived.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
    }

    /// Say how long a batch that was taken kept the model busy.
    pub fn served(&self, batch: Served, took: Duration) {
        self.lock().tuner.served(batch, took);
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
        for call in calls.into_iter().flatten() {
            call.slot
                .fail(Error::new(ErrorKind::Draining, "the model server has stopped").into());
        }
    }

    /// Calls that wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Calls that left before they were handed out.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    fn full(&self) -> Error {
        let text = format!(
            "{} requests wait for the model (max_queue); try again later",
            self.capacity
        );
        Error::new(ErrorKind::Shed, text)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock leaves the state half changed, so a panic there poisons nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave for Queue {
    fn leave(&self, id: u64) {
        let mut state = self.lock();
        let mut gone = None;
        for calls in &mut state.calls {
            if let Some(position) = calls.iter().position(|call| call.slot.id() == id) {
                gone = calls.remove(position);
                break;
            }
        }
        drop(state);
        if gone.is_some() {
            self.left.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// === impl State ===

impl State {
    fn len(&self) -> usize {
        self.calls.iter().map(VecDeque::len).sum()
    }

    fn drop_dead(&mut self, now: Instant, left: &AtomicU64) {
        for calls in &mut self.calls {
            let is_dead = |call: &Call| call.slot.is_abandoned() || call.slot.deadline() <= now;
            if !calls.iter().any(is_dead) {
                continue;
            }
            let (dead, live): (VecDeque<Call>, VecDeque<Call>) = calls.drain(..).partition(is_dead);
            *calls = live;
            left.fetch_add(dead.len() as u64, Ordering::Relaxed);
            for call in dead {
                call.slot.fail(expired());
            }
        }
    }

    /// `None` where nothing waits.
    fn plan(&mut self, now: Instant, max: usize) -> Option<Plan> {
        self.pending.clear();
        let pending = |call: &Call| Pending {
            rows: call.payload.rows(),
            group: call.group,
            arrived: call.queued,
            deadline: call.slot.deadline(),
        };
        self.pending
            .extend(self.calls.iter().flatten().map(pending));
        if self.pending.is_empty() {
            return None;
        }
        let plan = self.tuner.plan(now, &self.pending, max);
        let all = || Plan::Take((0..self.pending.len().min(max)).collect());
        Some(if self.is_closed && matches!(plan, Plan::Hold(_)) {
            all()
        } else {
            plan
        })
    }

    /// Take out the calls at ascending positions.
    fn take(&mut self, positions: &[usize]) -> Vec<Call> {
        let mut batch = Vec::with_capacity(positions.len());
        let mut wanted = positions.iter().copied().peekable();
        let mut begins = 0;
        for calls in &mut self.calls {
            let ends = begins + calls.len();
            let mut removed = 0;
            while let Some(position) = wanted.next_if(|&position| position < ends) {
                batch.extend(calls.remove(position - begins - removed));
                removed += 1;
            }
            begins = ends;
        }
        batch
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
