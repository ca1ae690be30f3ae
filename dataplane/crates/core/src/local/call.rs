//! One call that this process answers itself: reading with limits, answering without outrunning the caller, and a
//! status in the end whatever happens.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::{Instant, timeout, timeout_at};

use crate::call::head;
use crate::call::limit::HeldBytes;
use crate::call::messages::Messages;
use crate::call::responder::Responder;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::status::Status;
use crate::grpc::{framing, status};
use crate::headers::Headers;
use crate::net::stream::{Body, Sender};

/// Largest request of a local method, bytes; names are all that is in them.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// A call to a local method.
#[derive(Debug)]
pub struct LocalCall {
    messages: Messages,
    responder: Responder,
    /// Where messages and trailers go once the response headers are out.
    out: Option<Sender>,
    /// A message was begun and not finished: only a reset can follow.
    is_broken: bool,
    /// The caller's own deadline; an error when `grpc-timeout` does not parse.
    deadline: Result<Option<Instant>, Error>,
    /// Longest wait for a message of the caller's, and for it to take one of ours.
    idle_timeout: Duration,
}

// === impl LocalCall ===

impl LocalCall {
    /// Take over a request. `idle_timeout` is the longest wait for the caller, either way.
    pub fn new(
        headers: &Headers,
        body: Body,
        responder: Responder,
        idle_timeout: Duration,
    ) -> Self {
        // Not the process's: a health check must not be shed because models are busy.
        let budget = Arc::new(HeldBytes::new(4 * MAX_REQUEST_BYTES, Arc::default()));
        let timeout = head::timeout(headers);
        Self {
            messages: Messages::new(headers, body, MAX_REQUEST_BYTES, budget),
            responder,
            out: None,
            is_broken: false,
            deadline: timeout.map(|timeout| timeout.map(|timeout| Instant::now() + timeout)),
            idle_timeout,
        }
    }

    /// Answer a unary method: `answer` gets the request message and gives the response message. Returns the
    /// code that the caller got.
    pub async fn unary<F>(self, answer: F) -> Code
    where
        F: FnOnce(Bytes) -> Result<Vec<u8>, Status>,
    {
        self.run(async |call: &mut Self| {
            let request = call.only().await?;
            call.send(&answer(request)?, Bytes::new()).await
        })
        .await
    }

    /// Answer with an error.
    pub fn fail(mut self, status: Status) -> Code {
        self.finish(Err(status))
    }

    /// Run a handler within the caller's deadline, and finish with what it returns.
    pub async fn run<F>(mut self, handler: F) -> Code
    where
        F: AsyncFnOnce(&mut Self) -> Result<(), Status>,
    {
        let ended = match self.deadline.clone() {
            Err(error) => Err(error.into()),
            Ok(None) => handler(&mut self).await,
            Ok(Some(deadline)) => {
                let timed = timeout_at(deadline, handler(&mut self)).await;
                timed.unwrap_or_else(|_| Err(Status::late("deadline exceeded")))
            }
        };
        self.finish(ended)
    }

    /// The message of a request that has one. Whether it ends behind it is not waited for: whoever asks for health gets
    /// an answer.
    pub async fn only(&mut self) -> Result<Bytes, Status> {
        let no_message = || Error::new(ErrorKind::BadRequest, "the request has no message").into();
        self.next().await?.ok_or_else(no_message)
    }

    /// The next message of the request; none when the caller has sent all.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let limit = self.idle_timeout;
        let next = timeout(limit, self.messages.next()).await;
        let late = |_| {
            Err(Status::late(format!(
                "no request for {} ms",
                limit.as_millis()
            )))
        };
        Ok(next.unwrap_or_else(late)?.map(|message| message.bytes))
    }

    /// Send a message that consists of two parts, as far as the caller takes it; `tail` is not copied.
    pub async fn send(&mut self, head: &[u8], tail: Bytes) -> Result<(), Status> {
        let Ok(length) = u32::try_from(head.len() + tail.len()) else {
            // gRPC cannot frame it.
            return Err(Status::internal());
        };
        let mut first = BytesMut::with_capacity(framing::PREFIX + head.len());
        first.put_slice(&framing::prefix(length));
        first.put_slice(head);
        let limit = self.idle_timeout;
        self.is_broken = true;
        for part in [first.freeze(), tail] {
            match timeout(limit, self.out()?.send_all(part)).await {
                Ok(sent) => sent.map_err(|_| Status::gone())?,
                Err(_) => return Err(Status::late("the caller does not read its answer")),
            }
        }
        self.is_broken = false;
        Ok(())
    }

    /// Ready when the caller has given the call up.
    pub(super) async fn reset(&mut self) -> Status {
        if let Ok(out) = self.out() {
            poll_fn(|cx| out.poll_reset(cx)).await;
        }
        Status::gone()
    }

    /// The sending half; sends the response headers when first asked for.
    pub(super) fn out(&mut self) -> Result<&mut Sender, Status> {
        let out = match self.out.take() {
            Some(out) => out,
            None => self.responder.begin()?,
        };
        Ok(self.out.insert(out))
    }

    fn finish(&mut self, ended: Result<(), Status>) -> Code {
        let failed = ended.as_ref().err();
        match self.out.take() {
            Some(mut out) if self.is_broken => out.reset(),
            Some(mut out) => drop(self.responder.finish(&mut out, failed)),
            None => match failed {
                Some(failed) => self.responder.fail(failed),
                None => self.responder.finish_with(status::headers(Code::Ok, "")),
            },
        }
        failed.map_or(Code::Ok, |failed| failed.code)
    }
}

impl Drop for LocalCall {
    fn drop(&mut self) {
        // A handler that panicked behind its response headers; before them, the responder answers.
        if self.out.is_some() {
            self.finish(Err(Status::internal()));
        }
    }
}
