//! The caller's end of a call. Dropped unanswered (a panic, a bug), it answers INTERNAL: never silence.

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::time::{Instant, timeout_at};

use super::message::ACCEPTED_ENCODINGS;
use super::reply::Failure;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata;
use crate::grpc::status::{self, Code};

const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

pub(super) struct Responder {
    respond: SendResponse<Bytes>,
    request_id: HeaderValue,
    is_answered: bool,
}

// === impl Responder ===

impl Responder {
    pub fn new(respond: SendResponse<Bytes>, request_id: HeaderValue) -> Self {
        Self {
            respond,
            request_id,
            is_answered: false,
        }
    }

    pub fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// Ready when the caller has reset the call.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.respond.poll_reset(cx).map(|_| ())
    }

    /// The caller has gone: no answer is owed.
    pub fn abandon(mut self) {
        self.is_answered = true;
    }

    /// Send a framed message and OK. A caller that does not read its answer until `deadline` gets a reset.
    ///
    /// Returns what the call is counted as; CANCELLED when the caller went.
    pub async fn answer(mut self, message: Bytes, deadline: Instant) -> Code {
        let Some(mut stream) = self.begin() else {
            return Code::Cancelled;
        };
        match timeout_at(deadline, send_all(&mut stream, message)).await {
            Ok(Ok(())) => self.finish(stream, None),
            Ok(Err(_)) => Code::Cancelled,
            Err(_) => {
                stream.send_reset(Reason::CANCEL);
                Code::DeadlineExceeded
            }
        }
    }

    /// Send the headers of an answer; `None` when the caller is gone. A stream that is dropped before
    /// [`finish`](Self::finish) resets the call.
    pub fn begin(&mut self) -> Option<SendStream<Bytes>> {
        self.is_answered = true;
        let mut response = Response::new(());
        response
            .headers_mut()
            .insert(CONTENT_TYPE, APPLICATION_GRPC);
        self.respond.send_response(response, false).ok()
    }

    /// End an answer that has begun; `None` for OK. Returns what the call is counted as.
    pub fn finish(self, mut stream: SendStream<Bytes>, failure: Option<&Failure>) -> Code {
        let mut trailers = HeaderMap::with_capacity(4);
        let code = failure.map_or(Code::Ok, |failure| failure.code);
        match failure {
            Some(failure) => self.put_status(failure, &mut trailers),
            None => {
                trailers.insert(status::GRPC_STATUS, Code::Ok.header_value());
                trailers.insert(metadata::X_REQUEST_ID, self.request_id.clone());
            }
        }
        match stream.send_trailers(trailers) {
            Ok(()) => code,
            Err(_) => Code::Cancelled,
        }
    }

    /// Answer with a status and nothing else.
    pub fn fail(&mut self, failure: &Failure) {
        self.is_answered = true;
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, APPLICATION_GRPC);
        self.put_status(failure, headers);
        // An error means that the caller is gone: nobody is left to tell.
        let _ = self.respond.send_response(response, true);
    }

    /// A failure's text for the caller: the fixed one, with the request id, where it has none.
    pub fn text<'a>(&self, failure: &'a Failure) -> Cow<'a, str> {
        if !failure.message.is_empty() || failure.code != Code::Internal {
            return Cow::Borrowed(&failure.message);
        }
        let id = self.request_id.to_str().unwrap_or_default();
        Cow::Owned(format!("internal error, request id {id}"))
    }

    fn put_status(&self, failure: &Failure, headers: &mut HeaderMap) {
        headers.insert(status::GRPC_STATUS, failure.code.header_value());
        let message = status::encode_message(&self.text(failure));
        headers.insert(status::GRPC_MESSAGE, message);
        if failure.code == Code::Unimplemented {
            headers.insert(
                GRPC_ACCEPT_ENCODING,
                HeaderValue::from_static(ACCEPTED_ENCODINGS),
            );
        }
        // The kind may come from Python; one that no header can hold is left out.
        if let Ok(kind) = HeaderValue::from_str(&failure.kind) {
            headers.insert(metadata::ACCESS_ERROR, kind);
        }
        headers.insert(metadata::X_REQUEST_ID, self.request_id.clone());
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.is_answered {
            self.fail(&Error::new(ErrorKind::Internal, "").into());
        }
    }
}

/// Send as the caller's window opens: what it does not read stays ours, and is counted, instead of piling up
/// in h2's buffers.
pub(super) async fn send_all(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
) -> Result<(), h2::Error> {
    stream.reserve_capacity(data.len());
    while !data.is_empty() {
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(capacity)) => {
                stream.send_data(data.split_to(capacity.min(data.len())), false)?
            }
            Some(Err(error)) => return Err(error),
            None => return Err(Reason::CANCEL.into()),
        }
    }
    Ok(())
}
