//! One stream of a connection as the request path sees it: a head, a reader of chunks whose window opens as they are
//! used, and a sender that waits for the other side. Beside this folder only proxy/pool.rs knows the HTTP/2 library,
//! so that another transport need not touch the request path.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};

/// The largest window there is (RFC 9113#6.9.1).
pub const MAX_WINDOW: u32 = (1 << 31) - 1;

/// What a request begins with.
#[derive(Debug)]
pub struct Head {
    /// POST, of a gRPC call.
    pub verb: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
}

/// Why a stream broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The other side never processed it.
    Refused,
    /// The other side reset it.
    Reset,
    /// What the other side sent on it is against the rules, or its metadata is too large.
    Malformed,
    /// Its connection is gone.
    Lost,
}

/// A stream that broke off.
#[derive(Debug)]
pub struct Broken(h2::Error);

/// The bytes that come in on a stream, and its trailers.
#[derive(Debug)]
pub struct Body(RecvStream);

/// The bytes that go out on a stream. Dropped before the end, it resets the stream.
#[derive(Debug)]
pub struct Sender(SendStream<Bytes>);

/// The right to answer a request, once.
#[derive(Debug)]
pub struct Answer(SendResponse<Bytes>);

/// The head of an answer that is still to come.
#[derive(Debug)]
pub struct Awaited(ResponseFuture);

/// A request that came in.
pub(crate) fn split(
    (request, respond): (Request<RecvStream>, SendResponse<Bytes>),
) -> (Head, Body, Answer) {
    let (parts, body) = request.into_parts();
    let head = Head {
        verb: parts.method,
        uri: parts.uri,
        headers: parts.headers,
    };
    (head, Body(body), Answer(respond))
}

/// A request that goes out, and the answer to it.
pub(crate) fn joined((response, stream): (ResponseFuture, SendStream<Bytes>)) -> (Awaited, Sender) {
    (Awaited(response), Sender(stream))
}

// === impl Head ===

impl Head {
    /// All of `:path`: gRPC knows no queries, so one with a query is none of its paths.
    pub fn path(&self) -> &str {
        self.uri.path_and_query().map_or("", |it| it.as_str())
    }
}

impl From<Head> for Request<()> {
    fn from(head: Head) -> Self {
        let mut request = Self::new(());
        *request.method_mut() = head.verb;
        *request.uri_mut() = head.uri;
        *request.headers_mut() = head.headers;
        request
    }
}

// === impl Broken ===

impl Broken {
    /// Whether it is this stream that ended, and not its connection.
    pub fn is_reset(&self) -> bool {
        self.0.is_reset()
    }

    /// Whether the other side broke the rules so badly that its connection is gone.
    pub fn is_fatal(&self) -> bool {
        self.0.is_go_away() && self.0.is_library()
    }

    pub fn cause(&self) -> Cause {
        if self.0.is_go_away() && self.0.is_remote() {
            // h2 gives this error to the streams above the GOAWAY's last stream id only: never processed.
            Cause::Refused
        } else if self.0.is_reset() {
            match self.0.reason() {
                Some(Reason::REFUSED_STREAM) => Cause::Refused,
                _ if self.0.is_library() => Cause::Malformed,
                _ => Cause::Reset,
            }
        } else {
            Cause::Lost
        }
    }
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        Self(error)
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Body ===

impl Body {
    /// The next chunk; none at the end. The other side's window stays closed by it until it is
    /// [released](Self::release).
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        self.0
            .poll_data(cx)
            .map(|chunk| chunk.map(|chunk| chunk.map_err(Broken)))
    }

    /// As [`poll_chunk`](Self::poll_chunk).
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Broken>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The stream's number on its connection.
    pub fn number(&self) -> u32 {
        self.0.stream_id().as_u32()
    }

    /// Let the other side send so many bytes more.
    pub fn release(&mut self, bytes: usize) {
        // Fails only when the stream is gone, which the next read tells.
        let _ = self.0.flow_control().release_capacity(bytes);
    }

    /// Whether the last chunk has been taken.
    pub fn has_ended(&self) -> bool {
        self.0.is_end_stream()
    }

    /// The trailers, once all chunks have been taken.
    pub fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Broken>> {
        self.0.poll_trailers(cx).map_err(Broken)
    }
}

// === impl Sender ===

impl Sender {
    /// Ready when one more chunk may be sent. Chunks are as small as frames, so that overshooting the window by one
    /// keeps memory bounded, and nothing is split.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.0.capacity() > 0 {
            return Poll::Ready(Ok(()));
        }
        self.0.reserve_capacity(1);
        loop {
            match ready!(self.0.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(_)) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(Broken(error))),
                None => return Poll::Ready(Err(Broken(Reason::CANCEL.into()))),
            }
        }
    }

    /// Send one chunk, whatever the window; wait for [`poll_ready`](Self::poll_ready) before.
    pub fn send(&mut self, chunk: Bytes, is_last: bool) -> Result<(), Broken> {
        self.0.send_data(chunk, is_last).map_err(Broken)
    }

    /// Send bytes as the other side's window opens: what it does not read stays here, and does not pile up in the
    /// library's buffers.
    pub async fn send_all(&mut self, mut bytes: Bytes) -> Result<(), Broken> {
        self.0.reserve_capacity(bytes.len());
        while !bytes.is_empty() {
            match poll_fn(|cx| self.0.poll_capacity(cx)).await {
                Some(Ok(room)) => self.send(bytes.split_to(room.min(bytes.len())), false)?,
                Some(Err(error)) => return Err(Broken(error)),
                None => return Err(Broken(Reason::CANCEL.into())),
            }
        }
        Ok(())
    }

    /// End the stream.
    pub fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Broken> {
        self.0.send_trailers(trailers).map_err(Broken)
    }

    /// End the stream at once, in the midst of whatever it was sending.
    pub fn reset(&mut self) {
        self.0.send_reset(Reason::CANCEL);
    }

    /// Ready when the other side has given the stream up, or is gone.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_reset(cx).map(drop)
    }
}

// === impl Answer ===

impl Answer {
    /// Ready when the other side has given the call up before an answer, or is gone.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_reset(cx).map(drop)
    }

    /// Send the head of an answer; what follows goes to what this returns.
    pub fn begin(&mut self, headers: HeaderMap) -> Result<Sender, Broken> {
        let sender = self.0.send_response(response(headers), false);
        sender.map(Sender).map_err(Broken)
    }

    /// Answer with headers and nothing else.
    pub fn finish(&mut self, headers: HeaderMap) -> Result<(), Broken> {
        let sent = self.0.send_response(response(headers), true);
        sent.map(drop).map_err(Broken)
    }
}

fn response(headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.headers_mut() = headers;
    response
}

// === impl Awaited ===

impl Future for Awaited {
    type Output = Result<(StatusCode, HeaderMap, Body), Broken>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (parts, body) = ready!(Pin::new(&mut self.0).poll(cx))?.into_parts();
        Poll::Ready(Ok((parts.status, parts.headers, Body(body))))
    }
}
