//! The process's way from running over draining to stopped, seen by every task that must react to it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Running,
    /// No new connections; GOAWAY; calls in flight finish.
    Draining,
    /// Everything ends now.
    Stopped,
}

/// Shared handle on the phase. Phases only go forward.
#[derive(Clone)]
pub struct Drain {
    sender: watch::Sender<Phase>,
}

/// One task's view of the phase.
pub struct Watch {
    next: Pin<Box<dyn Future<Output = (Phase, watch::Receiver<Phase>)> + Send>>,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            sender: watch::Sender::new(Phase::Running),
        }
    }
}

impl Drain {
    pub fn phase(&self) -> Phase {
        *self.sender.borrow()
    }

    pub fn advance(&self, phase: Phase) {
        self.sender.send_if_modified(|current| {
            let forward = phase > *current;
            if forward {
                *current = phase;
            }
            forward
        });
    }

    pub fn watch(&self) -> Watch {
        Watch {
            next: Box::pin(next_phase(self.sender.subscribe(), Phase::Running)),
        }
    }
}

impl Watch {
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
}
