//! A connection as its streams see it: counted, idle or not, watched for rapid resets, and with a window that what
//! streams keep does not close.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use tokio::time::Instant;

use super::accept::Peer;
use super::limits::ResetGuard;
use super::load::Load;
use super::stream::MAX_WINDOW;

/// The window of a connection follows what its streams keep in steps of this part of it.
const WINDOW_STEPS: usize = 8;

/// One downstream connection, as its streams see it.
pub struct Connection {
    peer: Peer,
    load: Arc<Load>,
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
    resets: RefCell<ResetGuard>,
    /// Its window for what has come and no stream has taken.
    window: usize,
    /// Bytes that streams have taken and keep, and those of them by which the window is larger already.
    kept: Cell<usize>,
    widened: Cell<usize>,
    /// What drives the connection, told when the window has to follow.
    driver: RefCell<Option<Waker>>,
}

/// What one stream keeps of what has come, until it is dropped. The other streams of the connection have their window
/// back.
pub struct Kept {
    connection: Rc<Connection>,
    bytes: usize,
}

/// Counts a stream as live until it is dropped.
pub struct StreamGuard {
    connection: Rc<Connection>,
    opened: Instant,
}

// === impl Connection ===

impl Connection {
    pub fn new(peer: Peer, load: Arc<Load>, window: u32) -> Rc<Self> {
        Rc::new(Self {
            window: window as usize,
            kept: Cell::default(),
            widened: Cell::default(),
            driver: RefCell::default(),
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

    /// The size that the window should have now, if it has to change. Called whenever the connection is driven, by the
    /// task that is to be woken.
    pub fn new_window(&self, cx: &Context<'_>) -> Option<u32> {
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
        if !self.is_to_change() {
            return None;
        }
        self.widened.set(self.kept.get());
        let window = u32::try_from(self.window + self.kept.get()).unwrap_or(MAX_WINDOW);
        Some(window.min(MAX_WINDOW))
    }

    /// Not for each chunk: only when a step of the window is at stake.
    fn is_to_change(&self) -> bool {
        self.kept.get().abs_diff(self.widened.get()) >= self.window / WINDOW_STEPS
    }

    fn keep(&self, kept: usize) {
        self.kept.set(kept);
        if self.is_to_change()
            && let Some(driver) = &*self.driver.borrow()
        {
            driver.wake_by_ref();
        }
    }
}

// === impl Kept ===

impl Kept {
    /// Keep so many bytes more.
    pub fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.connection.keep(self.connection.kept.get() + bytes);
    }

    /// Keep so many bytes less.
    pub fn shrink(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.connection.keep(self.connection.kept.get() - bytes);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

// === impl StreamGuard ===

impl StreamGuard {
    pub fn new(connection: Rc<Connection>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        connection.load.add_stream();
        let opened = Instant::now();
        connection.resets.borrow_mut().opened(opened.into_std());
        Self { connection, opened }
    }

    pub fn peer(&self) -> &Peer {
        &self.connection.peer
    }

    /// When its head came.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// What the stream keeps: nothing yet.
    pub fn kept(&self) -> Kept {
        Kept {
            connection: self.connection.clone(),
            bytes: 0,
        }
    }

    /// The guard of a call that the stream is answered by.
    pub fn again(&self) -> Self {
        Self::new(self.connection.clone())
    }

    /// The guard of a stream without a connection.
    #[cfg(test)]
    pub fn lone() -> Self {
        Self::new(Connection::new(Peer::Unix, Arc::default(), 65_535))
    }

    /// The caller reset this stream before it got response headers; many of these close the connection.
    pub fn reset_before_headers(&self) {
        self.connection
            .resets
            .borrow_mut()
            .reset(self.opened.into_std(), Instant::now().into_std());
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    const WINDOW: u32 = 80_000;

    #[derive(Default)]
    struct Driver(AtomicUsize);

    impl Wake for Driver {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A stream on a connection, and what drives that.
    fn driven() -> (StreamGuard, Arc<Driver>, Waker) {
        let connection = Connection::new(Peer::Unix, Arc::default(), WINDOW);
        let driver = Arc::new(Driver::default());
        let waker = Waker::from(driver.clone());
        connection.new_window(&Context::from_waker(&waker));
        (StreamGuard::new(connection), driver, waker)
    }

    #[test]
    fn the_window_grows_by_what_streams_keep_and_shrinks_with_it() {
        let (stream, _, waker) = driven();
        let cx = Context::from_waker(&waker);
        let window = || stream.connection.new_window(&cx);
        let (mut one, mut other) = (stream.kept(), stream.kept());
        one.grow(30_000);
        other.grow(20_000);
        assert_eq!(window(), Some(130_000));
        assert_eq!(window(), None);
        one.shrink(20_000);
        assert_eq!(window(), Some(110_000));
        drop((one, other));
        assert_eq!(window(), Some(WINDOW));
    }

    #[test]
    fn the_driver_is_woken_for_a_step_of_the_window_and_for_nothing_less() {
        let (stream, driver, waker) = driven();
        let mut kept = stream.kept();
        kept.grow(9_999);
        assert_eq!(driver.0.load(Ordering::Relaxed), 0);
        kept.grow(1);
        assert_eq!(driver.0.load(Ordering::Relaxed), 1);
        assert_eq!(
            stream.connection.new_window(&Context::from_waker(&waker)),
            Some(90_000)
        );
        kept.grow(9_999);
        assert_eq!(driver.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_window_never_exceeds_the_largest() {
        let (stream, _, waker) = driven();
        let mut kept = stream.kept();
        kept.grow(usize::MAX / 2);
        let window = stream.connection.new_window(&Context::from_waker(&waker));
        assert_eq!(window, Some(MAX_WINDOW));
    }
}
