//! The answer's way back from Python to the call that waits for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::codec::oip::{self, InferEnvelope, InferOutput};
use super::codec::{self, Answer};
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
}

/// What answers a call, by its protocol.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    Seldon(Answer<'a>),
    Infer(&'a [InferOutput<'a>]),
}

/// What of a request its answer brings back, by protocol.
#[derive(Clone, Debug)]
pub enum Envelope {
    /// Encoded content of the answer's meta.
    Seldon(Vec<u8>),
    Infer(InferEnvelope),
}

/// Answers one call, once. Dropped before that, it answers INTERNAL: never silence.
#[derive(Debug)]
pub struct ReplySlot {
    sender: Option<oneshot::Sender<(Reply, Times)>>,
    abandoned: Arc<AtomicUsize>,
    deadline: Instant,
    /// When it was taken out of the queue, and how long it had waited there.
    taken: Option<(Instant, Duration)>,
    envelope: Envelope,
    max_bytes: usize,
    /// Gone with the slot: Python has it no longer in its hand.
    in_hand: Option<Arc<()>>,
}

/// The slots of a batch, each to be taken once. Dropping it answers the rest INTERNAL.
#[derive(Debug)]
pub struct Slots {
    slots: Mutex<Vec<Option<ReplySlot>>>,
}

/// The waiting side of a [`ReplySlot`].
#[derive(Debug)]
pub struct Waiting {
    receiver: oneshot::Receiver<(Reply, Times)>,
    abandoned: Arc<AtomicUsize>,
    has_ended: bool,
    times: Times,
}

/// The deadline passed before there was an answer.
pub fn expired() -> Status {
    Status::late("the deadline passed before the model answered")
}

// === impl ReplySlot ===

impl ReplySlot {
    /// A slot and its waiting side. `abandoned` counts callers that have gone while their call waits in a
    /// queue.
    pub(super) fn new(
        deadline: Instant,
        envelope: Envelope,
        max_bytes: usize,
        abandoned: Arc<AtomicUsize>,
    ) -> (Self, Waiting) {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting {
            receiver,
            abandoned: abandoned.clone(),
            has_ended: false,
            times: Times::default(),
        };
        (
            Self {
                sender: Some(sender),
                abandoned,
                deadline,
                taken: None,
                envelope,
                max_bytes,
                in_hand: None,
            },
            waiting,
        )
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// It leaves the queue, where it has `waited`.
    pub fn take_up(&mut self, now: Instant, waited: Duration) {
        self.taken = Some((now, waited));
    }

    /// Keep a token for as long as it is not answered.
    pub fn hold(&mut self, token: Arc<()>) {
        self.in_hand = Some(token);
    }

    /// Whether the caller has gone: nobody would read an answer.
    pub fn is_abandoned(&self) -> bool {
        self.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Encode and send an answer; one that is larger than a message may be becomes RESOURCE_EXHAUSTED, one
    /// of the other protocol INTERNAL. `names` become Seldon's data.names.
    pub fn answer<'a>(self, content: impl Into<Content<'a>>, names: &[String]) {
        let reply = match (content.into(), &self.envelope) {
            (Content::Seldon(answer), Envelope::Seldon(meta)) => {
                codec::encode(&answer, names, meta, self.max_bytes).map_err(Status::from)
            }
            (Content::Infer(outputs), Envelope::Infer(envelope)) => {
                oip::encode(outputs, envelope, self.max_bytes).map_err(Status::from)
            }
            _ => Err(Status::internal()),
        };
        self.send(reply);
    }

    pub fn fail(self, status: Status) {
        self.send(Err(status));
    }

    fn send(mut self, reply: Reply) {
        if let Some(sender) = self.sender.take() {
            self.deliver(sender, reply);
        }
    }

    fn deliver(&self, sender: oneshot::Sender<(Reply, Times)>, reply: Reply) {
        let times = self.taken.map_or_else(Times::default, |(at, queue)| Times {
            queue,
            compute: at.elapsed(),
        });
        if sender.send((reply, times)).is_err() {
            // The caller is gone; its Waiting counted itself when it went.
            self.abandoned.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for ReplySlot {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            self.deliver(sender, Err(Status::internal()));
        }
    }
}

impl<'a> From<&Answer<'a>> for Content<'a> {
    fn from(answer: &Answer<'a>) -> Self {
        Self::Seldon(*answer)
    }
}

impl From<Vec<u8>> for Envelope {
    fn from(meta: Vec<u8>) -> Self {
        Self::Seldon(meta)
    }
}

// === impl Slots ===

impl Slots {
    pub fn new(slots: Vec<ReplySlot>) -> Self {
        Self {
            slots: Mutex::new(slots.into_iter().map(Some).collect()),
        }
    }

    /// Answer a call; `names` as in [`ReplySlot::answer`].
    ///
    /// # Errors
    /// Says that there is no such call, that it is answered, or that it is of the other protocol; it is then
    /// still to be answered.
    pub fn answer(
        &self,
        index: usize,
        content: Content<'_>,
        names: &[String],
    ) -> Result<(), String> {
        self.take(index, Some(content))?.answer(content, names);
        Ok(())
    }

    /// Fail a call with a status that Python names by number and word.
    ///
    /// # Errors
    /// Says that there is no such call, that it is answered, or that `code` or `kind` is none.
    pub fn fail(&self, index: usize, code: u8, message: String, kind: &str) -> Result<(), String> {
        let status = Status::named(code, message, kind)?;
        self.take(index, None)?.fail(status);
        Ok(())
    }

    /// Take the slot of a call that is not answered yet, and that fits the content.
    fn take(&self, index: usize, content: Option<Content<'_>>) -> Result<ReplySlot, String> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let count = slots.len();
        let slot = slots
            .get_mut(index)
            .ok_or_else(|| format!("there is no item {index} in a batch of {count}"))?;
        let is_infer = match slot {
            Some(slot) => matches!(slot.envelope, Envelope::Infer(_)),
            None => return Err(format!("item {index} is answered already")),
        };
        if content.is_some_and(|content| matches!(content, Content::Infer(_)) != is_infer) {
            let wanted = if is_infer { "is" } else { "is not" };
            return Err(format!("item {index} {wanted} to be answered with infer"));
        }
        slot.take()
            .ok_or_else(|| format!("item {index} is answered already"))
    }
}

// === impl Waiting ===

impl Waiting {
    /// Wait for the answer. Dropping the waiting side abandons the call.
    pub async fn reply(&mut self) -> Reply {
        let reply = (&mut self.receiver).await;
        self.has_ended = true;
        // A slot always sends before it goes; the error covers a leaked one.
        let (reply, times) = reply.unwrap_or_else(|_| (Err(Status::internal()), Times::default()));
        self.times = times;
        reply
    }

    /// Where the time went of a call that has its [`reply`](Self::reply).
    pub fn times(&self) -> Times {
        self.times
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        self.receiver.close();
        if self.receiver.try_recv().is_ok() {
            // The answer came just before: its slot has gone already and will not count down.
            self.abandoned.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
