//! A connection as its streams see it: counted, idle or not, and watched for rapid resets.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::accept::Peer;
use super::limits::ResetGuard;
use super::load::Load;

/// One downstream connection, as its streams see it.
pub struct Connection {
    peer: Peer,
    load: Arc<Load>,
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
    resets: RefCell<ResetGuard>,
}

/// Counts a stream as live until it is dropped.
pub struct StreamGuard {
    connection: Rc<Connection>,
    opened: std::time::Instant,
}

// === impl Connection ===

impl Connection {
    pub fn new(peer: Peer, load: Arc<Load>) -> Rc<Self> {
        Rc::new(Self {
            peer,
            load,
            streams: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            resets: RefCell::default(),
        })
    }

    /// Since when it has had no streams; none while it has some.
    pub fn idle_since(&self) -> Option<Instant> {
        (self.streams.get() == 0).then(|| self.idle_since.get())
    }

    /// Whether its streams are reset as fast as they open.
    pub fn is_reset_rapidly(&self) -> bool {
        self.resets.borrow().exceeded()
    }
}

// === impl StreamGuard ===

impl StreamGuard {
    pub fn new(connection: Rc<Connection>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        connection.load.add_stream();
        let opened = Instant::now().into_std();
        connection.resets.borrow_mut().opened(opened);
        Self { connection, opened }
    }

    pub fn peer(&self) -> &Peer {
        &self.connection.peer
    }

    /// The guard of a stream without a connection.
    #[cfg(test)]
    pub fn lone() -> Self {
        Self::new(Connection::new(Peer::Unix, Arc::default()))
    }

    /// The caller reset this stream before it got response headers; many of these close the connection.
    pub fn reset_before_headers(&self) {
        self.connection
            .resets
            .borrow_mut()
            .reset(self.opened, Instant::now().into_std());
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let left = self.connection.streams.get() - 1;
        self.connection.streams.set(left);
        self.connection.load.remove_stream();
        if left == 0 {
            self.connection.idle_since.set(Instant::now());
        }
    }
}
