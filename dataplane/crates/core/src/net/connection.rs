//! Drives one downstream connection: finds out what it speaks; of HTTP/2 accepts its streams, watches its age, idleness
//! and frames, and drains it. What a call does is the [`Service`]'s business; the access service and the model-server front
//! each bring one.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dl_http2::{self as http2, Code, Config, Event, Role};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, timeout};

use super::accept::Peer;
use super::drain::Phase;
use super::guard::{Connection, StreamGuard};
use super::http1;
use super::http2::{Ended, Engine, Handle, Turn, fields};
use super::load::Load;
use super::opening::{self, Opening};
use super::server::Server;
use super::service::Service;
use super::stream;
use crate::config::Limits;
use crate::stats::ClosedReason;

/// What a peer has to read our last words, and to close, too.
const LINGER: Duration = Duration::from_secs(1);

/// Calls that one turn takes, be they all there: other connections have their turns, and who is refused has its answer.
const MOST_CALLS: usize = 64;

/// How a connection is being closed by us, if it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// GOAWAY sent, calls in flight may finish until the given time.
    Gracefully(Option<Instant>),
    /// The connection ends with its last frame flushed.
    Abruptly,
}

struct Driver<T, S> {
    server: Arc<Server>,
    service: Rc<S>,
    engine: Engine<T>,
    connection: Rc<Connection>,
    started: Instant,
    age_limit: Duration,
    closing: Closing,
    /// The first request's headers have come, to their end: a frame that stays half is no request.
    has_served: bool,
    /// Why the connection ends; what comes first counts.
    reason: Option<ClosedReason>,
}

/// Serve one connection until it ends. `load` counts what its worker has to do.
pub async fn serve<T, S>(
    mut io: T,
    peer: Peer,
    server: Arc<Server>,
    load: Arc<Load>,
    service: Rc<S>,
) where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
{
    let limits = &server.limits;
    let started = Instant::now();
    let end = started + Duration::from_millis(limits.header_timeout_ms);
    let seen = match open(&mut io, &peer, &server, end).await {
        Ok((seen, Opening::Http1)) => {
            let reason = http1::serve(io, seen, peer, &server, load, service).await;
            return server.stats.closed.add(reason);
        }
        Ok((seen, _)) => seen,
        Err(reason) => return server.stats.closed.add(reason),
    };
    let engine = Engine::new(
        io,
        http2::Connection::new(Role::Server, config(limits)),
        seen,
    );
    let connection = Connection::new(peer, load, limits.connection_window_bytes);
    // The ends of connections that began together are spread.
    let jitter = 0.9 + 0.2 * fastrand::f64();
    let age_limit = Duration::from_millis(limits.max_connection_age_ms).mul_f64(jitter);
    let driver = Driver {
        server,
        service,
        engine,
        connection,
        started,
        age_limit,
        closing: Closing::No,
        has_served: false,
        reason: None,
    };
    driver.run().await;
}

/// Read the beginning of a connection, until `end`; answer one that is not HTTP here. Return what was read, and what it is.
///
/// # Errors
/// Why the connection is over.
async fn open<T>(
    io: &mut T,
    peer: &Peer,
    server: &Server,
    end: Instant,
) -> Result<(Vec<u8>, Opening), ClosedReason>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut seen = Vec::new();
    // A caller that goes before it has its answer spoke the wrong protocol all the same.
    match opening::read(io, &mut seen, end).await {
        Ok(opening @ (Opening::Http2 | Opening::Http1 | Opening::Other)) => Ok((seen, opening)),
        Ok(Opening::Silent) => Err(ClosedReason::Downstream),
        Ok(Opening::Tls) => {
            server.strangers.met(peer);
            let _ = opening::answer_tls(io).await;
            Err(ClosedReason::Tls)
        }
        Err(error) if error.kind() == ErrorKind::TimedOut => Err(ClosedReason::HeaderTimeout),
        Err(_) => Err(ClosedReason::Io),
    }
}

fn config(limits: &Limits) -> Config {
    Config {
        max_frame: limits.max_frame_bytes,
        stream_window: limits.stream_window_bytes,
        connection_window: limits.connection_window_bytes,
        // What streams keep is added to it (`Connection::new_window`).
        opens_on_receipt: false,
        max_streams: limits.max_streams,
        max_list: limits.max_metadata_bytes,
        max_fields: usize::MAX,
        max_memory: limits.max_connection_bytes / 2,
        credit: Some((limits.frame_credit, limits.frame_credit_per_frame)),
        // MadeYouReset (CVE-2025-8671): a caller that makes us reset its streams is cut off.
        max_faults: Some(500),
    }
}

// === impl Driver ===

impl<T, S> Driver<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
{
    async fn run(mut self) {
        let has_written = self.serve().await;
        self.engine.link().end(Ended::Lost);
        let reason = self.reason.unwrap_or(ClosedReason::Downstream);
        self.server.stats.closed.add(reason);
        if has_written {
            self.linger().await;
        }
    }

    /// Serve until the connection is over; whether all that it was to be told is written.
    async fn serve(&mut self) -> bool {
        let mut timer = pin!(tokio::time::sleep_until(self.next_check()));
        let mut drain = self.server.drain.watch();
        poll_fn(|cx| {
            while let Poll::Ready(phase) = drain.poll_changed(cx) {
                self.on_drain(phase);
                if phase == Phase::Stopped {
                    return Poll::Ready(false);
                }
            }
            let was_open = self.closing != Closing::Abruptly;
            if let Poll::Ready(has_written) = self.poll_streams(cx) {
                return Poll::Ready(has_written);
            }
            if was_open && self.closing == Closing::Abruptly {
                // The GOAWAY has a second to get out, to a peer that may not read.
                timer.as_mut().reset(self.next_check());
            }
            self.poll_timer(cx, timer.as_mut()).map(|()| false)
        })
        .await
    }

    /// Give a peer that is told that the connection is over the time to read it.
    async fn linger(&mut self) {
        let mut drain = self.server.drain.watch();
        tokio::select! {
            // A peer that has gone meanwhile, or takes longer, has had its chance.
            _ = timeout(LINGER, self.engine.linger()) => {}
            () = drain.reached(Phase::Stopped) => {}
        }
    }

    /// Ready when the connection is over: whether all that is to be written is.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Some(window) = self.connection.new_window(cx) {
            self.engine.link().with(|it| it.set_window(window));
        }
        let mut budget = Engine::<T>::budget();
        let mut calls = 0;
        while self.closing != Closing::Abruptly {
            if calls == MOST_CALLS {
                cx.waker().wake_by_ref();
                // Answers do not wait until the last call has come.
                return match self.poll_written(cx) {
                    Poll::Ready(false) => Poll::Ready(false),
                    _ => Poll::Pending,
                };
            }
            match ready!(self.poll_turn(cx, &mut budget)) {
                Turn::Event(event) => {
                    calls += usize::from(matches!(event, Event::Head { .. }));
                    self.on_event(event);
                }
                Turn::Closed => return Poll::Ready(true),
                Turn::Fatal(fatal) => {
                    let is_flood = fatal.code == Code::ENHANCE_YOUR_CALM;
                    let reason = if is_flood {
                        ClosedReason::Flood
                    } else {
                        ClosedReason::Protocol
                    };
                    self.close(reason, fatal.code);
                }
                Turn::Io(_) => {
                    self.reason.get_or_insert(ClosedReason::Io);
                    return Poll::Ready(false);
                }
            }
        }
        self.poll_written(cx)
    }

    /// Ready when all is written, or, false, when it cannot be.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let written = ready!(self.engine.poll_write(cx));
        if written.is_err() {
            self.reason.get_or_insert(ClosedReason::Io);
        }
        Poll::Ready(written.is_ok())
    }

    /// As the engine's, but ready when a connection that was to end has ended.
    fn poll_turn(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> Poll<Turn> {
        let turn = self.engine.poll(cx, budget);
        if turn.is_pending() && self.engine.is_done() {
            return Poll::Ready(Turn::Closed);
        }
        turn
    }

    fn on_event(&mut self, event: Event) {
        let link = self.engine.link();
        let Event::Head {
            stream,
            headers,
            is_cut,
            is_crowded,
            ends,
        } = event
        else {
            return link.deliver(event);
        };
        self.has_served = true;
        let handle = Handle::new(link, stream);
        if ends {
            handle.has_no_body();
        }
        let Some(head) = fields::request(headers, (is_cut, is_crowded)) else {
            return handle.reset(Code::PROTOCOL_ERROR);
        };
        let (body, answer) = stream::split(handle);
        let guard = StreamGuard::new(self.connection.clone());
        self.service.call(head, body, answer, guard);
        if self.connection.is_reset_rapidly() {
            self.close(ClosedReason::Flood, Code::ENHANCE_YOUR_CALM);
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<()> {
        while timer.as_mut().poll(cx).is_ready() {
            if self.closing == Closing::Abruptly {
                // The peer does not even read our GOAWAY.
                return Poll::Ready(());
            }
            self.check_times();
            timer.as_mut().reset(self.next_check());
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn on_drain(&mut self, phase: Phase) {
        if phase < Phase::Draining {
            return;
        }
        self.reason.get_or_insert(ClosedReason::Drain);
        if phase == Phase::Draining && self.closing == Closing::No {
            self.engine.link().with(|it| it.leave());
            self.closing = Closing::Gracefully(None);
        }
    }

    fn close(&mut self, reason: ClosedReason, code: Code) {
        if self.closing != Closing::Abruptly {
            self.reason.get_or_insert(reason);
            self.engine.link().with(|it| it.close(code, "closed"));
            self.closing = Closing::Abruptly;
        }
    }

    /// When one of the time limits could next be reached.
    fn next_check(&self) -> Instant {
        let limits = &self.server.limits;
        if self.closing == Closing::Abruptly {
            return Instant::now() + LINGER;
        }
        let aged = match self.closing {
            Closing::Gracefully(Some(end)) => end,
            _ => self.started + self.age_limit,
        };
        if !self.has_served {
            return aged.min(self.started + Duration::from_millis(limits.header_timeout_ms));
        }
        let idle_limit = Duration::from_millis(limits.connection_idle_timeout_ms);
        let idle_since = self.connection.idle_since();
        let next = aged.min(idle_since.unwrap_or_else(Instant::now) + idle_limit);
        // After the age limit only its grace is left to watch.
        next.max(Instant::now() + Duration::from_millis(10))
    }

    fn check_times(&mut self) {
        let limits = &self.server.limits;
        let now = Instant::now();
        if !self.has_served && now >= self.started + Duration::from_millis(limits.header_timeout_ms)
        {
            return self.close(ClosedReason::HeaderTimeout, Code::NO_ERROR);
        }
        let idle_limit = Duration::from_millis(limits.connection_idle_timeout_ms);
        let idle_since = self.connection.idle_since();
        if idle_since.is_some_and(|since| now >= since + idle_limit) {
            return self.close(ClosedReason::Idle, Code::NO_ERROR);
        }
        match self.closing {
            Closing::No if now >= self.started + self.age_limit => {
                let grace = Duration::from_millis(limits.max_connection_age_grace_ms);
                self.reason.get_or_insert(ClosedReason::Age);
                self.engine.link().with(|it| it.leave());
                self.closing = Closing::Gracefully(Some(now + grace));
            }
            Closing::Gracefully(Some(end)) if now >= end => {
                self.close(ClosedReason::Age, Code::NO_ERROR)
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
