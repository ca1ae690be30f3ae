//! The answering end of a call. Dropped unanswered (a panic, a bug), it answers INTERNAL: never silence.

use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::inflate::ACCEPTED;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::load_report::LOAD_REPORT;
use crate::grpc::metadata::{self, RequestId};
use crate::grpc::status::{self, Status};
use crate::headers::{Headers, Token};
use crate::net::stream::{Answer, Sender};

const APPLICATION_GRPC: &str = "application/grpc";

#[derive(Debug)]
pub struct Responder {
    answer: Answer,
    request_id: RequestId,
    /// What the trailers say of attempts; none where there are no attempts.
    attempts: Option<u32>,
    endpoint: Option<Arc<str>>,
    load: Option<String>,
    /// When the caller may try again (gRFC A6).
    pushback: Option<u32>,
    is_answered: bool,
}

// === impl Responder ===

impl Responder {
    pub fn new(answer: Answer, request_id: RequestId) -> Self {
        Self {
            answer,
            request_id,
            attempts: None,
            endpoint: None,
            load: None,
            pushback: None,
            is_answered: false,
        }
    }

    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// From now on tell how many attempts the call took, and the endpoint of the last one where callers may know it.
    pub fn tell_attempts(&mut self, attempts: u32, endpoint: Option<&Arc<str>>) {
        self.attempts = Some(attempts);
        self.endpoint = endpoint.cloned();
    }

    /// Let the trailers carry a load report.
    pub fn tell_load(&mut self, report: String) {
        self.load = Some(report);
    }

    /// Ask the caller to wait so long before it tries again.
    pub fn push_back(&mut self, wait: Duration) {
        let milliseconds = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        self.pushback = Some(milliseconds.max(1));
    }

    /// Ready when the caller has given the call up.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.answer.poll_reset(cx)
    }

    /// The caller has gone: no answer is owed.
    pub fn abandon(&mut self) {
        self.is_answered = true;
    }

    /// Begin an answer with response headers of an endpoint's.
    ///
    /// # Errors
    /// The caller is gone.
    pub fn begin_with(&mut self, headers: Headers) -> Result<Sender, Error> {
        self.is_answered = true;
        let gone = |_| Error::new(ErrorKind::Cancelled, "the caller cancelled the call");
        self.answer.begin(headers).map_err(gone)
    }

    /// Begin an answer. A sender that is dropped before [`finish`](Self::finish) resets the call.
    ///
    /// # Errors
    /// The caller is gone.
    pub fn begin(&mut self) -> Result<Sender, Error> {
        self.begin_with(Headers::from_iter([(
            Token::CONTENT_TYPE,
            APPLICATION_GRPC,
        )]))
    }

    /// Answer with a framed message and OK. A caller that does not read it until `deadline` gets a reset.
    ///
    /// Returns what the call is counted as; CANCELLED when the caller went.
    pub async fn answer(&mut self, message: Bytes, deadline: Instant) -> Code {
        let Ok(mut sender) = self.begin() else {
            return Code::Cancelled;
        };
        match timeout_at(deadline, sender.send_all(message)).await {
            Ok(Ok(())) => self.finish(&mut sender, None),
            Ok(Err(_)) => Code::Cancelled,
            Err(_) => {
                sender.reset();
                Code::DeadlineExceeded
            }
        }
    }

    /// End an answer that has begun; `None` for OK. Returns what the call is counted as.
    pub fn finish(&self, sender: &mut Sender, failed: Option<&Status>) -> Code {
        let code = failed.map_or(Code::Ok, |status| status.code);
        let mut trailers = status_of(failed, self.request_id());
        self.add_trailers(&mut trailers);
        match sender.trailers(trailers) {
            Ok(()) => code,
            Err(_) => Code::Cancelled,
        }
    }

    /// Answer with a status and nothing else.
    pub fn fail(&mut self, status: &Status) {
        let mut headers = status_of(Some(status), self.request_id());
        if let Some(pushback) = self.pushback.take() {
            headers.set(
                metadata::RETRY_PUSHBACK,
                itoa::Buffer::new().format(pushback),
            );
        }
        self.finish_with(headers);
    }

    /// Answer with the headers of a status, and nothing else.
    pub fn finish_with(&mut self, mut headers: Headers) {
        self.is_answered = true;
        if !headers.has(Token::CONTENT_TYPE) {
            headers.push(Token::CONTENT_TYPE, APPLICATION_GRPC);
        }
        self.add_trailers(&mut headers);
        // An error means that the caller is gone: nobody is left to tell.
        let _ = self.answer.finish(headers);
    }

    /// What is added to every call's trailers.
    pub fn add_trailers(&self, trailers: &mut Headers) {
        if let Some(attempts) = self.attempts {
            trailers.set(
                metadata::ACCESS_ATTEMPTS,
                itoa::Buffer::new().format(attempts),
            );
        }
        self.request_id.put(trailers);
        if let Some(load) = &self.load {
            trailers.set(LOAD_REPORT, load);
        }
        if let Some(endpoint) = &self.endpoint {
            trailers.set(metadata::ACCESS_ENDPOINT, &**endpoint);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.is_answered {
            self.fail(&Status::internal());
        }
    }
}

/// A status's text for the caller: the fixed one, with the request id, for a fault of this program.
pub fn text<'a>(status: &'a Status, request_id: &RequestId) -> Cow<'a, str> {
    let is_unnamed = status.message.is_empty() && status.code == Code::Internal;
    if status.kind != Some(ErrorKind::Internal) && !is_unnamed {
        return Cow::Borrowed(&status.message);
    }
    let id = request_id.as_str();
    Cow::Owned(format!("internal error, request id {id}"))
}

fn status_of(failed: Option<&Status>, request_id: &RequestId) -> Headers {
    let Some(failed) = failed else {
        return status::headers(Code::Ok, "");
    };
    let mut headers = status::headers(failed.code, &text(failed, request_id));
    if let Some(kind) = failed.kind {
        headers.push(metadata::ACCESS_ERROR, kind.name());
        if let Some(number) = failed.number {
            headers.push(
                metadata::ACCESS_ERROR_NUMBER,
                itoa::Buffer::new().format(number),
            );
        }
        if kind == ErrorKind::UnsupportedEncoding {
            let (name, value) = ACCEPTED;
            headers.push(name, value);
        }
    }
    headers
}
