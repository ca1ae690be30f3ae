//! The time limits of one call, behind one timer.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::failure::{Expired, Failure, cancelled};
use super::retry;
use crate::call::messages::MIN_PROGRESS;
use crate::call::responder::Responder;

/// Limits that end a call, checked by polling.
pub struct Clock<'a> {
    timer: Pin<&'a mut Sleep>,
    deadline: Option<Instant>,
    attempt: Option<Instant>,
    idle: Option<Duration>,
    last_progress: Instant,
    stall: Duration,
    stall_at: Instant,
    moved: usize,
    /// The timer is set to the next limit. It is set late, when the call first has to wait: setting it costs.
    is_armed: bool,
}

// === impl Clock ===

impl<'a> Clock<'a> {
    /// A clock with the caller's `deadline` and the limit on stalls.
    pub fn new(
        timer: Pin<&'a mut Sleep>,
        now: Instant,
        deadline: Option<Instant>,
        stall: Duration,
    ) -> Self {
        Self {
            timer,
            deadline,
            attempt: None,
            idle: None,
            last_progress: now,
            stall,
            stall_at: now + stall,
            moved: 0,
            is_armed: false,
        }
    }

    /// Set the deadline (none for streams, which get `idle`).
    pub fn set_deadline(&mut self, deadline: Option<Instant>, idle: Option<Duration>) {
        self.deadline = deadline;
        self.idle = idle;
        self.is_armed = false;
    }

    /// Limit the attempt that starts now; `None` lifts the limit.
    pub fn set_attempt(&mut self, end: Option<Instant>) {
        if self.attempt != end {
            self.attempt = end;
            self.is_armed = false;
        }
    }

    /// When the current attempt ends at the latest.
    pub fn attempt_end(&self) -> Option<Instant> {
        [self.deadline, self.attempt].into_iter().flatten().min()
    }

    /// Which of deadline and attempt limit comes first.
    pub fn first_limit(&self) -> Expired {
        match (self.attempt, self.deadline) {
            (Some(attempt), Some(deadline)) if attempt < deadline => Expired::Attempt,
            (Some(_), None) => Expired::Attempt,
            _ => Expired::Deadline,
        }
    }

    /// Whether at least 90 % of the time from `start` to the next limit is over, or all but 5 ms of it.
    pub fn is_nearly_over(&self, start: Instant) -> bool {
        let Some(end) = self.attempt_end() else {
            return false;
        };
        retry::is_nearly_over(start.elapsed(), end.saturating_duration_since(start))
    }

    /// Wait for `future` as long as the limits allow and the caller stays; `meanwhile` is done whenever it is not ready.
    pub async fn limit<T>(
        &mut self,
        mut future: Pin<&mut impl Future<Output = T>>,
        responder: &mut Responder,
        mut meanwhile: impl FnMut(&mut Context<'_>),
    ) -> Result<T, Failure> {
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            if responder.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Failure::Caller(cancelled())));
            }
            meanwhile(cx);
            self.poll(cx, false)
                .map(|expired| Err(Failure::Expired(expired)))
        })
        .await
    }

    /// Wait between two attempts, as long as the limits allow and the caller stays.
    pub async fn pause(
        &mut self,
        pause: Duration,
        responder: &mut Responder,
        meanwhile: impl FnMut(&mut Context<'_>),
    ) -> Result<(), Failure> {
        self.set_attempt(None);
        let pause = std::pin::pin!(tokio::time::sleep(pause));
        self.limit(pause, responder, meanwhile).await
    }

    /// Bytes moved, either way.
    pub fn progress(&mut self, bytes: usize) {
        self.moved += bytes;
        if self.idle.is_some() {
            self.last_progress = Instant::now();
        }
    }

    /// Ready when a limit has run out. A lack of progress is a stall only while it is the caller that the call
    /// waits for.
    pub fn poll(&mut self, cx: &mut Context<'_>, waits_for_caller: bool) -> Poll<Expired> {
        if !self.is_armed {
            self.arm();
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if let Some(expired) = self.expired(now, waits_for_caller) {
                return Poll::Ready(expired);
            }
            self.arm();
        }
        Poll::Pending
    }

    fn expired(&mut self, now: Instant, waits_for_caller: bool) -> Option<Expired> {
        if self.deadline.is_some_and(|at| now >= at) {
            return Some(Expired::Deadline);
        }
        if self.attempt.is_some_and(|at| now >= at) {
            return Some(Expired::Attempt);
        }
        if self
            .idle
            .is_some_and(|limit| now >= self.last_progress + limit)
        {
            return Some(Expired::Idle);
        }
        if now >= self.stall_at {
            let is_stalled = waits_for_caller && self.idle.is_none() && self.moved < MIN_PROGRESS;
            self.moved = 0;
            self.stall_at = now + self.stall;
            if is_stalled {
                return Some(Expired::Stalled);
            }
        }
        None
    }

    fn arm(&mut self) {
        let mut next = self.stall_at;
        for at in [
            self.deadline,
            self.attempt,
            self.idle.map(|limit| self.last_progress + limit),
        ]
        .into_iter()
        .flatten()
        {
            next = next.min(at);
        }
        self.is_armed = true;
        if self.timer.deadline() != next {
            self.timer.as_mut().reset(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    /// What ran out, and after how many ms of paused time.
    async fn first(
        set: impl FnOnce(&mut Clock<'_>, Instant),
        waits_for_caller: bool,
    ) -> (Expired, u128) {
        let start = Instant::now();
        let mut timer = pin!(tokio::time::sleep_until(start));
        let mut clock = Clock::new(timer.as_mut(), start, None, Duration::from_millis(30_000));
        set(&mut clock, start);
        let expired = poll_fn(|cx| clock.poll(cx, waits_for_caller)).await;
        (expired, start.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_limit_ends_the_wait() {
        let ms = Duration::from_millis;
        let deadline =
            |clock: &mut Clock<'_>, start| clock.set_deadline(Some(start + ms(500)), None);
        assert_eq!(first(deadline, false).await, (Expired::Deadline, 500));
        let attempt = |clock: &mut Clock<'_>, start| {
            clock.set_deadline(Some(start + ms(500)), None);
            clock.set_attempt(Some(start + ms(300)));
        };
        assert_eq!(first(attempt, false).await, (Expired::Attempt, 300));
        let idle = |clock: &mut Clock<'_>, _| clock.set_deadline(None, Some(ms(700)));
        assert_eq!(first(idle, true).await, (Expired::Idle, 700));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_caller_that_is_waited_for_can_stall() {
        let minute = |clock: &mut Clock<'_>, start| {
            clock.set_deadline(Some(start + Duration::from_secs(60)), None)
        };
        assert_eq!(first(minute, true).await, (Expired::Stalled, 30_000));
        assert_eq!(first(minute, false).await, (Expired::Deadline, 60_000));
        let busy = |clock: &mut Clock<'_>, start: Instant| {
            clock.set_deadline(Some(start + Duration::from_secs(40)), None);
            clock.progress(MIN_PROGRESS);
        };
        assert_eq!(first(busy, true).await, (Expired::Deadline, 40_000));
    }
}
