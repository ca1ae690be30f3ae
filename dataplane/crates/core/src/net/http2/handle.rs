//! A stream as its user sees it.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use dl_http2::{By, Chunks, Code, Key};
use http::StatusCode;

use super::ended::{CANCELLED, Ended};
use super::fields;
use super::link::{Link, Receiver};
use crate::headers::{Headers, Token};

/// One stream. When the last user of it goes before its end, it is reset.
#[derive(Debug)]
pub struct Handle {
    link: Rc<Link<Self>>,
    key: Key,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of an answer.
    head: Option<(StatusCode, Headers)>,
    chunks: Chunks,
    trailers: Option<Headers>,
    /// Bytes that came and were not released: what is left of them is when the stream is dropped.
    held: usize,
    /// All that comes has come.
    has_end: bool,
    /// Nobody takes what comes.
    is_unread: bool,
    ended: Option<Ended>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    watcher: Option<Waker>,
}

/// Store the task, if it is another one.
fn store(place: &mut Option<Waker>, cx: &Context<'_>) {
    if !place.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}

fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}

// === impl Handle ===

impl Handle {
    /// The stream, for its user; what comes on it is told to it.
    pub fn new(link: &Rc<Link<Self>>, key: Key) -> Rc<Self> {
        let handle = Rc::new(Self {
            link: link.clone(),
            key,
            state: RefCell::default(),
        });
        link.add(key, &handle);
        handle
    }

    pub fn key(&self) -> Key {
        self.key
    }

    /// All that comes of it came with its head.
    pub fn has_no_body(&self) {
        self.state.borrow_mut().has_end = true;
    }

    // --- what its user asks ---

    /// The head of the answer.
    pub fn poll_head(&self, cx: &Context<'_>) -> Poll<Result<(StatusCode, Headers), Ended>> {
        let state = &mut *self.state.borrow_mut();
        if let Some(head) = state.head.take() {
            return Poll::Ready(Ok(head));
        }
        if let Some(ended) = state.ended {
            return Poll::Ready(Err(ended));
        }
        store(&mut state.reader, cx);
        Poll::Pending
    }

    pub fn poll_chunk(&self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Ended>>> {
        let state = &mut *self.state.borrow_mut();
        if let Some(chunk) = state.chunks.pop() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        if state.has_end {
            return Poll::Ready(None);
        }
        if let Some(ended) = state.ended {
            return Poll::Ready(Some(Err(ended)));
        }
        store(&mut state.reader, cx);
        Poll::Pending
    }

    /// So many bytes that were taken are done with.
    pub fn release(&self, bytes: usize) {
        let bytes = {
            let mut state = self.state.borrow_mut();
            // Of a stream that nobody reads any more all were.
            let bytes = bytes.min(state.held);
            state.held -= bytes;
            bytes
        };
        self.link.with(|it| it.release(self.key, bytes));
    }

    pub fn has_ended(&self) -> bool {
        let state = self.state.borrow();
        state.has_end && state.chunks.is_empty() && state.trailers.is_none()
    }

    pub fn poll_trailers(&self, cx: &Context<'_>) -> Poll<Result<Option<Headers>, Ended>> {
        let state = &mut *self.state.borrow_mut();
        if state.has_end {
            return Poll::Ready(Ok(state.trailers.take()));
        }
        if let Some(ended) = state.ended {
            return Poll::Ready(Err(ended));
        }
        store(&mut state.reader, cx);
        Poll::Pending
    }

    /// Nothing more of what comes is taken.
    pub fn stop_reading(&self) {
        let (bytes, has_end) = {
            let state = &mut *self.state.borrow_mut();
            state.is_unread = true;
            state.chunks.clear();
            (std::mem::take(&mut state.held), state.has_end)
        };
        if bytes == 0 && has_end {
            // As of each call whose body was taken: there is nothing to tell.
            return;
        }
        self.link.with(|it| {
            it.release(self.key, bytes);
            if !has_end {
                it.ignore(self.key);
            }
        });
    }

    // --- what its user sends ---

    pub fn send_head(
        &self,
        status: StatusCode,
        mut headers: Headers,
        ends: bool,
    ) -> Result<(), Ended> {
        if ends {
            self.fit(&mut headers);
        }
        headers.push_first(Token::STATUS, status.as_str());
        let sent = self.link.with(|it| it.send_head(self.key, &headers, ends));
        sent.map_err(|_| self.ended())
    }

    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<Result<(), Ended>> {
        let state = &mut *self.state.borrow_mut();
        if let Some(ended) = state.ended {
            return Poll::Ready(Err(ended));
        }
        let (has_room, is_over) = self
            .link
            .ask(|it| (it.has_room(self.key), it.has_sent_end(self.key)));
        if is_over {
            return Poll::Ready(Err(CANCELLED));
        }
        if has_room {
            return Poll::Ready(Ok(()));
        }
        store(&mut state.writer, cx);
        self.link.drive(|it| it.want_room(self.key));
        Poll::Pending
    }

    pub fn send(&self, chunk: Bytes, is_last: bool) -> Result<(), Ended> {
        let sent = self.link.with(|it| it.send_data(self.key, chunk, is_last));
        sent.map_err(|_| self.ended())
    }

    pub fn trailers(&self, mut trailers: Headers) -> Result<(), Ended> {
        self.fit(&mut trailers);
        let sent = self.link.with(|it| it.send_trailers(self.key, trailers));
        sent.map_err(|_| self.ended())
    }

    /// Cut the text of a status where the other side would take the whole list for an error of another kind.
    fn fit(&self, headers: &mut Headers) {
        let most = self.link.ask(|it| it.peer_max_list()) as usize;
        fields::fit(headers, most);
    }

    pub fn reset(&self, code: Code) {
        self.link.with(|it| it.reset(self.key, code));
    }

    pub fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        if state.ended.is_some() {
            return Poll::Ready(());
        }
        store(&mut state.watcher, cx);
        Poll::Pending
    }

    fn ended(&self) -> Ended {
        self.state.borrow().ended.unwrap_or(CANCELLED)
    }
}

impl Receiver for Handle {
    fn key(&self) -> Key {
        self.key
    }

    fn on_head(&self, headers: Headers, is_cut: bool, ends: bool) {
        let state = &mut *self.state.borrow_mut();
        state.has_end |= ends;
        // A status may say enough without what is missing.
        let is_whole = !is_cut || (ends && headers.has(Token::GRPC_STATUS));
        match fields::answer(headers) {
            Some(head) if is_whole => state.head = Some(head),
            _ => {
                let by = By::Us("its metadata is larger than the limit");
                let code = Code::PROTOCOL_ERROR;
                state.ended.get_or_insert(Ended::Reset { by, code });
            }
        }
        wake(&mut state.reader);
    }

    fn on_data(&self, bytes: Bytes, ends: bool) {
        let mut state = self.state.borrow_mut();
        state.has_end |= ends;
        if state.is_unread {
            drop(state);
            self.link.drive(|it| it.release(self.key, bytes.len()));
            return;
        }
        if !bytes.is_empty() {
            state.held += bytes.len();
            state.chunks.push(bytes);
        }
        wake(&mut state.reader);
    }

    fn on_trailers(&self, headers: Headers) {
        let state = &mut *self.state.borrow_mut();
        state.has_end = true;
        state.trailers = Some(headers);
        wake(&mut state.reader);
    }

    fn on_ended(&self, ended: Ended) {
        let state = &mut *self.state.borrow_mut();
        state.ended.get_or_insert(ended);
        wake(&mut state.reader);
        wake(&mut state.writer);
        wake(&mut state.watcher);
    }

    fn on_room(&self) {
        wake(&mut self.state.borrow_mut().writer);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let (key, held) = (self.key, self.state.get_mut().held);
        self.link.with(|it| {
            it.release(key, held);
            it.abandon(key);
        });
        self.link.forget(key);
        self.link.wake_queue();
    }
}
