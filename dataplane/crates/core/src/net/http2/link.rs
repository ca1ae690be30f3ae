//! A connection as its driver and its streams share it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use dl_http2::{Code, Connection, Event, Full, Key};

use super::ended::Ended;
use crate::headers::Headers;

/// Most streams with metadata that was cut that are remembered; a call asks as soon as it has its trailers.
const MOST_CUT: usize = 64;

/// Streams for which a connection without any keeps room.
const MOST_KEPT: usize = 4;

/// Bytes that wait to be written when no more streams are opened: what heads bring is large beside what they took to send.
const MOST_HEADS: usize = 1 << 20;

/// Bytes of the largest buffer that is kept for the next: a peer that reads nothing for a while makes a larger one.
const MOST_SPARE: usize = 256 * 1024;

thread_local! {
    // The buffer of the connection that is about to write: an idle one has none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What is told of a stream.
pub trait Receiver {
    fn key(&self) -> Key;
    /// The head of an answer; it was cut where it was too large.
    fn on_head(&self, headers: Headers, is_cut: bool, ends: bool);
    /// A part of the body, to be released.
    fn on_data(&self, bytes: Bytes, ends: bool);
    fn on_trailers(&self, headers: Headers);
    fn on_ended(&self, ended: Ended);
    /// More may be sent.
    fn on_room(&self);
}

/// A connection, on its thread, and whom it tells of its streams.
#[derive(Debug)]
pub struct Link<H> {
    connection: RefCell<Connection>,
    /// By the slots of the streams' keys.
    handles: RefCell<Vec<Weak<H>>>,
    driver: RefCell<Option<Waker>>,
    is_woken: Cell<bool>,
    /// Streams with a header list that was cut.
    cut: RefCell<VecDeque<u32>>,
    /// Callers that wait until the peer takes one more stream.
    queue: RefCell<Vec<Waker>>,
    /// They wait until it reads, too.
    is_unread: Cell<bool>,
}

// === impl Link ===

impl<H: Receiver> Link<H> {
    pub fn new(connection: Connection) -> Rc<Self> {
        Rc::new(Self {
            connection: RefCell::new(connection),
            handles: RefCell::default(),
            driver: RefCell::default(),
            is_woken: Cell::default(),
            cut: RefCell::default(),
            queue: RefCell::default(),
            is_unread: Cell::default(),
        })
    }

    /// Use the connection, and let its driver write what comes of it.
    pub fn with<R>(&self, then: impl FnOnce(&mut Connection) -> R) -> R {
        let mut connection = self.connection.borrow_mut();
        connection.out().lend(|| SPARE.take());
        let result = then(&mut connection);
        let has_work = connection.has_work();
        drop(connection);
        if has_work {
            self.wake();
        }
        result
    }

    /// Ask the connection something.
    pub fn ask<R>(&self, then: impl FnOnce(&Connection) -> R) -> R {
        then(&self.connection.borrow())
    }

    /// The driver's use of the connection, which wakes nobody.
    pub(super) fn drive<R>(&self, then: impl FnOnce(&mut Connection) -> R) -> R {
        let mut connection = self.connection.borrow_mut();
        connection.out().lend(|| SPARE.take());
        then(&mut connection)
    }

    /// Keep no buffer while nothing is to be written.
    pub(super) fn rest(&self) {
        let mut connection = self.connection.borrow_mut();
        if let Some(buffer) = connection.out().give_back()
            && buffer.capacity() <= MOST_SPARE
        {
            SPARE.set(buffer);
        }
    }

    fn wake(&self) {
        if !self.is_woken.replace(true)
            && let Some(driver) = &*self.driver.borrow()
        {
            driver.wake_by_ref();
        }
    }

    /// The driver's task runs.
    pub(super) fn is_driven(&self, cx: &Context<'_>) {
        self.is_woken.set(false);
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
    }

    /// From now on `handle` is told of the stream.
    pub(super) fn add(&self, key: Key, handle: &Rc<H>) {
        let mut handles = self.handles.borrow_mut();
        let slot = key.slot as usize;
        if handles.len() <= slot {
            handles.resize_with(slot + 1, Weak::new);
        }
        handles[slot] = Rc::downgrade(handle);
    }

    fn find(&self, key: Key) -> Option<Rc<H>> {
        let handles = self.handles.borrow();
        let handle = handles.get(key.slot as usize)?.upgrade()?;
        (handle.key() == key).then_some(handle)
    }

    /// A handle is gone; a connection without streams keeps no room for many.
    pub(super) fn forget(&self, key: Key) {
        let mut handles = self.handles.borrow_mut();
        if handles.len() > MOST_KEPT && self.ask(|it| it.streams()) == 0 {
            *handles = Vec::new();
        } else if let Some(handle) = handles.get_mut(key.slot as usize)
            && handle.strong_count() == 0
        {
            *handle = Weak::new();
        }
    }

    /// Ready when a stream can be opened: the peer takes one more, and reads what it is sent.
    ///
    /// # Errors
    /// It takes none any more.
    pub fn poll_open(&self, cx: &Context<'_>) -> Poll<Result<(), Ended>> {
        let found = self.drive(|it| match it.takes_a_stream() {
            Ok(()) if it.out().len() >= MOST_HEADS => {
                self.is_unread.set(true);
                Err(Full::Now)
            }
            found => found,
        });
        match found {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Full::Forever) => Poll::Ready(Err(Ended::Refused)),
            Err(Full::Now) => {
                let mut queue = self.queue.borrow_mut();
                // It is asked whenever its task runs, whatever for.
                if !queue.iter().any(|it| it.will_wake(cx.waker())) {
                    queue.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Open a stream with a request.
    ///
    /// # Errors
    /// The peer takes no more: `poll_open` was not asked in this moment.
    pub fn open(&self, head: &Headers) -> Result<Key, Ended> {
        self.with(|it| it.open(head, false))
            .map_err(|_| Ended::Refused)
    }

    /// Wake those that wait until the peer reads, once it has.
    pub(super) fn wake_opening(&self) {
        if self.is_unread.get() && self.drive(|it| it.out().len()) <= MOST_HEADS / 2 {
            self.is_unread.set(false);
            self.wake_queue();
        }
    }

    /// Let those that wait for a stream look again: all, as some may have gone without a word. Who still finds no room waits
    /// anew.
    pub(super) fn wake_queue(&self) {
        for waker in self.queue.take() {
            waker.wake();
        }
    }

    /// Whether a part of the stream's metadata was left away. Asked once.
    pub fn is_cut(&self, stream: u32) -> bool {
        let mut cut = self.cut.borrow_mut();
        let found = cut.iter().position(|each| *each == stream);
        found.and_then(|place| cut.remove(place)).is_some()
    }

    fn cut(&self, stream: u32) {
        let mut cut = self.cut.borrow_mut();
        if cut.len() == MOST_CUT {
            cut.pop_front();
        }
        cut.push_back(stream);
    }

    /// Tell a stream's user what came on it. What nobody takes is done with.
    pub fn deliver(&self, event: Event) {
        match event {
            Event::Head {
                stream,
                headers,
                is_cut,
                ends,
                ..
            } => {
                if is_cut {
                    self.cut(stream.id);
                }
                if let Some(handle) = self.find(stream) {
                    handle.on_head(headers, is_cut, ends);
                }
            }
            Event::Data {
                stream,
                bytes,
                ends,
            } => match self.find(stream) {
                Some(handle) => handle.on_data(bytes, ends),
                None if bytes.is_empty() => {}
                None => self.drive(|it| it.release(stream, bytes.len())),
            },
            Event::Trailers {
                stream,
                headers,
                is_cut,
            } => {
                if is_cut {
                    self.cut(stream.id);
                }
                if let Some(handle) = self.find(stream) {
                    handle.on_trailers(headers);
                }
            }
            Event::Reset { stream, by, code } => {
                if let Some(handle) = self.find(stream) {
                    handle.on_ended(Ended::Reset { by, code });
                }
            }
            // More streams may be taken now, or none any more.
            Event::Settings | Event::GoAway { .. } => self.wake_queue(),
            Event::Pong(_) => {}
        }
    }

    /// Wake those whose streams have room.
    pub(super) fn wake_roomy(&self) {
        loop {
            let next = self.drive(|it| it.next_roomy());
            let Some(key) = next else {
                return;
            };
            if let Some(handle) = self.find(key) {
                handle.on_room();
            }
        }
    }

    /// The connection is over: so are its streams.
    pub fn end(&self, ended: Ended) {
        let handles: Vec<_> = self
            .handles
            .borrow()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for handle in handles {
            handle.on_ended(ended);
        }
        self.drive(|it| it.close(Code::NO_ERROR, "over"));
        self.wake_queue();
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
