//! When a connection of HTTP/1 has to end: a head that stays half, idleness, and age. hyper's own limit on a head runs
//! between two requests, too, and would end idle connections as early as slow ones.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::guard::Connection;
use crate::config::Limits;
use crate::stats::ClosedReason;

/// The times of one connection.
pub struct Times {
    connection: Rc<Connection>,
    /// Since when a head is being read, of which there is a first byte and no end.
    head_since: Cell<Option<Instant>>,
    header_timeout: Duration,
    idle_timeout: Duration,
    age_end: Cell<Instant>,
    grace: Duration,
}

/// Tells the times that bytes have come.
pub struct Watched<T> {
    pub io: T,
    pub times: Rc<Times>,
}

// === impl Times ===

impl Times {
    /// Of a connection on which the first head has begun.
    pub fn new(connection: Rc<Connection>, limits: &Limits) -> Self {
        let jitter = 0.9 + 0.2 * fastrand::f64();
        let age = Duration::from_millis(limits.max_connection_age_ms).mul_f64(jitter);
        let now = Instant::now();
        Self {
            connection,
            head_since: Cell::new(Some(now)),
            header_timeout: Duration::from_millis(limits.header_timeout_ms),
            idle_timeout: Duration::from_millis(limits.connection_idle_timeout_ms),
            age_end: Cell::new(now + age),
            grace: Duration::from_millis(limits.max_connection_age_grace_ms),
        }
    }

    /// When the connection ends if nothing happens, and why.
    pub fn end(&self) -> (Instant, ClosedReason) {
        let aged = (self.age_end.get(), ClosedReason::Age);
        let silent = match (self.head_since.get(), self.connection.idle_since()) {
            (Some(since), _) => (since + self.header_timeout, ClosedReason::HeaderTimeout),
            (None, Some(since)) => (since + self.idle_timeout, ClosedReason::Idle),
            (None, None) => return aged,
        };
        if silent.0 < aged.0 { silent } else { aged }
    }

    /// A head has been read to its end.
    pub fn head_is_whole(&self) {
        self.head_since.set(None);
    }

    /// Only the calls in flight may still end.
    pub fn begin_grace(&self) {
        self.age_end.set(Instant::now() + self.grace);
    }

    fn bytes_came(&self) {
        // While a request is being answered they are its body's.
        if self.head_since.get().is_none() && self.connection.idle_since().is_some() {
            self.head_since.set(Some(Instant::now()));
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.times.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}
