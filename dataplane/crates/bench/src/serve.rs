//! The stand-in endpoint: an HTTP/2 server on one thread that answers any unary gRPC call with the same
//! bytes, or with the request's, and misbehaves as [`crate::fault`] says.

use std::cell::Cell;
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

use crate::fault::{Command, Event, Mode};
use crate::socket::{Listener, Stream};

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
    pub fn new(mode: Mode, reply: Reply, name: Option<HeaderValue>) -> Rc<Endpoint> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        if let Some(name) = name {
            headers.insert("endpoint-name", name);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Rc::new(Endpoint {
            mode: Cell::new(mode),
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
                    // Wakes a listener that waits to bind again.
                    _ => None,
                }
            }
            Command::Event(event) => Some(event),
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
            if self.mode.get() == Mode::Unlisten {
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
                Mode::Close => reset(stream),
                Mode::Garbage => garbage(stream).await,
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
            Some(Event::Reset) => return false,
        }
        true
    }

    /// Answer one call. Errors mean that the caller or its connection is gone.
    async fn call(self: Rc<Self>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        if self.mode.get() == Mode::Refuse {
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        let Ok(body) = self.read(request.into_body()).await else {
            return;
        };
        let _ = match self.mode.get() {
            Mode::Rst => {
                respond.send_reset(Reason::INTERNAL_ERROR);
                Ok(())
            }
            Mode::Hang => {
                // Until the caller resets the call or the connection goes.
                poll_fn(|cx| respond.poll_reset(cx)).await.map(|_| ())
            }
            Mode::Slow(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                self.reply(respond, body, Some(self.trailers.clone()))
            }
            Mode::Status(code) => self.refuse(respond, code),
            Mode::Http(status) => http_status(respond, status),
            Mode::NoStatus => self.reply(respond, body, None),
            Mode::Half => self.half(respond, &body).await,
            _ => self.reply(respond, body, Some(self.trailers.clone())),
        };
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

fn reset(stream: Stream) {
    if let Ok(resetter) = stream.resetter() {
        // A failure leaves an orderly end in place of the reset.
        let _ = resetter.arm();
    }
}

async fn garbage(mut stream: Stream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // No frame of this type and length is legal; the other side may be gone already.
    if stream.write_all(&[0xa5; 4096]).await.is_ok() {
        // Its own bytes are read so that our close is no reset, which could overtake the garbage.
        let mut ignored = [0; 4096];
        while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
    }
}
