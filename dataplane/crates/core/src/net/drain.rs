//! The process's way from running over draining to stopped, seen by every task that must react to it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Running,
    /// The listeners close; nothing else changes yet, but that health says NOT_SERVING. Who was told to go before could
    /// connect again to a listener that is about to close.
    Closing,
    /// No listener is left: GOAWAY; calls in flight finish.
    Draining,
    /// Everything ends now.
    Stopped,
}

/// Shared handle on the phase. Phases only go forward.
#[derive(Clone)]
pub struct Drain {
    sender: watch::Sender<Phase>,
    doors: Arc<AtomicUsize>,
    began: Arc<OnceLock<SystemTime>>,
}

/// One open listener: the drain waits for it to close, which is when this is dropped.
pub struct Door {
    drain: Drain,
}

/// One task's view of the phase.
pub struct Watch {
    next: Pin<Box<dyn Future<Output = (Phase, watch::Receiver<Phase>)> + Send>>,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            sender: watch::Sender::new(Phase::Running),
            doors: Arc::default(),
            began: Arc::default(),
        }
    }
}

impl Drain {
    pub fn phase(&self) -> Phase {
        *self.sender.borrow()
    }

    /// When the way out began; none while it runs.
    pub fn began(&self) -> Option<SystemTime> {
        self.began.get().copied()
    }

    pub fn advance(&self, phase: Phase) {
        if phase > Phase::Running {
            self.began.get_or_init(SystemTime::now);
        }
        self.sender.send_if_modified(|current| {
            let forward = phase > *current;
            if forward {
                *current = phase;
            }
            forward
        });
    }

    /// Begin the drain: `Closing`, and by itself `Draining` once every listener has closed.
    pub fn begin(&self) {
        self.advance(Phase::Closing);
        if self.doors.load(SeqCst) == 0 {
            self.advance(Phase::Draining);
        }
    }

    /// Count a listener.
    pub fn door(&self) -> Door {
        self.doors.fetch_add(1, SeqCst);
        Door {
            drain: self.clone(),
        }
    }

    pub fn watch(&self) -> Watch {
        Watch {
            next: Box::pin(next_phase(self.sender.subscribe(), Phase::Running)),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let is_last = self.drain.doors.fetch_sub(1, SeqCst) == 1;
        if is_last && self.drain.phase() >= Phase::Closing {
            self.drain.advance(Phase::Draining);
        }
    }
}

impl Watch {
    /// Wait until this phase, or a later one, is reached.
    pub async fn reached(&mut self, phase: Phase) {
        while self.changed().await < phase {}
    }

    /// Wait for the phase to move on from what this watch last returned (at first: running).
    pub async fn changed(&mut self) -> Phase {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// The same for hand-written futures.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Phase> {
        let (phase, receiver) = std::task::ready!(self.next.as_mut().poll(cx));
        self.next = Box::pin(next_phase(receiver, phase));
        Poll::Ready(phase)
    }
}

async fn next_phase(
    mut receiver: watch::Receiver<Phase>,
    seen: Phase,
) -> (Phase, watch::Receiver<Phase>) {
    // The sender ends without a stop only when its owner is gone; then everything else ends too.
    let phase = receiver
        .wait_for(|phase| *phase != seen)
        .await
        .map_or(Phase::Stopped, |phase| *phase);
    if phase == seen {
        std::future::pending::<()>().await;
    }
    (phase, receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_watch_sees_the_phase_and_phases_never_go_back() {
        let drain = Drain::default();
        drain.advance(Phase::Draining);
        drain.advance(Phase::Running);
        let mut watch = drain.watch();
        assert_eq!(watch.changed().await, Phase::Draining);
        drain.advance(Phase::Stopped);
        assert_eq!(watch.changed().await, Phase::Stopped);
        assert_eq!(drain.phase(), Phase::Stopped);
    }
    #[tokio::test]
    async fn the_calls_are_told_only_when_the_last_listener_has_closed() {
        let drain = Drain::default();
        let (one, two) = (drain.door(), drain.door());
        let mut watch = drain.watch();
        drain.begin();
        assert_eq!(watch.changed().await, Phase::Closing);
        drop(one);
        assert_eq!(drain.phase(), Phase::Closing);
        drop(two);
        watch.reached(Phase::Draining).await;
        drop(drain.door());
        assert_eq!(drain.phase(), Phase::Draining);
    }

    #[test]
    fn without_listeners_there_is_nothing_to_wait_for() {
        let drain = Drain::default();
        drop(drain.door());
        assert_eq!(drain.phase(), Phase::Running);
        drain.begin();
        assert_eq!(drain.phase(), Phase::Draining);
    }

    #[test]
    fn the_drain_began_when_it_left_running_and_not_when_it_ended() {
        let drain = Drain::default();
        drain.advance(Phase::Running);
        assert_eq!(drain.began(), None);
        drain.begin();
        let began = drain.began();
        assert!(began.is_some());
        drain.advance(Phase::Stopped);
        assert_eq!(drain.clone().began(), began);
    }
}
