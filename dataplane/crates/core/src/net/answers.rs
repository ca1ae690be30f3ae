//! What comes on an endpoint's connection, walked in front of h2's client side, for two things that h2 does not tell.
//! Of trailers beyond the limit h2 0.4.20 leaves away what is too much, and passes on the rest as if it were all. And a
//! connection that stays in the midst of a frame or of a header block hangs with all its calls.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::frames::Walker;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;

/// Most streams whose trailers were too large that are remembered; a call asks as soon as it has its trailers.
const MOST_CUT: usize = 64;

/// What the calls and the driver of a connection see of it.
pub struct AnswerState {
    most: usize,
    /// Streams with a header block beyond the limit.
    cut: RefCell<VecDeque<u32>>,
    is_within: Cell<bool>,
    reads: Cell<u64>,
}

/// The wrapper; owned by h2, beside an [`AnswerState`].
pub struct Answers<T> {
    inner: T,
    state: Rc<AnswerState>,
    walker: Walker,
    /// Stream and size of a header block whose end has not come.
    block: Option<(u32, usize)>,
}

/// Watches for a connection that stays in the midst of something.
pub struct Stuck {
    state: Rc<AnswerState>,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    seen: u64,
}

// === impl AnswerState ===

impl AnswerState {
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
}

// === impl Answers ===

impl<T> Answers<T> {
    /// Wrap the client's side of a connection; header blocks have at most so many bytes, packed.
    pub fn new(inner: T, most: u32) -> (Self, Rc<AnswerState>) {
        let state = Rc::new(AnswerState {
            most: most as usize,
            cut: RefCell::default(),
            is_within: Cell::default(),
            reads: Cell::default(),
        });
        let answers = Self {
            inner,
            state: state.clone(),
            walker: Walker::new(0),
            block: None,
        };
        (answers, state)
    }

    fn received(&mut self, bytes: &[u8]) {
        let (state, block) = (&self.state, &mut self.block);
        self.walker.walk(bytes, |frame| {
            let (stream, before) = match (frame.kind, *block) {
                (HEADERS, _) => (frame.stream, 0),
                // One of another stream, or without a beginning, is an error, which h2 finds.
                (CONTINUATION, Some(open)) => open,
                _ => return,
            };
            let size = before.saturating_add(frame.length);
            // Packed it is hardly ever larger than unpacked, where each field counts 32 bytes more.
            if before <= state.most && size > state.most {
                state.cut(stream);
            }
            *block = (frame.flags & END_HEADERS == 0).then_some((stream, size));
        });
        let is_within = self.block.is_some() || self.walker.is_within();
        self.state.is_within.set(is_within);
        self.state.reads.set(self.state.reads.get() + 1);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Answers<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        this.received(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Answers<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

// === impl Stuck ===

impl Stuck {
    pub fn new(state: Rc<AnswerState>, limit: Duration) -> Self {
        Self {
            state,
            limit,
            timer: None,
            seen: 0,
        }
    }

    /// Ready when nothing has come for the limit, in the midst of a frame or a header block. Polled after each read.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (is_within, reads) = (self.state.is_within.get(), self.state.reads.get());
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

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
