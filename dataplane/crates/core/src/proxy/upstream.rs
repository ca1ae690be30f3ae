//! One attempt at one endpoint: the request's bytes stream up, the answer's stream down.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};

use super::body::Inbound;
use super::clock::{Clock, Expired};
use super::pool::{Channel, Upstream};
use super::responder::Responder;
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::Frames;

/// Why an attempt ended without a whole answer.
#[derive(Debug)]
pub enum Failure {
    /// The caller's side: it went away, or its request is wrong. The endpoint is not to blame.
    Caller(Error),
    /// The endpoint's side.
    Endpoint(Error),
    /// A time limit.
    Expired(Expired),
}

/// A request on its way to an endpoint, and the answer on its way back.
pub struct Exchange {
    /// Counts the stream on its connection.
    channel: Channel,
    /// None once the request's end was sent, or can no longer be.
    send: Option<SendStream<Bytes>>,
    /// The next chunk to send.
    cursor: usize,
    has_sent: bool,
    /// It is the caller that the request waits for.
    pub waits_for_caller: bool,
    /// The caller does not take the answer: what it was sent last is still here.
    pub is_unread: bool,
}

// === impl Exchange ===

impl Exchange {
    /// Open a stream to the endpoint and send the request's head.
    ///
    /// # Errors
    /// `connect_failed`, or `refused_stream` when the connection takes no new stream: nothing was sent then.
    pub async fn open(
        upstream: &std::rc::Rc<Upstream>,
        request: Request<()>,
    ) -> Result<(Self, ResponseFuture), Error> {
        let channel = upstream.channel().await?;
        match send_head(&channel, request).await {
            Ok((response, send)) => {
                let exchange = Self {
                    channel,
                    send: Some(send),
                    cursor: 0,
                    has_sent: false,
                    waits_for_caller: false,
                    is_unread: false,
                };
                Ok((exchange, response))
            }
            Err(error) => {
                channel.discard();
                let message = format!("endpoint {}: {error}", upstream.address.text);
                Err(Error::new(ErrorKind::RefusedStream, message))
            }
        }
    }

    /// Take no further calls to this call's connection.
    pub fn discard_connection(&self) {
        self.channel.discard();
    }

    pub fn cursor(&mut self) -> &mut usize {
        &mut self.cursor
    }

    /// Send the request and wait for the answer's head.
    pub async fn response(
        &mut self,
        response: ResponseFuture,
        inbound: &mut Inbound,
        responder: &mut Responder,
        clock: &mut Clock<'_>,
    ) -> Result<Response<RecvStream>, Failure> {
        let mut response = pin!(response);
        poll_fn(|cx| {
            if let Poll::Ready(result) = response.as_mut().poll(cx) {
                return Poll::Ready(
                    result.map_err(|error| Failure::Endpoint(before_headers(&error))),
                );
            }
            if let Poll::Ready(Err(failure)) = self.poll_request(cx, inbound, clock) {
                return Poll::Ready(Err(failure));
            }
            if responder.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Failure::Caller(cancelled())));
            }
            clock
                .poll(cx, self.waits_for_caller)
                .map(|expired| Err(Failure::Expired(expired)))
        })
        .await
    }

    /// Pass the answer's body on, as it comes, and return its trailers.
    pub async fn relay(
        &mut self,
        mut body: RecvStream,
        mut framing: Frames,
        inbound: &mut Inbound,
        out: &mut SendStream<Bytes>,
        clock: &mut Clock<'_>,
        bytes: &mut usize,
    ) -> Result<Option<HeaderMap>, Failure> {
        poll_fn(|cx| {
            match self.poll_body(cx, &mut body, &mut framing, out, bytes, clock) {
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Ready(Ok(())) => {
                    let trailers = body.poll_trailers(cx);
                    if let Poll::Ready(result) = trailers {
                        return Poll::Ready(
                            result.map_err(|error| Failure::Endpoint(after_headers(&error))),
                        );
                    }
                }
                Poll::Pending => {}
            }
            if let Poll::Ready(Err(failure)) = self.poll_request(cx, inbound, clock) {
                return Poll::Ready(Err(failure));
            }
            if let Poll::Ready(Ok(_)) = out.poll_reset(cx) {
                return Poll::Ready(Err(Failure::Caller(cancelled())));
            }
            clock
                .poll(cx, self.waits_for_caller || self.is_unread)
                .map(|expired| Err(Failure::Expired(expired)))
        })
        .await
    }

    /// Forward the chunks that have come while the caller takes them. Ready when the body has ended.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RecvStream,
        framing: &mut Frames,
        out: &mut SendStream<Bytes>,
        bytes: &mut usize,
        clock: &mut Clock<'_>,
    ) -> Poll<Result<(), Failure>> {
        self.is_unread = false;
        loop {
            if *bytes > 0 {
                match has_capacity(cx, out) {
                    Ok(true) => {}
                    Ok(false) => {
                        self.is_unread = true;
                        return Poll::Pending;
                    }
                    Err(_) => return Poll::Ready(Err(Failure::Caller(cancelled()))),
                }
            }
            let chunk = match body.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) => chunk,
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(Failure::Endpoint(after_headers(&error))));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            };
            if let Err(error) = check_sizes(framing, &chunk) {
                return Poll::Ready(Err(Failure::Endpoint(error)));
            }
            clock.progress(chunk.len());
            // Taken as fast as the caller takes it: the window reopens only now.
            let _ = body.flow_control().release_capacity(chunk.len());
            *bytes += chunk.len();
            if out.send_data(chunk, false).is_err() {
                return Poll::Ready(Err(Failure::Caller(cancelled())));
            }
        }
    }

    /// Send what there is of the request. Ready when all of it is sent, or the endpoint takes no more (its
    /// response says why).
    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        inbound: &mut Inbound,
        clock: &mut Clock<'_>,
    ) -> Poll<Result<(), Failure>> {
        while let Some(send) = &mut self.send {
            self.waits_for_caller = false;
            if self.has_sent {
                match has_capacity(cx, send) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Pending,
                    Err(_) => {
                        self.send = None;
                        break;
                    }
                }
            }
            let (chunk, is_last) = match inbound.poll_next(cx, &mut self.cursor) {
                Poll::Ready(Ok(next)) => next,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::Caller(error))),
                Poll::Pending => {
                    self.waits_for_caller = true;
                    return Poll::Pending;
                }
            };
            clock.progress(chunk.len());
            self.has_sent = true;
            if send.send_data(chunk, is_last).is_err() || is_last {
                self.send = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Open a stream on a connection.
async fn send_head(
    channel: &Channel,
    request: Request<()>,
) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
    let mut request = Some(request);
    poll_fn(|cx| {
        let sender = &mut *channel.connection.sender.borrow_mut();
        let is_free = sender.poll_ready(cx);
        // Ready at the first poll, so the request is there.
        let request = request.take().unwrap_or_default();
        Poll::Ready(match is_free {
            Poll::Ready(Ok(())) => sender.send_request(request, false),
            // An earlier stream of this handle waits for the peer's stream limit; a clone queues behind it.
            Poll::Pending => sender.clone().send_request(request, false),
            Poll::Ready(Err(error)) => Err(error),
        })
    })
    .await
}

/// Whether one more chunk may be given to h2. Chunks are as small as frames, so that overshooting the window by
/// one keeps memory bounded, and nothing is split.
fn has_capacity(cx: &mut Context<'_>, send: &mut SendStream<Bytes>) -> Result<bool, h2::Error> {
    if send.capacity() > 0 {
        return Ok(true);
    }
    send.reserve_capacity(1);
    loop {
        match send.poll_capacity(cx) {
            Poll::Ready(Some(Ok(0))) => {}
            Poll::Ready(Some(Ok(_))) => return Ok(true),
            Poll::Ready(Some(Err(error))) => return Err(error),
            Poll::Ready(None) => return Err(Reason::CANCEL.into()),
            Poll::Pending => return Ok(false),
        }
    }
}

/// Walk the messages of a chunk: an answer beyond max_message_bytes is refused, and one that is malformed is the
/// endpoint's fault, not a bad request.
fn check_sizes(framing: &mut Frames, mut chunk: &[u8]) -> Result<(), Error> {
    loop {
        match framing.next(&mut chunk) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(error) if error.kind == ErrorKind::BadRequest => {
                return Err(Error::new(ErrorKind::BadUpstreamResponse, error.message));
            }
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the caller cancelled the call")
}

/// The endpoint failed before its response headers.
fn before_headers(error: &h2::Error) -> Error {
    let kind = if error.is_go_away() && error.is_remote() {
        // h2 gives this error to the streams above the GOAWAY's last stream id only: never processed.
        ErrorKind::RefusedStream
    } else if error.is_reset() {
        if error.reason() == Some(Reason::REFUSED_STREAM) {
            ErrorKind::RefusedStream
        } else {
            ErrorKind::StreamReset
        }
    } else {
        ErrorKind::ConnectionLost
    };
    Error::new(kind, error.to_string())
}

fn after_headers(error: &h2::Error) -> Error {
    let kind = if error.is_reset() {
        ErrorKind::StreamReset
    } else {
        ErrorKind::ConnectionLost
    };
    Error::new(kind, format!("the answer broke off: {error}"))
}
