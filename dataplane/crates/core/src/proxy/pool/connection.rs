//! One HTTP/2 connection to an endpoint: the handshake, its streams, and the task that drives it to its end.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{self, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use crate::config::{ProxyConfig, UpstreamLimits};
use crate::net::answers::{AnswerState, Answers, Stuck};
use crate::net::buffered::{Buffered, Flush, buffered};
use crate::net::stream::{self, Awaited, Broken, Head, MAX_WINDOW, Sender};
use crate::net::tls::handshake_error;

/// One connection, as its users see it.
pub struct Connection {
    sender: RefCell<SendRequest<Bytes>>,
    streams: Cell<usize>,
    answers: Rc<AnswerState>,
}

/// What a connection needs to go on.
pub struct Driver<T> {
    http2: client::Connection<Answers<Buffered<T>>, Bytes>,
    flush: Flush<T>,
    stuck: Stuck,
    limits: UpstreamLimits,
}

// === impl Connection ===

impl Connection {
    /// Shake hands over a connected socket.
    ///
    /// # Errors
    /// The socket's error, or the peer's.
    pub async fn open<T>(io: T, config: &ProxyConfig) -> io::Result<(Rc<Self>, Driver<T>)>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let limits = &config.limits;
        let (io, flush) = buffered(io);
        let (io, answers) = Answers::new(io, limits.max_metadata_bytes);
        let patience = Duration::from_millis(config.upstream.keepalive_timeout_ms);
        let (sender, mut http2) = client::Builder::new()
            .initial_max_send_streams(0)
            .initial_window_size(config.upstream.stream_window_bytes)
            // All calls share it: what a few callers do not take must never close it. Each stream's window, and
            // `max_unread_bytes`, bound what is kept.
            .initial_connection_window_size(MAX_WINDOW)
            .max_frame_size(limits.max_frame_bytes)
            .max_header_list_size(limits.max_metadata_bytes)
            .max_send_buffer_size(1 << 20)
            .enable_push(false)
            // Our own cancels (deadlines, lost attempts) must never end a healthy connection.
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(1024)
            .handshake::<Answers<Buffered<T>>, Bytes>(io)
            .await
            .map_err(io::Error::other)?;
        // The endpoint is usable once its SETTINGS frame has come: a listener whose process hangs accepts too.
        first_settings(&mut http2, &sender).await?;
        let connection = Rc::new(Self {
            sender: RefCell::new(sender),
            streams: Cell::new(0),
            answers: answers.clone(),
        });
        let driver = Driver {
            http2,
            flush,
            stuck: Stuck::new(answers, patience),
            limits: config.upstream.clone(),
        };
        Ok((connection, driver))
    }

    /// Open a stream and send a request's head on it.
    pub async fn send(&self, head: Head) -> Result<(Awaited, Sender), Broken> {
        let mut request = Some(head.into());
        let sent = poll_fn(|cx| {
            let sender = &mut *self.sender.borrow_mut();
            let is_free = sender.poll_ready(cx);
            // Ready at the first poll, so the request is there.
            let request = request.take().unwrap_or_default();
            Poll::Ready(match is_free {
                Poll::Ready(Ok(())) => sender.send_request(request, false),
                // An earlier stream of this handle waits for the peer's stream limit; a clone queues behind it.
                Poll::Pending => sender.clone().send_request(request, false),
                Poll::Ready(Err(error)) => Err(error),
            })
        });
        Ok(stream::joined(sent.await?))
    }

    /// Whether a part of what a stream brought as metadata was left away.
    pub fn is_cut(&self, stream: u32) -> bool {
        self.answers.is_cut(stream)
    }

    /// Streams in use.
    pub fn streams(&self) -> usize {
        self.streams.get()
    }

    pub fn add_stream(&self) {
        self.streams.set(self.streams.get() + 1);
    }

    pub fn remove_stream(&self) {
        self.streams.set(self.streams.get() - 1);
    }

    /// Whether the peer takes no more streams now.
    pub fn is_full(&self) -> bool {
        let streams = self.streams.get();
        // Asked each time: a peer may lower its limit at any moment.
        streams > 0 && streams >= self.sender.borrow().current_max_send_streams()
    }
}

// === impl Driver ===

impl<T> Driver<T>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    /// Run the connection to its end. How it ended is what its streams were told; nothing is left to report.
    pub async fn run(self, entry: &Connection) {
        let Self {
            mut http2,
            flush,
            mut stuck,
            limits,
        } = self;
        let ping_pong = http2.ping_pong();
        flush.take_over();
        let connection = poll_fn(|cx| {
            if Pin::new(&mut http2).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            match flush.poll(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(()),
                Poll::Ready(Ok(())) | Poll::Pending => stuck.poll(cx),
            }
        });
        let keepalive = Duration::from_millis(limits.keepalive_ms);
        let Some(mut ping_pong) = ping_pong.filter(|_| !keepalive.is_zero()) else {
            return connection.await;
        };
        let limit = Duration::from_millis(limits.keepalive_timeout_ms);
        let watch = async {
            loop {
                sleep(keepalive).await;
                if entry.streams.get() > 0
                    && timeout(limit, ping_pong.ping(h2::Ping::opaque()))
                        .await
                        .is_err()
                {
                    return;
                }
            }
        };
        tokio::select! {
            () = connection => {}
            () = watch => {}
        }
    }
}

/// Why a handshake failed.
fn handshake_failure(error: &h2::Error) -> io::Error {
    match error.get_io() {
        Some(io) => handshake_error(io).unwrap_or_else(|| closed(io.kind(), error)),
        None => io::Error::other(handshake_text(error)),
    }
}

fn closed(kind: io::ErrorKind, error: impl std::fmt::Display) -> io::Error {
    let text = format!("it closed the connection before it spoke HTTP/2 ({error})");
    io::Error::new(kind, text)
}

/// What a failed handshake of HTTP/2 means. What comes first from a port that speaks HTTP/1, or wants TLS, is no frame of HTTP/2: as one it
/// would be far too long, or of a kind that may not come first.
fn handshake_text(error: &h2::Error) -> String {
    match error.reason() {
        Some(Reason::FRAME_SIZE_ERROR | Reason::PROTOCOL_ERROR) if !error.is_remote() => format!(
            "its answer is not HTTP/2 ({error}): the port may speak HTTP/1, as REST ports do, or want TLS"
        ),
        _ => error.to_string(),
    }
}

/// Drive a fresh connection until the peer's SETTINGS have come: only they raise the initial limit of 0 streams.
async fn first_settings<T>(
    connection: &mut client::Connection<T, Bytes>,
    sender: &SendRequest<Bytes>,
) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(closed(
            io::ErrorKind::UnexpectedEof,
            "end of the stream",
        ))),
        Poll::Ready(Err(error)) => Poll::Ready(Err(handshake_failure(&error))),
        Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await
}
