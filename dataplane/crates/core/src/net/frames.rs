//! Frame accounting in front of h2's server side: an IO wrapper that walks frame heads in both directions and
//! stops reading when a peer floods. h2 0.4.20 answers or ignores any number of PING, SETTINGS, PRIORITY and
//! WINDOW_UPDATE frames; CONTINUATION, tiny DATA frames and the frames' contents are h2's own business.
//!
//! The limit is a credit, because honest control frames follow traffic (grpc-go pings once per round trip while
//! it receives): each control frame costs 1; each HEADERS frame received, and each DATA frame with content either
//! way, earns. Outgoing frames are walked too, not guessed from bytes: a client answers frames, and small
//! messages are many frames in few bytes. What was earned is kept up to [`HOARD`] times the first credit.
//!
//! When the credit is used up, [`FrameState::flooded`] says by what, the task is woken once, and nothing is read
//! any more. The connection's driver then calls h2's `abrupt_shutdown(ENHANCE_YOUR_CALM)`; writing goes on, so
//! that the GOAWAY gets out.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

mod kind;

use kind::{FrameKind, HEAD_LEN, PADDED};

/// Most credit, as a multiple of the first one. What a client answers late must fit, as it earned while the credit
/// may have been full: 64 KiB of one-byte messages are 11,000 DATA frames, for each of which a naive client may owe
/// two WINDOW_UPDATE frames and a PING. What an attacker can save up is bounded all the same.
const HOARD: u32 = 64;

/// What a client sends first (RFC 9113#3.4); h2 checks it.
const PREFACE_LEN: usize = 24;

/// What a connection's driver sees of its frames.
pub struct FrameState {
    per_frame: u32,
    most: u32,
    credit: Cell<u32>,
    flooded: Cell<Option<&'static str>>,
}

/// The wrapper; owned by h2, beside a [`FrameState`] for the driver on the same thread.
pub struct Frames<T> {
    inner: T,
    state: Rc<FrameState>,
    incoming: Walker,
    outgoing: Walker,
    has_stopped: bool,
}

/// Finds frame heads in a stream of bytes that comes in pieces of any size.
pub struct Walker {
    /// Bytes until the next head: preface or payload.
    skip: usize,
    /// The next head as far as it has come; with the length of its padding, where it has one.
    head: [u8; HEAD_LEN + 1],
    filled: usize,
}

/// The head of one frame.
pub struct Walked {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub length: usize,
}

// === impl FrameState ===

impl FrameState {
    fn new(credit: u32, per_frame: u32) -> Self {
        Self {
            per_frame,
            most: credit.saturating_mul(HOARD),
            credit: Cell::new(credit),
            flooded: Cell::new(None),
        }
    }

    /// The [reason](FrameKind::flood) to close the connection, once its credit is used up.
    pub fn flooded(&self) -> Option<&'static str> {
        self.flooded.get()
    }

    fn on_received(&self, kind: FrameKind) {
        match kind {
            FrameKind::Data | FrameKind::Headers => self.earn(),
            // h2 allows only a few in a row.
            FrameKind::Continuation => {}
            _ => match self.credit.get().checked_sub(1) {
                Some(left) => self.credit.set(left),
                None => self.flooded.set(self.flooded.get().or(Some(kind.flood()))),
            },
        }
    }

    fn on_sent(&self, kind: FrameKind) {
        if kind == FrameKind::Data {
            self.earn();
        }
    }

    fn earn(&self) {
        let credit = self.credit.get().saturating_add(self.per_frame);
        self.credit.set(credit.min(self.most));
    }
}

// === impl Walker ===

impl Walker {
    /// A walker that passes over so many bytes first.
    pub fn new(skip: usize) -> Self {
        Self {
            skip,
            head: [0; HEAD_LEN + 1],
            filled: 0,
        }
    }

    /// Take the stream's next bytes and tell the head of each frame that they complete.
    pub fn walk(&mut self, bytes: &[u8], mut on_frame: impl FnMut(Walked)) {
        self.each(bytes, |head, length| {
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            on_frame(Walked {
                kind: head[3],
                flags: head[4],
                stream,
                length,
            });
        });
    }

    /// Whether a frame has begun and not ended.
    pub fn is_within(&self) -> bool {
        self.skip > 0 || self.filled > 0
    }

    /// As [`walk`](Self::walk), but name what kind of frame it is.
    fn feed(&mut self, bytes: &[u8], mut on_frame: impl FnMut(FrameKind)) {
        self.each(bytes, |head, length| on_frame(FrameKind::of(head, length)));
    }

    fn each(&mut self, mut bytes: &[u8], mut on_head: impl FnMut(&[u8; HEAD_LEN + 1], usize)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];

            let taken = (self.wanted() - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            // A complete head may turn out to want the length of its padding as well.
            if self.filled >= HEAD_LEN && self.filled == self.wanted() {
                let length = self.length();
                on_head(&self.head, length);
                self.skip = length - (self.filled - HEAD_LEN);
                self.filled = 0;
            }
        }
    }

    /// Length of the payload; valid once the head is there.
    fn length(&self) -> usize {
        usize::from(self.head[0]) << 16 | usize::from(self.head[1]) << 8 | usize::from(self.head[2])
    }

    fn wanted(&self) -> usize {
        let is_padded_data =
            self.filled >= HEAD_LEN && self.head[3] == 0 && self.head[4] & PADDED != 0;
        // A padded frame of length 0 is an error, which h2 answers.
        if is_padded_data && self.length() > 0 {
            HEAD_LEN + 1
        } else {
            HEAD_LEN
        }
    }
}

// === impl Frames ===

impl<T> Frames<T> {
    /// Wrap the server's side of a connection: `credit` control frames are free, `per_frame` more are earned by
    /// each frame of traffic.
    pub fn new(inner: T, credit: u32, per_frame: u32) -> (Self, Rc<FrameState>) {
        let state = Rc::new(FrameState::new(credit, per_frame));
        let frames = Self {
            inner,
            state: state.clone(),
            incoming: Walker::new(PREFACE_LEN),
            outgoing: Walker::new(0),
            has_stopped: false,
        };
        (frames, state)
    }

    fn sent(&mut self, bytes: &[u8]) {
        let state = &self.state;
        self.outgoing.feed(bytes, |kind| state.on_sent(kind));
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Frames<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.state.flooded().is_some() {
            if !this.has_stopped {
                this.has_stopped = true;
                // The driver polls h2 first: it must run once more to see the flood.
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let state = &this.state;
        this.incoming
            .feed(&buf.filled()[before..], |kind| state.on_received(kind));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Frames<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
        this.sent(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let part = left.min(buf.len());
            this.sent(&buf[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
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

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "frames_h2_tests.rs"]
mod h2_tests;
