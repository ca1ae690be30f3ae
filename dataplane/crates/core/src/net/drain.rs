//! The process's way from running over draining to stopped, seen by every task that must react to it.

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
    receiver: watch::Receiver<Phase>,
    seen: Phase,
}

impl Default for Drain {
    fn default() -> Self {
        Self { sender: watch::Sender::new(Phase::Running) }
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
        Watch { receiver: self.sender.subscribe(), seen: Phase::Running }
    }
}

impl Watch {
    /// Wait for the phase to move on from what this watch last returned (at first: running).
    pub async fn changed(&mut self) -> Phase {
        loop {
            let phase = *self.receiver.borrow_and_update();
            if phase != self.seen {
                self.seen = phase;
                return phase;
            }
            if self.receiver.changed().await.is_err() {
                // The owner is gone without a stop: nothing more can change, so end.
                self.seen = Phase::Stopped;
                return Phase::Stopped;
            }
        }
    }
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
