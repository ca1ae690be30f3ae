//! One HTTP/2 connection to an endpoint: the handshake, its streams, and the task that drives it to its end.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dl_http2::{self as http2, Code, Config, Event, Fatal, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep};

use crate::config::{ProxyConfig, UpstreamLimits};
use crate::headers::Headers;
use crate::net::http2::{Ended, Engine, Handle, Link, Turn};
use crate::net::stream::{self, Awaited, Broken, MAX_WINDOW, Sender};
use crate::net::tls::handshake_error;

/// One connection, as its users see it.
pub struct Connection {
    link: Rc<Link<Handle>>,
    streams: Cell<usize>,
}

/// What a connection needs to go on.
pub struct Driver<T> {
    engine: Engine<T>,
    limits: UpstreamLimits,
    stuck: Stuck,
    /// Until when what the peer sent is read, once the socket has failed.
    failed: Option<Pin<Box<Sleep>>>,
}

/// Watches for a connection that stays in the midst of a frame or a header block: it hangs with all its calls.
struct Stuck {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    seen: u64,
}

/// Pings while calls wait, and watches for the answer.
struct Keepalive {
    every: Duration,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    is_asked: bool,
}

/// Longest time for what a peer sent before its socket failed. The system says at once where there is nothing more.
const LAST_READS: Duration = Duration::from_millis(250);

/// What pings carry.
const PING: [u8; 8] = *b"dl-alive";

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
        let patience = Duration::from_millis(config.upstream.keepalive_timeout_ms);
        let settings = Config {
            max_frame: limits.max_frame_bytes,
            stream_window: config.upstream.stream_window_bytes,
            // All calls share it: what a few callers do not take must never close it. Each stream's window, and
            // `max_unread_bytes`, bound what is kept.
            connection_window: MAX_WINDOW,
            opens_on_receipt: true,
            max_streams: 0,
            max_list: limits.max_metadata_bytes,
            max_fields: usize::MAX,
            // Each stream has its own bounds, and the process has for what it holds for all.
            max_memory: usize::MAX,
            credit: None,
            max_faults: None,
        };
        let engine = Engine::new(
            io,
            http2::Connection::new(Role::Client, settings),
            Vec::new(),
        );
        let mut driver = Driver {
            engine,
            limits: config.upstream.clone(),
            stuck: Stuck::new(patience),
            failed: None,
        };
        // The endpoint is usable once its SETTINGS frame has come: a listener whose process hangs accepts too.
        driver.first_settings().await?;
        let connection = Rc::new(Self {
            link: driver.engine.link().clone(),
            streams: Cell::new(0),
        });
        Ok((connection, driver))
    }

    /// Open a stream and send a request's head on it, which is made then. Waits while the peer takes no more streams.
    pub async fn send(&self, head: impl FnOnce() -> Headers) -> Result<(Awaited, Sender), Broken> {
        poll_fn(|cx| self.link.poll_open(cx)).await?;
        let key = self.link.open(&head())?;
        Ok(stream::joined(Handle::new(&self.link, key)))
    }

    /// Whether a part of what a stream brought as metadata was left away.
    pub fn is_cut(&self, stream: u32) -> bool {
        self.link.is_cut(stream)
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
        streams > 0 && streams >= self.link.ask(|it| it.max_streams())
    }
}

// === impl Driver ===

impl<T> Driver<T>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    /// Drive a fresh connection until the peer's SETTINGS have come.
    async fn first_settings(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut budget = Engine::<T>::budget();
            Poll::Ready(match ready!(self.engine.poll(cx, &mut budget)) {
                Turn::Event(Event::Settings) => Ok(()),
                // Nothing else can be legal before them.
                Turn::Event(_) | Turn::Closed => {
                    Err(closed(io::ErrorKind::UnexpectedEof, "end of the stream"))
                }
                Turn::Fatal(fatal) => Err(io::Error::other(handshake_text(fatal))),
                Turn::Io(error) => Err(handshake_failure(&error)),
            })
        })
        .await
    }

    /// Run the connection to its end. Its streams are told how it ended; nothing is left to report.
    pub async fn run(mut self, entry: &Connection) {
        let mut keepalive = Keepalive::new(&self.limits);
        let ended = poll_fn(|cx| {
            let ended = self.poll(cx, keepalive.as_mut());
            if ended.is_ready() {
                return ended;
            }
            let has_calls = entry.streams.get() > 0;
            let is_lost = keepalive.as_mut().is_some_and(|it| {
                let link = self.engine.link();
                it.poll(cx, has_calls, || link.with(|it| it.ping(PING)))
                    .is_ready()
            });
            if is_lost {
                return Poll::Ready(Ended::Lost);
            }
            self.stuck
                .poll(cx, self.engine.reads())
                .map(|()| Ended::Lost)
        })
        .await;
        self.engine.link().end(ended);
        if matches!(ended, Ended::Fatal { .. }) {
            // What tells the peer may be lost: the connection is over either way.
            poll_fn(|cx| Poll::Ready(_ = self.engine.poll_write(cx))).await;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut keepalive: Option<&mut Keepalive>) -> Poll<Ended> {
        let mut budget = Engine::<T>::budget();
        loop {
            let turn = self.poll_turn(cx, &mut budget);
            if turn.is_pending() && self.engine.is_done() {
                return Poll::Ready(Ended::Lost);
            }
            match ready!(turn) {
                Turn::Event(Event::Pong(PING)) => {
                    if let Some(keepalive) = &mut keepalive {
                        keepalive.on_pong();
                    }
                }
                Turn::Event(event) => self.engine.link().deliver(event),
                // Writing fails as soon as the peer is gone, while answers that it sent before have not been read.
                Turn::Io(_) if self.failed.is_none() => {
                    self.failed = Some(Box::pin(sleep(LAST_READS)));
                }
                Turn::Closed | Turn::Io(_) => return Poll::Ready(Ended::Lost),
                Turn::Fatal(Fatal { code, why }) => return Poll::Ready(Ended::Fatal { code, why }),
            }
        }
    }

    /// What comes next; of a socket that has failed, what it still has, for a moment.
    fn poll_turn(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> Poll<Turn> {
        let Some(end) = &mut self.failed else {
            return self.engine.poll(cx, budget);
        };
        if let Poll::Ready(turn) = self.engine.poll_received(cx, budget) {
            return Poll::Ready(turn);
        }
        end.as_mut().poll(cx).map(|()| Turn::Closed)
    }
}

// === impl Stuck ===

impl Stuck {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            timer: None,
            seen: 0,
        }
    }

    /// Ready when nothing has come for the limit, in the midst of something. Polled after each read.
    fn poll(&mut self, cx: &mut Context<'_>, (reads, is_within): (u64, bool)) -> Poll<()> {
        loop {
            // A timer that runs is left alone: large answers are in the midst of a frame all the time.
            let Some(timer) = &mut self.timer else {
                if !is_within {
                    return Poll::Pending;
                }
                self.seen = reads;
                self.timer = Some(Box::pin(sleep(self.limit)));
                continue;
            };
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            if is_within && reads == self.seen {
                return Poll::Ready(());
            }
        }
    }
}

// === impl Keepalive ===

impl Keepalive {
    fn new(limits: &UpstreamLimits) -> Option<Self> {
        let every = Duration::from_millis(limits.keepalive_ms);
        (!every.is_zero()).then(|| Self {
            every,
            limit: Duration::from_millis(limits.keepalive_timeout_ms),
            timer: Box::pin(sleep(every)),
            is_asked: false,
        })
    }

    fn on_pong(&mut self) {
        if self.is_asked {
            self.is_asked = false;
            self.timer = Box::pin(sleep(self.every));
        }
    }

    /// Ready when a ping was not answered in time.
    fn poll(&mut self, cx: &mut Context<'_>, has_calls: bool, ping: impl Fn()) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.is_asked {
                return Poll::Ready(());
            }
            self.is_asked = has_calls;
            let next = if has_calls { self.limit } else { self.every };
            self.timer = Box::pin(sleep(next));
            if has_calls {
                ping();
            }
        }
        Poll::Pending
    }
}

/// Why a handshake failed.
fn handshake_failure(error: &io::Error) -> io::Error {
    handshake_error(error).unwrap_or_else(|| closed(error.kind(), error))
}

fn closed(kind: io::ErrorKind, error: impl std::fmt::Display) -> io::Error {
    let text = format!("it closed the connection before it spoke HTTP/2 ({error})");
    io::Error::new(kind, text)
}

/// What a failed handshake of HTTP/2 means. What comes first from a port that speaks HTTP/1, or wants TLS, is no frame of HTTP/2: as one it
/// would be far too long, or of a kind that may not come first.
fn handshake_text(Fatal { code, why }: Fatal) -> String {
    match code {
        Code::FRAME_SIZE_ERROR | Code::PROTOCOL_ERROR => format!(
            "its answer is not HTTP/2 ({code}: {why}): the port may speak HTTP/1, as REST ports do, or want TLS"
        ),
        _ => format!("{code}: {why}"),
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
