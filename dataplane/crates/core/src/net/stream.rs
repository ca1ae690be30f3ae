//! One stream of a connection as the request path sees it: a head, a reader of chunks whose window opens as they are
//! used, and a sender that waits for the other side. It is a stream of HTTP/2, a request of HTTP/1, or a call that this
//! process makes to itself. Beside this folder only proxy/pool.rs knows the HTTP/2 engine, so that another transport need
//! not touch the request path.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use dl_http2::{By, Code};
use http::{Method, StatusCode};
use hyper::body::{Body as _, Incoming};

use super::http2::{Ended, Handle};
use super::pipe::{Gone, Writing};
use crate::headers::{Headers, Token};

/// The largest window there is (RFC 9113#6.9.1).
pub const MAX_WINDOW: u32 = dl_http2::MAX_WINDOW;
/// Bytes that a stream takes at once of many.
const PIECE: usize = 64 * 1024;
/// Bytes of the longest content type that a request keeps which is one too many.
const MOST_KIND: usize = 256;

/// What a request begins with.
#[derive(Debug)]
pub struct Head {
    /// POST, of a gRPC call.
    pub verb: Method,
    /// All of `:path`.
    pub path: Box<str>,
    pub headers: Headers,
    /// Its metadata went beyond the limit: not all of it is here.
    pub is_cut: bool,
    /// The calls on its connection have more metadata than they may have together: it is [put off](Self::put_off).
    pub is_crowded: bool,
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
pub struct Broken(Break);

#[derive(Debug)]
enum Break {
    Http2(Ended),
    Http1(hyper::Error),
    /// The task at the other end of a pipe.
    Pipe,
}

/// The bytes that come in on a stream, and its trailers.
#[derive(Debug)]
pub struct Body(Source);

#[derive(Debug)]
enum Source {
    Http2(Reader),
    Http1(Incoming),
    /// Of a call that this process makes to itself.
    Ready(Option<Bytes>),
}

/// The bytes that go out on a stream. Dropped before the end, it resets the stream.
#[derive(Debug)]
pub struct Sender(Sink);

#[derive(Debug)]
enum Sink {
    Http2(Rc<Handle>),
    Pipe(Writing),
}

/// The right to answer a request, once.
#[derive(Debug)]
pub struct Answer(Respond);

#[derive(Debug)]
enum Respond {
    Http2(Rc<Handle>),
    /// None once the answer has begun.
    Pipe(Option<Writing>),
}

/// The head of an answer that is still to come.
#[derive(Debug)]
pub struct Awaited(Rc<Handle>);

/// Lets what still comes go when nobody reads it any more.
#[derive(Debug)]
struct Reader(Rc<Handle>);

/// The body of a request that came in, and the right to answer it.
pub(crate) fn split(handle: Rc<Handle>) -> (Body, Answer) {
    let body = Body(Source::Http2(Reader(handle.clone())));
    (body, Answer(Respond::Http2(handle)))
}

/// A request that goes out, and the answer to it.
pub(crate) fn joined(handle: Rc<Handle>) -> (Awaited, Sender) {
    let sender = Sender(Sink::Http2(handle.clone()));
    (Awaited(handle), sender)
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.stop_reading();
    }
}

// === impl Head ===

impl Head {
    /// Drop the metadata of a request that is one too many on its connection, once it is known whose it is. What is left is
    /// enough to refuse it in its own form.
    pub fn put_off(&mut self) {
        if self.is_crowded {
            let kind = self.headers.get(Token::CONTENT_TYPE);
            let kind = kind.filter(|kind| kind.len() <= MOST_KIND);
            self.headers = Headers::from_iter(kind.map(|kind| (Token::CONTENT_TYPE, kind)));
        }
    }

    /// The path without its query, which HTTP has and gRPC has not.
    pub fn path_alone(&self) -> &str {
        without_query(&self.path)
    }

    pub fn query(&self) -> Option<&str> {
        self.path.split_once('?').map(|(_, query)| query)
    }
}

/// A path without its query.
pub fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

// === impl Broken ===

impl Broken {
    /// Whether it is this stream that ended, and not its connection.
    pub fn is_reset(&self) -> bool {
        match &self.0 {
            Break::Http2(ended) => matches!(ended, Ended::Reset { .. }),
            Break::Http1(_) => false,
            Break::Pipe => true,
        }
    }

    /// Whether the other side reset it with CANCEL.
    pub fn is_cancel(&self) -> bool {
        matches!(&self.0, Break::Http2(Ended::Reset { by: By::Peer, code }) if *code == Code::CANCEL)
    }

    /// Whether the other side broke the rules so badly that its connection is gone.
    pub fn is_fatal(&self) -> bool {
        matches!(self.0, Break::Http2(Ended::Fatal { .. }))
    }

    pub fn cause(&self) -> Cause {
        match &self.0 {
            Break::Http2(Ended::Refused) => Cause::Refused,
            Break::Http2(Ended::Reset { by: By::Us(_), .. }) => Cause::Malformed,
            Break::Http2(Ended::Reset { code, .. }) if *code == Code::REFUSED_STREAM => {
                Cause::Refused
            }
            Break::Http2(Ended::Reset { .. }) | Break::Pipe => Cause::Reset,
            Break::Http2(Ended::Lost | Ended::Fatal { .. }) => Cause::Lost,
            Break::Http1(error) if error.is_parse() || is_invalid(error) => Cause::Malformed,
            Break::Http1(_) => Cause::Lost,
        }
    }
}

/// Whether it is the bytes of a body that are wrong, and not their end that is missing.
fn is_invalid(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|it| it.downcast_ref::<io::Error>());
    source.is_some_and(|it| matches!(it.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData))
}

impl From<Ended> for Broken {
    fn from(ended: Ended) -> Self {
        Self(Break::Http2(ended))
    }
}

impl From<Gone> for Broken {
    fn from(_: Gone) -> Self {
        Self(Break::Pipe)
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Break::Http2(ended) => ended.fmt(f),
            Break::Http1(error) => error.fmt(f),
            Break::Pipe => f.write_str("the other end is gone"),
        }
    }
}

// === impl Body ===

impl Body {
    /// The body of a request of HTTP/1.
    pub(crate) fn http1(body: Incoming) -> Self {
        Self(Source::Http1(body))
    }

    /// A body that is there already.
    pub fn ready(bytes: Bytes) -> Self {
        Self(Source::Ready(Some(bytes)))
    }

    /// The next chunk; none at the end. The other side's window stays closed by it until it is
    /// [released](Self::release).
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        match &mut self.0 {
            Source::Http2(body) => {
                let chunk = ready!(body.0.poll_chunk(cx));
                Poll::Ready(chunk.map(|chunk| chunk.map_err(Broken::from)))
            }
            Source::Http1(body) => loop {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                match frame.transpose() {
                    Ok(None) => return Poll::Ready(None),
                    // Trailers of a request say nothing that is asked for.
                    Ok(Some(frame)) => {
                        if let Ok(chunk) = frame.into_data() {
                            return Poll::Ready(Some(Ok(chunk)));
                        }
                    }
                    Err(error) => return Poll::Ready(Some(Err(Broken(Break::Http1(error))))),
                }
            },
            Source::Ready(bytes) => Poll::Ready(bytes.take().map(Ok)),
        }
    }

    /// As [`poll_chunk`](Self::poll_chunk).
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Broken>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The stream's number on its connection of HTTP/2; 0 without one.
    pub fn number(&self) -> u32 {
        match &self.0 {
            Source::Http2(body) => body.0.key().id,
            Source::Http1(_) | Source::Ready(_) => 0,
        }
    }

    /// Let the other side send so many bytes more.
    pub fn release(&mut self, bytes: usize) {
        if let Source::Http2(body) = &mut self.0 {
            body.0.release(bytes);
        }
    }

    /// Whether the last chunk has been taken.
    pub fn has_ended(&self) -> bool {
        match &self.0 {
            Source::Http2(body) => body.0.has_ended(),
            Source::Http1(body) => body.is_end_stream(),
            Source::Ready(bytes) => bytes.is_none(),
        }
    }

    /// The trailers, once all chunks have been taken.
    pub fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Headers>, Broken>> {
        match &mut self.0 {
            Source::Http2(body) => body.0.poll_trailers(cx).map_err(Broken::from),
            Source::Http1(_) | Source::Ready(_) => Poll::Ready(Ok(None)),
        }
    }
}

// === impl Sender ===

impl Sender {
    /// Ready when one more chunk may be sent: nothing waits, and the window is open. Chunks are about as small as frames,
    /// so that overshooting the window by one keeps memory bounded.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match &mut self.0 {
            Sink::Http2(stream) => stream.poll_room(cx).map_err(Broken::from),
            Sink::Pipe(pipe) => pipe.poll_ready(cx).map_err(Broken::from),
        }
    }

    /// Send one chunk, whatever the window; wait for [`poll_ready`](Self::poll_ready) before.
    pub fn send(&mut self, chunk: Bytes, is_last: bool) -> Result<(), Broken> {
        match &mut self.0 {
            Sink::Http2(stream) => stream.send(chunk, is_last).map_err(Broken::from),
            Sink::Pipe(pipe) => pipe.send(chunk, is_last).map_err(Broken::from),
        }
    }

    /// Send bytes as the other side's window opens: what it does not read stays here, and does not pile up in the
    /// connection.
    pub async fn send_all(&mut self, mut bytes: Bytes) -> Result<(), Broken> {
        while !bytes.is_empty() {
            poll_fn(|cx| self.poll_ready(cx)).await?;
            let piece = match &self.0 {
                Sink::Http2(_) => bytes.split_to(bytes.len().min(PIECE)),
                Sink::Pipe(_) => std::mem::take(&mut bytes),
            };
            self.send(piece, false)?;
        }
        Ok(())
    }

    /// End the stream.
    pub fn trailers(&mut self, trailers: Headers) -> Result<(), Broken> {
        match &mut self.0 {
            Sink::Http2(stream) => stream.trailers(trailers).map_err(Broken::from),
            Sink::Pipe(pipe) => pipe.trailers(trailers).map_err(Broken::from),
        }
    }

    /// End the stream at once, in the midst of whatever it was sending.
    pub fn reset(&mut self) {
        match &mut self.0 {
            Sink::Http2(stream) => stream.reset(Code::CANCEL),
            Sink::Pipe(pipe) => pipe.reset(),
        }
    }

    /// Ready when the other side has given the stream up, or is gone.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Sink::Http2(stream) => stream.poll_reset(cx),
            Sink::Pipe(pipe) => pipe.poll_reset(cx),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// An answer that another task of this thread reads.
    pub fn piped(pipe: Writing) -> Self {
        Self(Respond::Pipe(Some(pipe)))
    }

    /// Whether the other side speaks HTTP/2, which gRPC needs.
    pub fn is_http2(&self) -> bool {
        matches!(self.0, Respond::Http2(_))
    }

    /// Ready when the other side has given the call up before an answer, or is gone.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Respond::Http2(stream) => stream.poll_reset(cx),
            Respond::Pipe(Some(pipe)) => pipe.poll_reset(cx),
            Respond::Pipe(None) => Poll::Pending,
        }
    }

    /// Send the head of an answer; what follows goes to what this returns.
    pub fn begin(&mut self, headers: Headers) -> Result<Sender, Broken> {
        self.begin_with(StatusCode::OK, headers)
    }

    /// As [`begin`](Self::begin), with a status of HTTP.
    pub fn begin_with(&mut self, status: StatusCode, headers: Headers) -> Result<Sender, Broken> {
        match &mut self.0 {
            Respond::Http2(stream) => {
                stream.send_head(status, headers, false)?;
                Ok(Sender(Sink::Http2(stream.clone())))
            }
            Respond::Pipe(pipe) => {
                let pipe = pipe.take().ok_or(Gone)?;
                pipe.head(status, headers, false)?;
                Ok(Sender(Sink::Pipe(pipe)))
            }
        }
    }

    /// Answer with headers and nothing else.
    pub fn finish(&mut self, headers: Headers) -> Result<(), Broken> {
        self.finish_with(StatusCode::OK, headers)
    }

    /// As [`finish`](Self::finish), with a status of HTTP.
    pub fn finish_with(&mut self, status: StatusCode, headers: Headers) -> Result<(), Broken> {
        match &mut self.0 {
            Respond::Http2(stream) => {
                stream.send_head(status, headers, true)?;
            }
            Respond::Pipe(pipe) => pipe.take().ok_or(Gone)?.head(status, headers, true)?,
        }
        Ok(())
    }
}

// === impl Awaited ===

impl Future for Awaited {
    type Output = Result<(StatusCode, Headers, Body), Broken>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (status, headers) = ready!(self.0.poll_head(cx))?;
        let body = Body(Source::Http2(Reader(self.0.clone())));
        Poll::Ready(Ok((status, headers, body)))
    }
}
