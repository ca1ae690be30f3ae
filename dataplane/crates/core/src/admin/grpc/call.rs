//! One call that this process answers itself: reading with limits, answering without outrunning the
//! caller, and a status in the end whatever happens.

use std::future::poll_fn;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use tokio::time::Instant;

use super::messages::{ACCEPTED, Messages};
use crate::error::{Error, ErrorKind};
use crate::grpc::deadline::{GRPC_TIMEOUT, parse_timeout};
use crate::grpc::framing;
use crate::grpc::metadata::{ACCESS_ERROR, X_REQUEST_ID};
use crate::grpc::status::{self, Code};

/// How a local call ends when not with OK.
#[derive(Clone, Debug)]
pub struct Status {
    pub code: Code,
    pub message: String,
    /// Goes into the trailer `access-error`; `None` where the code is the answer, as NOT_FOUND is of a
    /// health check.
    pub kind: Option<ErrorKind>,
}

impl Status {
    /// A status that is an answer, not an error of this program's.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            kind: None,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self {
            code: error.kind.code(),
            message: error.message.into_owned(),
            kind: Some(error.kind),
        }
    }
}

/// A call to a local method. Dropped unanswered (a panic, a bug), it answers INTERNAL: never silence.
#[derive(Debug)]
pub struct LocalCall {
    pub(super) messages: Messages,
    respond: SendResponse<Bytes>,
    /// Where messages and trailers go once the response headers are out.
    out: Option<SendStream<Bytes>>,
    /// A message was begun and not finished: only a reset can follow.
    is_broken: bool,
    is_finished: bool,
    /// Added to the trailers, whatever the status.
    extra: HeaderMap,
    /// The caller's own deadline; an error when `grpc-timeout` does not parse.
    deadline: Result<Option<Instant>, Error>,
    /// Longest wait for a message of the caller's, and for it to take one of ours.
    idle_timeout: Duration,
}

// === impl LocalCall ===

impl LocalCall {
    /// Take over a request.
    ///
    /// Args: `extra`: trailers to add to the answer (request id, `access-attempts`); `max_message_bytes`: of
    /// the request, also once decompressed; `idle_timeout`: longest wait for the caller, either way.
    pub fn new(
        headers: &HeaderMap,
        body: RecvStream,
        respond: SendResponse<Bytes>,
        extra: HeaderMap,
        max_message_bytes: usize,
        idle_timeout: Duration,
    ) -> Self {
        let timeout = headers.get(GRPC_TIMEOUT).map(parse_timeout).transpose();
        Self {
            messages: Messages::new(headers, body, max_message_bytes),
            respond,
            out: None,
            is_broken: false,
            is_finished: false,
            extra,
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
            let request = call.within_idle(Messages::only).await?;
            let response = answer(request)?;
            call.send(&response, Bytes::new()).await
        })
        .await
    }

    /// Answer with an error.
    pub fn fail(mut self, status: Status) -> Code {
        self.finish(Err(status))
    }

    /// Run a handler within the caller's deadline, and finish with what it returns.
    pub(super) async fn run<F>(mut self, handler: F) -> Code
    where
        F: AsyncFnOnce(&mut Self) -> Result<(), Status>,
    {
        let ended = match self.deadline.clone() {
            Err(error) => Err(error.into()),
            Ok(None) => handler(&mut self).await,
            Ok(Some(deadline)) => {
                let timed = tokio::time::timeout_at(deadline, handler(&mut self)).await;
                timed.unwrap_or_else(|_| Err(late("deadline exceeded".to_owned())))
            }
        };
        self.finish(ended)
    }

    /// Read with the idle limit.
    pub(super) async fn within_idle<T>(
        &mut self,
        read: impl AsyncFnOnce(&mut Messages) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let limit = self.idle_timeout;
        let timed = tokio::time::timeout(limit, read(&mut self.messages)).await;
        timed.unwrap_or_else(|_| Err(late(format!("no request for {} ms", limit.as_millis()))))
    }

    /// Send a message that consists of two parts, as far as the caller takes it; `tail` is not copied.
    pub(super) async fn send(&mut self, head: &[u8], tail: Bytes) -> Result<(), Status> {
        let Ok(length) = u32::try_from(head.len() + tail.len()) else {
            return Err(Error::new(ErrorKind::Internal, "answer over 4 GiB").into());
        };
        let mut first = BytesMut::with_capacity(framing::PREFIX + head.len());
        first.put_slice(&framing::prefix(length));
        first.put_slice(head);
        let limit = self.idle_timeout;
        self.is_broken = true;
        for part in [first.freeze(), tail] {
            let sent = send_part(self.out()?, part);
            let timed = tokio::time::timeout(limit, sent).await;
            timed.unwrap_or_else(|_| Err(late("caller does not read its answer".to_owned())))?;
        }
        self.is_broken = false;
        Ok(())
    }

    /// Ready when the caller has given the call up.
    pub(super) async fn reset(&mut self) -> Status {
        let Ok(out) = self.out() else { return gone() };
        // Whatever the reason, there is nobody left to answer.
        let _ = poll_fn(|cx| out.poll_reset(cx)).await;
        gone()
    }

    /// The sending half; sends the response headers when first asked for.
    pub(super) fn out(&mut self) -> Result<&mut SendStream<Bytes>, Status> {
        let out = match self.out.take() {
            Some(out) => out,
            None => {
                let response = response(HeaderMap::new());
                let sent = self.respond.send_response(response, false);
                sent.map_err(|_| gone())?
            }
        };
        Ok(self.out.insert(out))
    }

    fn finish(&mut self, ended: Result<(), Status>) -> Code {
        self.is_finished = true;
        let status = ended.err().unwrap_or_else(|| Status::new(Code::Ok, ""));
        let mut trailers = status::headers(status.code, &status.message);
        trailers.extend(std::mem::take(&mut self.extra));
        if let Some(kind) = status.kind {
            trailers.insert(ACCESS_ERROR, HeaderValue::from_static(kind.name()));
        }
        if status.code == Code::Unimplemented {
            let (name, value) = ACCEPTED;
            trailers.insert(name, value);
        }
        // Each of these fails only when the caller is gone: nobody is left to tell.
        match &mut self.out {
            Some(out) if self.is_broken => out.send_reset(Reason::CANCEL),
            Some(out) => drop(out.send_trailers(trailers)),
            None => drop(self.respond.send_response(response(trailers), true)),
        }
        status.code
    }
}

impl Drop for LocalCall {
    fn drop(&mut self) {
        if !self.is_finished {
            let id = self.extra.get(X_REQUEST_ID).and_then(|id| id.to_str().ok());
            let text = id.map_or("internal error".to_owned(), |id| {
                format!("internal error, request id {id}")
            });
            self.finish(Err(Error::new(ErrorKind::Internal, text).into()));
        }
    }
}

fn response(mut headers: HeaderMap) -> Response<()> {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut response = Response::new(());
    *response.headers_mut() = headers;
    response
}

/// Hand bytes to h2 as the caller makes room for them, so that none pile up here.
async fn send_part(out: &mut SendStream<Bytes>, mut part: Bytes) -> Result<(), Status> {
    while !part.is_empty() {
        out.reserve_capacity(part.len());
        let room = match out.capacity() {
            0 => match poll_fn(|cx| out.poll_capacity(cx)).await {
                Some(Ok(room)) => room,
                _ => return Err(gone()),
            },
            room => room,
        };
        let now = part.split_to(room.min(part.len()));
        out.send_data(now, false).map_err(|_| gone())?;
    }
    Ok(())
}

fn late(message: String) -> Status {
    Error::new(ErrorKind::DeadlineExceeded, message).into()
}

pub(super) fn gone() -> Status {
    Error::new(ErrorKind::Cancelled, "caller is gone").into()
}
