//! The stand-in endpoint: an HTTP/2 server on one thread that answers any unary gRPC call with the same
//! bytes, or with the request's (of a stream while it comes), and misbehaves as [`crate::fault`] says.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::broken;
use crate::fault::{Command, Event, Mode};
use crate::socket::{Listener, Stream};
use crate::station::{Served, Station};

/// gRPC's RESOURCE_EXHAUSTED.
const FULL: u16 = 8;
/// gRPC's UNIMPLEMENTED, and what it is answered to.
const UNIMPLEMENTED: u16 = 12;
/// How the path of a method ends whose messages are answered one by one.
const STREAM: &str = "StreamInfer";
const HEALTH: &str = "/grpc.health.v1.Health/";
/// Metadata that says what a call is: its class, its cost (1: ordinary), and a code to answer it with.
const CLASS: &str = "bench-class";
const COST: &str = "bench-cost";
const CODE: &str = "bench-code";

/// What is answered to a call that nothing is done to.
pub enum Reply {
    /// These bytes, gRPC prefix included.
    Fixed(Bytes),
    /// The request's body, chunk by chunk.
    Echo,
}

/// One endpoint: its addresses share mode and counters.
pub struct Endpoint {
    mode: Cell<Mode>,
    /// Whom the mode strikes: a class (none: all), and the share of its calls.
    only: RefCell<(Option<String>, f64)>,
    station: Station,
    signal: watch::Sender<Option<Event>>,
    reply: Reply,
    headers: HeaderMap,
    trailers: HeaderMap,
    calls: Cell<u64>,
    connections: Cell<u64>,
}

type Body = Vec<Bytes>;

// === impl Reply ===

impl Reply {
    /// A gRPC message of this many bytes: one unknown protobuf field, so that every message type parses it.
    #[must_use]
    pub fn of_size(bytes: usize) -> Reply {
        let mut body = BytesMut::with_capacity(bytes + 5);
        body.extend_from_slice(&[0]);
        body.extend_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes());
        // Field 15 (0x7a) is used by no message that we serve; a message too short for it stays empty bytes.
        let content = bytes.saturating_sub(6);
        if bytes >= 6 {
            body.extend_from_slice(&[0x7a]);
            let mut rest = content;
            for _ in 0..4 {
                body.extend_from_slice(&[(rest & 0x7f) as u8 | 0x80]);
                rest >>= 7;
            }
            body.extend_from_slice(&[(rest & 0x7f) as u8]);
        }
        body.resize(bytes + 5, if bytes >= 6 { b'.' } else { 0 });
        Reply::Fixed(body.freeze())
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// Describe an endpoint; nothing runs yet. `name` is sent in the response header `endpoint-name`.
    #[must_use]
    pub fn new(
        mode: Mode,
        station: Station,
        reply: Reply,
        name: Option<HeaderValue>,
    ) -> Rc<Endpoint> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        if let Some(name) = name {
            headers.insert("endpoint-name", name);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Rc::new(Endpoint {
            mode: Cell::new(mode),
            only: RefCell::new((None, 1.0)),
            station,
            signal: watch::Sender::new(None),
            reply,
            headers,
            trailers,
            calls: Cell::new(0),
            connections: Cell::new(0),
        })
    }

    /// Apply a command; when this returns, the next call sees it.
    pub fn obey(&self, command: Command) {
        let event = match command {
            Command::Mode(mode) => {
                self.mode.set(mode);
                match mode {
                    Mode::Close | Mode::Garbage | Mode::Unlisten => Some(Event::Reset),
                    Mode::HalfClose => Some(Event::HalfClose),
                    Mode::Restart => Some(Event::Goaway),
                    // Wakes a listener that waits to bind again.
                    _ => None,
                }
            }
            Command::Event(event) => Some(event),
            Command::Only(class, share) => {
                self.only.replace((class, share));
                return;
            }
            Command::Pace(factor, add_ms) => return self.station.set_pace(factor, add_ms),
        };
        self.signal.send_replace(event);
    }

    /// (calls, connections) since the start.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.calls.get(), self.connections.get())
    }

    /// Accept on one address until an accept fails.
    ///
    /// # Errors
    /// As the system reports them.
    pub async fn listen(self: Rc<Self>, listener: Listener) -> io::Result<()> {
        let address = listener.address()?;
        let mut listener = Some(listener);
        let mut signal = self.signal.subscribe();
        loop {
            if matches!(self.mode.get(), Mode::Unlisten | Mode::Restart) {
                listener = None;
                // The sender lives in self, so this cannot fail.
                let _ = signal.changed().await;
                continue;
            }
            let open = match listener.take() {
                Some(open) => open,
                None => Listener::bind(&address).await?,
            };
            tokio::select! {
                accepted = open.accept() => self.clone().take(accepted?),
                _ = signal.changed() => {}
            }
            listener = Some(open);
        }
    }

    fn take(self: Rc<Self>, stream: Stream) {
        self.connections.set(self.connections.get() + 1);
        spawn_local(async move {
            match self.mode.get() {
                Mode::Close => broken::reset(stream),
                Mode::Garbage => broken::garbage(stream).await,
                Mode::HalfClose => {
                    if let Ok(socket) = stream.resetter() {
                        broken::half_close(socket, self.signal.subscribe()).await;
                    }
                }
                _ => self.serve(stream).await,
            }
        });
    }

    /// Serve one connection. Its errors are the test's own doing, or the other side's.
    async fn serve(self: Rc<Self>, stream: Stream) {
        let Ok(resetter) = stream.resetter() else {
            return;
        };
        let mut signal = self.signal.subscribe();
        let Ok(mut connection) = builder().handshake(stream).await else {
            return;
        };
        let mut calls = 0;
        loop {
            tokio::select! {
                biased;
                accepted = connection.accept() => match accepted {
                    // It offers no health, and a question for it is none of the calls that are counted.
                    Some(Ok((request, respond))) if request.uri().path().starts_with(HEALTH) => {
                        let _ = self.refuse(respond, UNIMPLEMENTED);
                    }
                    Some(Ok((request, respond))) => {
                        calls += 1;
                        self.calls.set(self.calls.get() + 1);
                        if self.mode.get() == Mode::GoawayEvery(calls) {
                            connection.graceful_shutdown();
                        }
                        spawn_local(self.clone().call(request, respond));
                    }
                    _ => return,
                },
                _ = signal.changed() => {
                    let event = *signal.borrow_and_update();
                    if event == Some(Event::HalfClose) {
                        return broken::half_close(resetter, signal).await;
                    }
                    if !self.happen(event, &mut connection) {
                        // A failure here leaves an orderly end in place of the reset.
                        let _ = resetter.arm();
                        return;
                    }
                }
            }
        }
    }

    /// Do what was commanded to one connection; false when it is to be reset.
    fn happen(&self, event: Option<Event>, connection: &mut Connection<Stream, Bytes>) -> bool {
        match event {
            None => {}
            Some(Event::Goaway) => connection.graceful_shutdown(),
            Some(Event::GoawayNow) => connection.abrupt_shutdown(Reason::NO_ERROR),
            Some(Event::Reset | Event::HalfClose) => return false,
        }
        true
    }

    /// Answer one call. Errors mean that the caller or its connection is gone.
    async fn call(self: Rc<Self>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (head, body) = request.into_parts();
        let mode = self.mode_of(&head.headers);
        if mode == Mode::Refuse {
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        let answers = matches!(mode, Mode::Ok | Mode::GoawayEvery(_));
        if answers && head.uri.path().ends_with(STREAM) && matches!(self.reply, Reply::Echo) {
            let _ = self.converse(body, respond).await;
            return;
        }
        let Ok(body) = self.read(body).await else {
            return;
        };
        let _ = match mode {
            Mode::Rst => {
                respond.send_reset(Reason::INTERNAL_ERROR);
                Ok(())
            }
            Mode::Hang => {
                // Until the caller resets the call or the connection goes.
                poll_fn(|cx| respond.poll_reset(cx)).await.map(|_| ())
            }
            Mode::HangHeaders => self.hang_after_headers(respond).await,
            Mode::Slow(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                self.reply(respond, body, Some(self.trailers.clone()))
            }
            Mode::Status(code, after_ms) => {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                self.refuse(respond, code)
            }
            Mode::Http(status) => http_status(respond, status),
            Mode::NoStatus => self.reply(respond, body, None),
            Mode::Half => self.half(respond, &body).await,
            _ => self.work(&head.headers, respond, body).await,
        };
    }

    /// Give back each chunk of a stream as it comes, as fast as the caller takes it.
    async fn converse(
        &self,
        mut body: RecvStream,
        mut respond: SendResponse<Bytes>,
    ) -> Result<(), h2::Error> {
        let mut stream = respond.send_response(self.head(), false)?;
        while let Some(chunk) = body.data().await {
            let mut chunk = chunk?;
            let length = chunk.len();
            while !chunk.is_empty() {
                stream.reserve_capacity(chunk.len());
                let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
                    return Ok(());
                };
                stream.send_data(chunk.split_to(room?.min(chunk.len())), false)?;
            }
            body.flow_control().release_capacity(length)?;
        }
        stream.send_trailers(self.trailers.clone())
    }

    /// The mode for one call.
    fn mode_of(&self, metadata: &HeaderMap) -> Mode {
        let (class, share) = &*self.only.borrow();
        let is_meant = class.as_ref().is_none_or(|class| {
            metadata.get(CLASS).map(HeaderValue::as_bytes) == Some(class.as_bytes())
        });
        if is_meant && (*share >= 1.0 || fastrand::f64() < *share) {
            self.mode.get()
        } else {
            Mode::Ok
        }
    }

    /// Do what a call asks for, in a slot, and answer it.
    async fn work(
        &self,
        metadata: &HeaderMap,
        mut respond: SendResponse<Bytes>,
        body: Body,
    ) -> Result<(), h2::Error> {
        if let Some(code) = number(metadata, CODE) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            return self.refuse(respond, code);
        }
        let cost = number(metadata, COST).unwrap_or(1.0);
        match self.station.serve(cost, &mut respond).await {
            Served::Done => self.reply(respond, body, Some(self.trailers.clone())),
            Served::Full => self.refuse(respond, FULL),
            Served::Gone => Ok(()),
        }
    }

    async fn hang_after_headers(&self, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
        let mut stream = respond.send_response(self.head(), false)?;
        poll_fn(|cx| stream.poll_reset(cx)).await.map(|_| ())
    }

    /// Take the whole request, as a server that decodes it does.
    async fn read(&self, mut stream: RecvStream) -> Result<Body, h2::Error> {
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.data().await {
            let chunk = chunk?;
            stream.flow_control().release_capacity(chunk.len())?;
            if matches!(self.reply, Reply::Echo) {
                chunks.push(chunk);
            }
        }
        if let Reply::Fixed(bytes) = &self.reply {
            chunks.push(bytes.clone());
        }
        Ok(chunks)
    }

    fn head(&self) -> Response<()> {
        let mut response = Response::new(());
        response.headers_mut().clone_from(&self.headers);
        response
    }

    fn reply(
        &self,
        mut respond: SendResponse<Bytes>,
        body: Body,
        trailers: Option<HeaderMap>,
    ) -> Result<(), h2::Error> {
        let mut stream = respond.send_response(self.head(), false)?;
        for chunk in body {
            stream.send_data(chunk, false)?;
        }
        match trailers {
            Some(trailers) => stream.send_trailers(trailers),
            None => stream.send_data(Bytes::new(), true),
        }
    }

    /// Headers and half of the message; the reset waits until they are on their way.
    async fn half(
        &self,
        mut respond: SendResponse<Bytes>,
        body: &[Bytes],
    ) -> Result<(), h2::Error> {
        let mut stream = respond.send_response(self.head(), false)?;
        let whole: usize = body.iter().map(Bytes::len).sum();
        if let Some(first) = body.first() {
            stream.send_data(first.slice(..first.len().min(whole / 2)), false)?;
        }
        // h2 drops what is queued when a stream is reset: 10 ms let the connection write it.
        tokio::time::sleep(Duration::from_millis(10)).await;
        stream.send_reset(Reason::INTERNAL_ERROR);
        Ok(())
    }

    fn refuse(&self, mut respond: SendResponse<Bytes>, code: u16) -> Result<(), h2::Error> {
        let mut response = self.head();
        response
            .headers_mut()
            .insert("grpc-status", HeaderValue::from(code));
        respond.send_response(response, true).map(|_| ())
    }
}

fn number<T: std::str::FromStr>(metadata: &HeaderMap, name: &str) -> Option<T> {
    metadata.get(name)?.to_str().ok()?.parse().ok()
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // Large enough that no benchmark waits for a window; frames stay at HTTP/2's own default.
    builder
        .initial_window_size(8 << 20)
        .initial_connection_window_size(64 << 20)
        .max_concurrent_streams(4096)
        // Time-outs reset calls that we never accepted; h2's 20 would end the connection.
        .max_pending_accept_reset_streams(4096)
        .max_local_error_reset_streams(None);
    builder
}

fn http_status(mut respond: SendResponse<Bytes>, status: u16) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    respond.send_response(response, true).map(|_| ())
}
