//! An answer on its way between two tasks: what a call writes, another task reads. The writer waits while
//! much lies unread, and learns when nobody reads any more.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::StatusCode;

use crate::headers::Headers;

/// Bytes that may lie unread before the writer waits; one chunk may overshoot it.
const ROOM: usize = 64 * 1024;

#[derive(Debug, Default)]
struct State {
    head: Option<(StatusCode, Headers)>,
    chunks: VecDeque<Bytes>,
    unread: usize,
    trailers: Option<Headers>,
    /// The writer has said all that it says.
    is_complete: bool,
    is_writer_gone: bool,
    is_reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The writer's end. Dropped before the end of the answer, it breaks it off.
#[derive(Debug)]
pub struct Writing(Arc<Mutex<State>>);

/// The reader's end. Dropped, it tells the writer that nobody reads any more.
#[derive(Debug)]
pub struct Reading(Arc<Mutex<State>>);

/// The other end of a pipe is gone.
#[derive(Debug)]
pub struct Gone;

/// A pipe for one answer.
pub fn pipe() -> (Writing, Reading) {
    let state = Arc::<Mutex<State>>::default();
    (Writing(state.clone()), Reading(state))
}

/// Nothing that is written under the lock can be left half-written by a panic.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl State ===

impl State {
    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

// === impl Writing ===

impl Writing {
    /// Begin the answer; `is_end` where nothing follows.
    pub fn head(&self, status: StatusCode, headers: Headers, is_end: bool) -> Result<(), Gone> {
        self.write(|state| {
            state.head = Some((status, headers));
            state.is_complete = is_end;
        })
    }

    /// Ready when one more chunk may be sent.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let mut state = lock(&self.0);
        if state.is_reader_gone {
            return Poll::Ready(Err(Gone));
        }
        if state.unread < ROOM {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub fn send(&self, chunk: Bytes, is_last: bool) -> Result<(), Gone> {
        self.write(|state| {
            state.unread += chunk.len();
            state.chunks.push_back(chunk);
            state.is_complete = is_last;
        })
    }

    pub fn trailers(&self, trailers: Headers) -> Result<(), Gone> {
        self.write(|state| {
            state.trailers = Some(trailers);
            state.is_complete = true;
        })
    }

    /// Break the answer off.
    pub fn reset(&self) {
        let mut state = lock(&self.0);
        state.is_complete = false;
        state.is_writer_gone = true;
        state.wake_reader();
    }

    /// Ready when nobody reads any more.
    pub fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        if state.is_reader_gone {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn write(&self, write: impl FnOnce(&mut State)) -> Result<(), Gone> {
        let mut state = lock(&self.0);
        if state.is_reader_gone {
            return Err(Gone);
        }
        write(&mut state);
        state.wake_reader();
        Ok(())
    }
}

// === impl Reading ===

impl Reading {
    /// Wait for the head of the answer.
    pub async fn head(&self) -> Result<(StatusCode, Headers), Gone> {
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            match state.head.take() {
                Some(head) => Poll::Ready(Ok(head)),
                None if state.is_writer_gone => Poll::Ready(Err(Gone)),
                None => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The next chunk; none at the end.
    pub fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        let mut state = lock(&self.0);
        if let Some(chunk) = state.chunks.pop_front() {
            state.unread -= chunk.len();
            if state.unread < ROOM {
                state.wake_writer();
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
        if state.is_complete {
            return Poll::Ready(None);
        }
        if state.is_writer_gone {
            return Poll::Ready(Some(Err(Gone)));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// As [`poll_chunk`](Self::poll_chunk).
    pub async fn chunk(&self) -> Option<Result<Bytes, Gone>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// What followed the last chunk.
    pub fn trailers(&self) -> Option<Headers> {
        lock(&self.0).trailers.take()
    }

    /// Whether all of the answer has been read.
    pub fn has_ended(&self) -> bool {
        let state = lock(&self.0);
        state.is_complete && state.chunks.is_empty()
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.is_writer_gone = true;
        state.wake_reader();
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.is_reader_gone = true;
        state.chunks.clear();
        state.wake_writer();
    }
}
