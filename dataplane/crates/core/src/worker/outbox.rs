//! Answers on their way from Python's thread to the front's, which wakes once for all that come together, and so
//! writes those of one connection together.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use crate::grpc::status::Status;

/// A framed message, or why there is none.
pub type Reply = Result<Bytes, Status>;

/// Where the time of a call went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// It waited for the model.
    pub queue: Duration,
    /// The model, and the hooks around it, worked on its batch.
    pub compute: Duration,
    /// As far as Python has told.
    pub stages: Stages,
}

/// The time of a call, or of the calls that it was joined with, from the queue to the answer; all 0 where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    pub preprocess: Duration,
    pub model: Duration,
    pub postprocess: Duration,
}

/// Shared between the two threads.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<Vec<Answered>>,
    arrived: Notify,
}

/// An answer, and the call that waits for it.
#[derive(Debug)]
pub struct Answered {
    pub caller: oneshot::Sender<(Reply, Times)>,
    pub reply: Reply,
    pub times: Times,
}

// === impl Outbox ===

impl Outbox {
    /// Let answers go out.
    pub fn send(&self, answers: impl IntoIterator<Item = Answered>) {
        let mut waiting = self.lock();
        let is_awake = !waiting.is_empty();
        waiting.extend(answers);
        let is_news = !is_awake && !waiting.is_empty();
        drop(waiting);
        if is_news {
            self.arrived.notify_one();
        }
    }

    /// Give answers to the calls that wait for them, in the thread of these, for as long as that lives.
    pub async fn deliver(&self) {
        loop {
            self.arrived.notified().await;
            let answers = std::mem::take(&mut *self.lock());
            for answered in answers {
                answered.deliver();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Answered>> {
        // A list is never half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Answered ===

impl Answered {
    pub fn deliver(self) {
        // Where the caller has gone, nobody reads it.
        let _ = self.caller.send((self.reply, self.times));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn answers_that_are_sent_together_and_one_after_the_other_reach_their_calls() {
        let outbox = Arc::new(Outbox::default());
        let delivering = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.deliver().await }
        });
        for count in [0, 1, 3, 1] {
            let (callers, waiting): (Vec<_>, Vec<_>) =
                (0..count).map(|_| oneshot::channel()).unzip();
            let answer = |(index, caller)| Answered {
                caller,
                reply: Ok(Bytes::from(vec![index as u8])),
                times: Times::default(),
            };
            outbox.send(callers.into_iter().enumerate().map(answer));
            for (index, receiver) in waiting.into_iter().enumerate() {
                let limit = Duration::from_secs(10);
                let got = tokio::time::timeout(limit, receiver).await;
                let (reply, _) = got.expect("in time").expect("an answer");
                assert_eq!(reply.expect("no error"), vec![index as u8]);
            }
        }
        delivering.abort();
    }
}
