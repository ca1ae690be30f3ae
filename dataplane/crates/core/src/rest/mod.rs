//! Calls over HTTP. A request becomes a call of gRPC that this process makes to itself, so that routing, balancing, limits
//! and counting are the same, and its answer becomes JSON.

mod body;
mod elements;
mod json;
mod metadata;
mod oip;
mod reply;
mod target;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::{Instant, timeout_at};

use crate::call::head::shortened;
use crate::call::inflate::inflate;
use crate::call::limit::HeldBytes;
use crate::code::Code;
use crate::config::Limits;
use crate::error::{Error, ErrorKind};
use crate::grpc::framing;
use crate::grpc::metadata::{ACCESS_ERROR, GRPC_ENCODING, X_REQUEST_ID};
use crate::grpc::status;
use crate::net::guard::StreamGuard;
use crate::net::pipe::{Gone, Reading, pipe};
use crate::net::stream::{Answer, Body, Head};
use oip::Wish;
use reply::{Failed, Reply};
use target::{Refusal, Target};

/// What requests are held to.
#[derive(Clone, Debug)]
pub struct Rest {
    held: Arc<HeldBytes>,
    max_message_bytes: usize,
    body_timeout: Duration,
}

/// The paths that there are, for who asks for another.
const PATHS: &str = "/v2, /v2/health/live, /v2/health/ready, /v2/models/NAME[/versions/VERSION][/ready], and POST to \
                     /v2/models/NAME[/versions/VERSION]/infer";

/// Whether a request is a call of gRPC, or means to be one.
pub fn is_grpc(head: &Head) -> bool {
    let content_type = head.headers.get(CONTENT_TYPE);
    content_type.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}

/// Answer one request. `call` starts a call of gRPC; `_stream` counts the request until it is answered.
pub async fn serve(
    rest: Rest,
    head: Head,
    body: Body,
    mut answer: Answer,
    _stream: StreamGuard,
    call: impl FnOnce(Head, Body, Answer),
) {
    let request_id = crate::call::head::request_id(&head.headers);
    let is_head = head.verb == Method::HEAD;
    let serving = async {
        let replied = rest.reply(head, body, &request_id, call).await;
        replied.unwrap_or_else(|failed| Reply::problem(&failed, &request_id))
    };
    let mut serving = std::pin::pin!(serving);
    let replied = poll_fn(|cx| match serving.as_mut().poll(cx) {
        std::task::Poll::Ready(reply) => std::task::Poll::Ready(Some(reply)),
        // Nobody waits any more: the call, which is dropped, is told.
        std::task::Poll::Pending => answer.poll_reset(cx).map(|()| None),
    })
    .await;
    let Some(mut reply) = replied else { return };
    reply.headers.insert(X_REQUEST_ID, request_id.clone());
    reply.finish_headers();
    // An error means that the caller is gone: nobody is left to tell.
    let _ = send(&mut answer, reply, is_head, rest.body_timeout).await;
}

async fn send(
    answer: &mut Answer,
    reply: Reply,
    is_head: bool,
    timeout: Duration,
) -> Result<(), crate::net::stream::Broken> {
    if is_head || reply.body.is_empty() {
        return answer.finish_with(reply.status, reply.headers);
    }
    let mut sender = answer.begin_with(reply.status, reply.headers)?;
    match timeout_at(Instant::now() + timeout, sender.send_all(reply.body)).await {
        Ok(sent) => sent?,
        Err(_) => {
            sender.reset();
            return Ok(());
        }
    }
    sender.send(Bytes::new(), true)
}

// === impl Rest ===

impl Rest {
    pub fn new(held: Arc<HeldBytes>, limits: &Limits) -> Self {
        Self {
            held,
            max_message_bytes: limits.max_message_bytes,
            body_timeout: Duration::from_millis(limits.body_timeout_ms),
        }
    }

    async fn reply(
        &self,
        head: Head,
        body: Body,
        request_id: &HeaderValue,
        call: impl FnOnce(Head, Body, Answer),
    ) -> Result<Reply, Failed> {
        if is_grpc(&head) {
            // It came over HTTP/1, or with another verb than POST.
            let text = "a gRPC call is a POST over HTTP/2";
            return Err(Error::new(ErrorKind::BadRequest, text).into());
        }
        let target = match target::find(&head.verb, head.uri.path()) {
            Ok(target) => target,
            Err(refusal) => return refused(refusal, &head, request_id),
        };
        let (whole, _held) = self.body(&head.headers, body).await?;
        let header_length = metadata::header_length(&head.headers)?;
        let Target {
            call: asked,
            model,
            version,
        } = target;
        let (message, wish) = asked.request(model, version, &whole, header_length)?;
        drop(whole);
        let answered = self
            .call(asked.path(), message, &head.headers, request_id, call)
            .await?;
        let wish: &Wish = &wish;
        Ok(asked.reply(answered, wish)?)
    }

    /// Call a method of gRPC, and return the message of its answer.
    async fn call(
        &self,
        path: &'static str,
        message: Vec<u8>,
        headers: &HeaderMap,
        request_id: &HeaderValue,
        call: impl FnOnce(Head, Body, Answer),
    ) -> Result<Bytes, Failed> {
        let too_long = || {
            let text = format!("the message of {} bytes is too long for gRPC", message.len());
            Error::new(ErrorKind::MessageTooLarge, text)
        };
        let length = u32::try_from(message.len()).map_err(|_| too_long())?;
        let mut framed = BytesMut::with_capacity(framing::PREFIX + message.len());
        framed.put_slice(&framing::prefix(length));
        framed.put_slice(&message);
        drop(message);
        let head = Head {
            verb: Method::POST,
            uri: http::Uri::from_static(path),
            headers: metadata::of_call(headers, request_id),
        };
        let (writing, reading) = pipe();
        call(head, Body::ready(framed.freeze()), Answer::piped(writing));
        match self.answer(&reading).await {
            Ok(answered) => answered,
            Err(Gone) => Err(Failed {
                code: Code::Unavailable,
                kind: Some(ErrorKind::ConnectionLost),
                text: "the answer broke off".to_owned(),
            }),
        }
    }

    async fn answer(&self, reading: &Reading) -> Result<Result<Bytes, Failed>, Gone> {
        let (_, headers) = reading.head().await?;
        let mut message = BytesMut::new();
        while let Some(chunk) = reading.chunk().await {
            let chunk = chunk?;
            message.extend_from_slice(&chunk);
        }
        let trailers = reading.trailers();
        // An answer without a message has its status in the headers.
        let ended = trailers.as_ref().unwrap_or(&headers);
        Ok(self.message(&headers, ended, message.freeze()))
    }

    fn message(
        &self,
        headers: &HeaderMap,
        ended: &HeaderMap,
        mut framed: Bytes,
    ) -> Result<Bytes, Failed> {
        let code = status::parse_grpc_status(ended).unwrap_or(Code::Unknown);
        if code != Code::Ok {
            let text = ended.get(&status::GRPC_MESSAGE);
            let kind = ended.get(&ACCESS_ERROR).and_then(|it| it.to_str().ok());
            return Err(Failed {
                code,
                kind: kind.and_then(ErrorKind::from_name),
                text: text.map_or_else(String::new, |it| status::decode_message(it.as_bytes())),
            });
        }
        let broken = || Error::new(ErrorKind::BadUpstreamResponse, "the answer has no message");
        if framed.len() < framing::PREFIX {
            return Err(broken().into());
        }
        let is_compressed = framed.get_u8() == 1;
        if framed.get_u32() as usize != framed.len() {
            return Err(broken().into());
        }
        if is_compressed {
            let encoding = headers.get(&GRPC_ENCODING);
            return Ok(inflate(encoding, &framed, self.max_message_bytes)?);
        }
        Ok(framed)
    }
}

/// The answer to a request that stands for no call.
fn refused(refusal: Refusal, head: &Head, request_id: &HeaderValue) -> Result<Reply, Failed> {
    let path = shortened(head.uri.path());
    match refusal {
        Refusal::Unknown => {
            let text = format!("nothing is at {path}; there are {PATHS}");
            Err(Error::new(ErrorKind::UnknownMethod, text).into())
        }
        Refusal::Verb(expected) => {
            let text = format!("{path} takes {expected}, not {}", head.verb);
            let failed = Failed::from(Error::new(ErrorKind::UnknownMethod, text));
            let mut reply = Reply::problem(&failed, request_id);
            reply.status = StatusCode::METHOD_NOT_ALLOWED;
            let allowed = HeaderValue::from_static(expected);
            reply.headers.insert(ALLOW, allowed);
            Ok(reply)
        }
        Refusal::Bad(error) => Err(error.into()),
    }
}
