//! One attempt at one endpoint: the request's bytes stream up, the answer's stream down.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use http::{HeaderMap, StatusCode};

use super::body::Inbound;
use super::clock::Clock;
use super::failure::{Failure, after_headers, before_headers, cancelled};
use super::listing::Completion;
use super::pool::{Channel, Upstream};
use crate::call::responder::Responder;
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::Frames;
use crate::net::stream::{Awaited, Body, Head, Sender};

/// A request on its way to an endpoint, and the answer on its way back.
pub struct Exchange {
    /// Counts the stream on its connection.
    channel: Channel,
    /// None once the request's end was sent, or can no longer be.
    send: Option<Sender>,
    /// The next chunk to send.
    cursor: usize,
    has_sent: bool,
    /// It is the caller that the request waits for.
    pub waits_for_caller: bool,
    /// Holds the answer back, where versions may have to be added to it.
    pub completion: Option<Completion>,
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
        head: Head,
    ) -> Result<(Self, Awaited), Error> {
        let channel = upstream.channel().await?;
        match channel.send(head).await {
            Ok((response, send)) => {
                let exchange = Self {
                    channel,
                    send: Some(send),
                    cursor: 0,
                    has_sent: false,
                    waits_for_caller: false,
                    completion: None,
                    is_unread: false,
                };
                Ok((exchange, response))
            }
            Err(broken) => {
                channel.discard();
                let message = format!("endpoint {}: {broken}", upstream.address.text);
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
        response: Awaited,
        inbound: &mut Inbound,
        responder: &mut Responder,
        clock: &mut Clock<'_>,
    ) -> Result<(StatusCode, HeaderMap, Body), Failure> {
        let mut response = pin!(response);
        poll_fn(|cx| {
            if let Poll::Ready(result) = response.as_mut().poll(cx) {
                return Poll::Ready(
                    result.map_err(|broken| Failure::Endpoint(before_headers(&broken))),
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
        mut body: Body,
        mut framing: Frames,
        inbound: &mut Inbound,
        out: &mut Sender,
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
                            result.map_err(|broken| Failure::Endpoint(after_headers(&broken))),
                        );
                    }
                }
                Poll::Pending => {}
            }
            if let Poll::Ready(Err(failure)) = self.poll_request(cx, inbound, clock) {
                return Poll::Ready(Err(failure));
            }
            if out.poll_reset(cx).is_ready() {
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
        body: &mut Body,
        framing: &mut Frames,
        out: &mut Sender,
        bytes: &mut usize,
        clock: &mut Clock<'_>,
    ) -> Poll<Result<(), Failure>> {
        self.is_unread = false;
        loop {
            if *bytes > 0 {
                match out.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::Caller(cancelled()))),
                    Poll::Pending => {
                        self.is_unread = true;
                        return Poll::Pending;
                    }
                }
            }
            let chunk = match body.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => chunk,
                Poll::Ready(Some(Err(broken))) => {
                    return Poll::Ready(Err(Failure::Endpoint(after_headers(&broken))));
                }
                Poll::Ready(None) => return Poll::Ready(self.complete(out, bytes)),
                Poll::Pending => return Poll::Pending,
            };
            if let Err(error) = check_sizes(framing, &chunk) {
                return Poll::Ready(Err(Failure::Endpoint(error)));
            }
            clock.progress(chunk.len());
            // Taken as fast as the caller takes it: the window reopens only now.
            body.release(chunk.len());
            if let Some(completion) = &mut self.completion {
                completion.push(&chunk);
                continue;
            }
            *bytes += chunk.len();
            if out.send(chunk, false).is_err() {
                return Poll::Ready(Err(Failure::Caller(cancelled())));
            }
        }
    }

    /// Forward the answer that was held back, if one was.
    fn complete(&mut self, out: &mut Sender, bytes: &mut usize) -> Result<(), Failure> {
        let Some(completion) = self.completion.take() else {
            return Ok(());
        };
        let answer = completion.finish();
        *bytes += answer.len();
        let sent = out.send(answer, false);
        sent.map_err(|_| Failure::Caller(cancelled()))
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
                match send.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => {
                        self.send = None;
                        break;
                    }
                    Poll::Pending => return Poll::Pending,
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
            if send.send(chunk, is_last).is_err() || is_last {
                self.send = None;
            }
        }
        Poll::Ready(Ok(()))
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
