//! The caller's end of a call. Dropped unanswered (a panic, a bug), it answers INTERNAL: never silence.

use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};

use super::upstream::{Failure, cancelled};
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata;
use crate::grpc::status;

const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

pub struct Responder {
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

    /// Pass response headers on; the body and the trailers follow on what this returns.
    pub fn headers(&mut self, headers: HeaderMap) -> Result<SendStream<Bytes>, Failure> {
        self.is_answered = true;
        let response = response(headers);
        self.respond
            .send_response(response, false)
            .map_err(|_| Failure::Caller(cancelled()))
    }

    /// Answer with a status and nothing else.
    pub fn trailers_only(
        &mut self,
        mut headers: HeaderMap,
        attempts: u32,
        endpoint: Option<&HeaderValue>,
    ) {
        self.is_answered = true;
        if !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, APPLICATION_GRPC);
        }
        self.add_trailers(&mut headers, attempts, endpoint);
        // An error means that the caller is gone: nobody is left to tell.
        let _ = self.respond.send_response(response(headers), true);
    }

    /// Answer with an error of ours.
    pub fn fail(&mut self, error: &Error, attempts: u32, endpoint: Option<&HeaderValue>) {
        let mut headers = if error.kind == ErrorKind::Internal {
            let id = self.request_id.to_str().unwrap_or_default();
            status::headers(
                error.kind.code(),
                &format!("internal error, request id {id}"),
            )
        } else {
            status::headers(error.kind.code(), &error.message)
        };
        headers.insert(
            metadata::ACCESS_ERROR,
            HeaderValue::from_static(error.kind.name()),
        );
        self.trailers_only(headers, attempts, endpoint);
    }

    /// What we add to every call's trailers.
    pub fn add_trailers(
        &self,
        trailers: &mut HeaderMap,
        attempts: u32,
        endpoint: Option<&HeaderValue>,
    ) {
        let count = match attempts {
            1 => HeaderValue::from_static("1"),
            other => HeaderValue::from(other),
        };
        trailers.insert(metadata::ACCESS_ATTEMPTS, count);
        trailers.insert(metadata::X_REQUEST_ID, self.request_id.clone());
        if let Some(endpoint) = endpoint {
            trailers.insert(metadata::ACCESS_ENDPOINT, endpoint.clone());
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.is_answered {
            self.fail(&Error::new(ErrorKind::Internal, ""), 0, None);
        }
    }
}

fn response(headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.headers_mut() = headers;
    response
}
