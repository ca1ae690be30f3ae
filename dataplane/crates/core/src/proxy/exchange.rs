//! One attempt at one endpoint: the request's bytes stream up, the answer's stream down.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::StatusCode;

use super::body::Inbound;
use super::clock::Clock;
use super::failure::{Failure, before_headers, cancelled, metadata_too_large};
use super::pool::{Channel, Upstream};
use super::relay::Relay;
use crate::call::responder::Responder;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::{ACCESS_ERROR, ACCESS_ERROR_NUMBER};
use crate::grpc::status::{GRPC_MESSAGE, GRPC_STATUS, parse_grpc_status};
use crate::headers::{Headers, Token};
use crate::net::stream::{Awaited, Body, Sender};

/// What says how a call ended.
const OF_STATUS: [Token; 5] = [
    Token::CONTENT_TYPE,
    GRPC_STATUS,
    GRPC_MESSAGE,
    ACCESS_ERROR,
    ACCESS_ERROR_NUMBER,
];

/// The head of an answer, and the body that follows.
pub type Answering = (StatusCode, Headers, Body);

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
    /// The caller does not take the answer: what it was sent last is still here.
    pub is_unread: bool,
}

// === impl Exchange ===

impl Exchange {
    /// Open a stream to the endpoint and send the request's head, which is made when there is room for it.
    ///
    /// # Errors
    /// `connect_failed`, or `refused_stream` when the connection takes no new stream: nothing was sent then.
    pub async fn open(
        upstream: &std::rc::Rc<Upstream>,
        head: impl FnOnce() -> Headers,
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
        mut response: Awaited,
        inbound: &mut Inbound,
        responder: &mut Responder,
        clock: &mut Clock<'_>,
    ) -> Result<Answering, Failure> {
        poll_fn(|cx| {
            let answer = self.poll_response(cx, &mut response, inbound, clock);
            if answer.is_ready() {
                return answer;
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

    /// Ready when the answer's head has come, or the attempt has failed. Sends the request meanwhile.
    pub fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut Awaited,
        inbound: &mut Inbound,
        clock: &mut Clock<'_>,
    ) -> Poll<Result<Answering, Failure>> {
        if let Poll::Ready(result) = Pin::new(response).poll(cx) {
            return Poll::Ready(result.map_err(|broken| before_headers(&broken)));
        }
        match self.poll_request(cx, inbound, clock) {
            Poll::Ready(Err(failure)) => Poll::Ready(Err(failure)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Pass the answer's body on, as it comes, and return its trailers.
    pub async fn relay(
        &mut self,
        mut relay: Relay<'_>,
        inbound: &mut Inbound,
        clock: &mut Clock<'_>,
    ) -> Result<Option<Headers>, Failure> {
        poll_fn(|cx| {
            let mut passed = relay.poll(cx, clock);
            self.is_unread = relay.is_unread;
            if let Poll::Ready(Ok(Some(trailers))) = &mut passed
                && let Err(failure) = self.complete(relay.stream(), trailers)
            {
                return Poll::Ready(Err(failure));
            }
            if passed.is_ready() {
                return passed;
            }
            if let Poll::Ready(Err(failure)) = self.poll_request(cx, inbound, clock) {
                return Poll::Ready(Err(failure));
            }
            if relay.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Failure::Caller(cancelled())));
            }
            clock
                .poll(cx, self.waits_for_caller || self.is_unread)
                .map(|expired| Err(Failure::Expired(expired)))
        })
        .await
    }

    /// Judge metadata that end an answer, of which a part may be missing: an error stays the error that it is.
    pub fn complete(&self, stream: u32, ended: &mut Headers) -> Result<(), Failure> {
        let Some(limit) = self.channel.exceeded_metadata(stream) else {
            return Ok(());
        };
        match parse_grpc_status(ended) {
            None | Some(Code::Ok) => Err(Failure::Endpoint(metadata_too_large(limit))),
            Some(_) => {
                // Of the rest only a part is there.
                ended.retain(|it| it.token.is_some_and(|token| OF_STATUS.contains(&token)));
                if !ended.has(GRPC_MESSAGE) {
                    let text = format!(
                        "(the endpoint's text, or what came before it, is over {limit} bytes: \
                         limits.max_metadata_bytes)"
                    );
                    ended.push(GRPC_MESSAGE, text);
                }
                Ok(())
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
                match send.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => {
                        self.send = None;
                        break;
                    }
                    Poll::Pending => {
                        inbound.wait(cx);
                        return Poll::Pending;
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
            if send.send(chunk, is_last).is_err() || is_last {
                self.send = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}
