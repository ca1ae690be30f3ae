//! The answer's way back from Python to the call that waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::codec::oip::{self, InferEnvelope, InferOutput};
use super::codec::{self, Answer};
use super::outbox::{Answered, Outbox};
pub use super::outbox::{Reply, Stages, Times};
use crate::grpc::status::Status;

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

/// Answers one call, once. Dropped before that, it answers INTERNAL, or DEADLINE_EXCEEDED where it is late: never silence.
#[derive(Debug)]
pub struct ReplySlot {
    /// Of the queue's calls.
    id: u64,
    sender: Option<oneshot::Sender<(Reply, Times)>>,
    deadline: Instant,
    /// When it was taken out of the queue, and how long it had waited there.
    taken: Option<(Instant, Duration)>,
    stages: Option<Stages>,
    envelope: Envelope,
    max_bytes: usize,
    /// Gone with the slot: Python has it no longer in its hand.
    in_hand: Option<Arc<()>>,
}

/// The slots of a batch, each to be taken once. Dropping it answers the rest INTERNAL.
#[derive(Debug)]
pub struct Slots {
    open: Mutex<Open>,
    /// Answers that go out together.
    kept: Mutex<Vec<(ReplySlot, Reply)>>,
    outbox: Arc<Outbox>,
}

#[derive(Debug)]
struct Open {
    slots: Vec<Option<ReplySlot>>,
    /// Of the next answer.
    stages: Option<Stages>,
}

/// Where a call waits for its turn.
pub(super) trait Leave: Send + Sync {
    /// Take out a call whose caller waits no more.
    fn leave(&self, id: u64);
}

/// The waiting side of a [`ReplySlot`].
pub struct Waiting {
    id: u64,
    receiver: oneshot::Receiver<(Reply, Times)>,
    queue: Arc<dyn Leave>,
    has_ended: bool,
    times: Times,
}

/// The deadline passed before there was an answer.
pub fn expired() -> Status {
    Status::late("the deadline passed before the model answered")
}

// === impl ReplySlot ===

impl ReplySlot {
    /// A slot and its waiting side, which takes the call out of the queue when it goes.
    pub(super) fn new(
        id: u64,
        deadline: Instant,
        envelope: Envelope,
        max_bytes: usize,
        queue: Arc<dyn Leave>,
    ) -> (Self, Waiting) {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting {
            id,
            receiver,
            queue,
            has_ended: false,
            times: Times::default(),
        };
        (
            Self {
                id,
                sender: Some(sender),
                deadline,
                taken: None,
                stages: None,
                envelope,
                max_bytes,
                in_hand: None,
            },
            waiting,
        )
    }

    pub fn id(&self) -> u64 {
        self.id
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
        let reply = self.encode(content.into(), names);
        self.send(reply);
    }

    fn encode(&self, content: Content<'_>, names: &[String]) -> Reply {
        match (content, &self.envelope) {
            (Content::Seldon(answer), Envelope::Seldon(meta)) => {
                codec::encode(&answer, names, meta, self.max_bytes).map_err(Status::from)
            }
            (Content::Infer(outputs), Envelope::Infer(envelope)) => {
                oip::encode(outputs, envelope, self.max_bytes).map_err(Status::from)
            }
            _ => Err(Status::internal()),
        }
    }

    pub fn fail(self, status: Status) {
        self.send(Err(status));
    }

    fn send(mut self, reply: Reply) {
        if let Some(answered) = self.take_answered(reply) {
            answered.deliver();
        }
    }

    /// The answer on its way to its call.
    fn answered(mut self, reply: Reply) -> Option<Answered> {
        self.take_answered(reply)
    }

    fn take_answered(&mut self, reply: Reply) -> Option<Answered> {
        let caller = self.sender.take()?;
        let times = self.taken.map_or_else(Times::default, |(at, queue)| Times {
            queue,
            compute: at.elapsed(),
            stages: self.stages.unwrap_or_default(),
        });
        Some(Answered {
            caller,
            reply,
            times,
        })
    }
}

impl Drop for ReplySlot {
    fn drop(&mut self) {
        if self.sender.is_some() {
            // Python leaves out what is too late; its caller's own timer may not have run yet.
            let is_late = self.deadline <= Instant::now();
            let status = if is_late {
                expired()
            } else {
                Status::internal()
            };
            if let Some(answered) = self.take_answered(Err(status)) {
                answered.deliver();
            }
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
    /// Answers that are kept go out by the outbox.
    pub fn new(slots: Vec<ReplySlot>, outbox: Arc<Outbox>) -> Self {
        Self {
            outbox,
            kept: Mutex::new(Vec::with_capacity(slots.len())),
            open: Mutex::new(Open {
                slots: slots.into_iter().map(Some).collect(),
                stages: None,
            }),
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

    /// As [`Self::answer`], and let it go out with the next [`Self::send`]: the front's thread then wakes once for all
    /// of them, and writes them together.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn keep(&self, index: usize, content: Content<'_>, names: &[String]) -> Result<(), String> {
        let slot = self.take(index, Some(content))?;
        let reply = slot.encode(content, names);
        self.kept().push((slot, reply));
        Ok(())
    }

    /// Say where the time went of the answers that are kept and of which this is not known; if there are none, of the
    /// next answer.
    pub fn spent(&self, stages: Stages) {
        let mut kept = self.kept();
        let unknown = kept.iter_mut().filter(|(slot, _)| slot.stages.is_none());
        if unknown.map(|(slot, _)| slot.stages = Some(stages)).count() == 0 {
            self.open().stages = Some(stages);
        }
    }

    /// Let go out what was kept. Dropping the slots does so, too.
    pub fn send(&self) {
        let kept = std::mem::take(&mut *self.kept());
        let answered = |(slot, reply): (ReplySlot, Reply)| slot.answered(reply);
        self.outbox.send(kept.into_iter().filter_map(answered));
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(ReplySlot, Reply)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fail a call with a status that Python names by number and word.
    ///
    /// # Errors
    /// Says that there is no such call, that it is answered, or that `code` or `kind` is none.
    pub fn fail(
        &self,
        index: usize,
        code: u8,
        message: String,
        kind: &str,
        number: Option<i32>,
    ) -> Result<(), String> {
        let status = Status::named(code, message, kind, number)?;
        self.take(index, None)?.fail(status);
        Ok(())
    }

    /// Whether nobody waits for the answer of a call any more: it is answered, or its caller has gone, or its deadline
    /// has passed.
    pub fn is_gone(&self, index: usize) -> bool {
        let open = self.open();
        let slot = open.slots.get(index).and_then(Option::as_ref);
        slot.is_none_or(|slot| slot.is_abandoned() || slot.deadline <= Instant::now())
    }

    /// Take the slot of a call that is not answered yet, and that fits the content.
    fn take(&self, index: usize, content: Option<Content<'_>>) -> Result<ReplySlot, String> {
        let mut open = self.open();
        let Open { slots, stages } = &mut *open;
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
        let mut slot = slot
            .take()
            .ok_or_else(|| format!("item {index} is answered already"))?;
        slot.stages = stages.take();
        Ok(slot)
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.send();
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
        if !self.has_ended {
            // First, so that whoever has the call by then sees that nobody waits for it.
            self.receiver.close();
            self.queue.leave(self.id);
        }
    }
}
