//! The answer's way back from Python to the call that waits for it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::codec::{self, Answer};
use crate::error::{Error, ErrorKind};
use crate::grpc::status::Code;

/// A status other than OK, and what the trailer `access-error` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub message: Cow<'static, str>,
    pub kind: Cow<'static, str>,
}

/// A framed SeldonMessage, or why there is none.
pub type Reply = Result<Bytes, Failure>;

/// Answers one call, once. Dropped before that, it answers INTERNAL: never silence.
#[derive(Debug)]
pub struct ReplySlot {
    sender: Option<oneshot::Sender<Reply>>,
    abandoned: Arc<AtomicUsize>,
    deadline: Instant,
    meta: Vec<u8>,
    max_bytes: usize,
}

/// The slots of a batch, each to be taken once. Dropping it answers the rest INTERNAL.
#[derive(Debug)]
pub struct Slots {
    slots: Mutex<Vec<Option<ReplySlot>>>,
}

/// The waiting side of a [`ReplySlot`].
#[derive(Debug)]
pub struct Waiting {
    receiver: oneshot::Receiver<Reply>,
    abandoned: Arc<AtomicUsize>,
    has_ended: bool,
}

// === impl Failure ===

impl Failure {
    pub fn new(
        code: Code,
        message: impl Into<Cow<'static, str>>,
        kind: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code,
            message: message.into(),
            kind: kind.into(),
        }
    }

    /// A failure that Python names by number.
    ///
    /// # Errors
    /// Says that there is no such code, or that it is OK.
    pub fn numbered(code: u8, message: String, kind: String) -> Result<Self, String> {
        match Code::from_u8(code) {
            None | Some(Code::Ok) => Err(format!("code {code} is not a gRPC error, 1 to 16")),
            Some(code) => Ok(Self::new(code, message, kind)),
        }
    }

    /// The deadline passed before there was an answer.
    pub fn expired() -> Self {
        Error::new(
            ErrorKind::DeadlineExceeded,
            "the deadline passed before the model answered",
        )
        .into()
    }

    fn unanswered() -> Self {
        // Without a text: the responder puts the fixed one, with the request id.
        Error::new(ErrorKind::Internal, "").into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            code: error.kind.code(),
            message: error.message,
            kind: error.kind.name().into(),
        }
    }
}

// === impl ReplySlot ===

impl ReplySlot {
    /// A slot and its waiting side. `meta` is that of the answer; `abandoned` counts callers that have gone
    /// while their call waits in a queue.
    pub(super) fn new(
        deadline: Instant,
        meta: Vec<u8>,
        max_bytes: usize,
        abandoned: Arc<AtomicUsize>,
    ) -> (Self, Waiting) {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting {
            receiver,
            abandoned: abandoned.clone(),
            has_ended: false,
        };
        (
            Self {
                sender: Some(sender),
                abandoned,
                deadline,
                meta,
                max_bytes,
            },
            waiting,
        )
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the caller has gone: nobody would read an answer.
    pub fn is_abandoned(&self) -> bool {
        self.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Encode and send an answer; one that is larger than a message may be becomes RESOURCE_EXHAUSTED.
    pub fn answer(self, answer: &Answer<'_>, names: &[String]) {
        let encoded = codec::encode(answer, names, &self.meta, self.max_bytes);
        self.send(encoded.map_err(Failure::from));
    }

    pub fn fail(self, failure: Failure) {
        self.send(Err(failure));
    }

    fn send(mut self, reply: Reply) {
        if let Some(sender) = self.sender.take() {
            self.deliver(sender, reply);
        }
    }

    fn deliver(&self, sender: oneshot::Sender<Reply>, reply: Reply) {
        if sender.send(reply).is_err() {
            // The caller is gone; its Waiting counted itself when it went.
            self.abandoned.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for ReplySlot {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            self.deliver(sender, Err(Failure::unanswered()));
        }
    }
}

// === impl Slots ===

impl Slots {
    pub fn new(slots: Vec<ReplySlot>) -> Self {
        Self {
            slots: Mutex::new(slots.into_iter().map(Some).collect()),
        }
    }

    /// Take the slot of a call that is not answered yet.
    ///
    /// # Errors
    /// Says that there is no such call, or that it is answered.
    pub fn take(&self, index: usize) -> Result<ReplySlot, String> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let count = slots.len();
        let slot = slots
            .get_mut(index)
            .ok_or_else(|| format!("there is no item {index} in a batch of {count}"))?;
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
        reply.unwrap_or_else(|_| Err(Failure::unanswered()))
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
