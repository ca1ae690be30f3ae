//! Reads and writes of one HTTP/2 connection in larger pieces than h2's, which cost a system call and a wake-up of the
//! peer each: it writes and flushes every DATA frame by itself, and reads a frame of 16 KiB in two.
//!
//! Written frames gather until the connection's driver, which polls h2, has let it say all that it has to say, or
//! until [`PIECE`] bytes are there. Reading looks ahead only where a read has filled its buffer, so that small
//! messages are not copied once more. Measured in docs/profile.md.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that wait to be written, and that are read ahead. What is written beyond goes with them, uncopied.
const PIECE: usize = 64 * 1024;

/// Slices of one write: the gathered bytes and what h2 gives at once, which is two.
const SLICES: usize = 4;

thread_local! {
    // The buffers that the next connection of this thread takes. They come back when they are empty, as a rule
    // within the same poll: an idle connection has none.
    static SPARE_OUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static SPARE_IN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The half that h2 owns. Until [`Flush::take_over`] it writes straight through.
pub struct Buffered<T> {
    shared: Rc<RefCell<Shared<T>>>,
}

/// The half of the connection's driver.
pub struct Flush<T> {
    shared: Rc<RefCell<Shared<T>>>,
}

struct Shared<T> {
    io: T,
    is_taken_over: bool,
    out: Vec<u8>,
    /// Bytes of `out` that are written already.
    written: usize,
    /// Read ahead; h2 has not had the part `unread` yet.
    ahead: Vec<u8>,
    unread: Range<usize>,
    /// The last read filled its buffer: more is there.
    is_bulk: bool,
}

pub fn buffered<T>(io: T) -> (Buffered<T>, Flush<T>) {
    let shared = Rc::new(RefCell::new(Shared {
        io,
        is_taken_over: false,
        out: Vec::new(),
        written: 0,
        ahead: Vec::new(),
        unread: 0..0,
        is_bulk: false,
    }));
    let flush = Flush {
        shared: shared.clone(),
    };
    (Buffered { shared }, flush)
}

// === impl Flush ===

impl<T> Flush<T> {
    /// Let h2 read `bytes` first, which have been read from the socket already.
    pub fn give_back(&self, bytes: Vec<u8>) {
        let shared = &mut *self.shared.borrow_mut();
        shared.unread = 0..bytes.len();
        shared.ahead = bytes;
    }
}

impl<T: AsyncWrite + Unpin> Flush<T> {
    /// From now on the driver flushes, after each poll of h2.
    pub fn take_over(&self) {
        self.shared.borrow_mut().is_taken_over = true;
    }

    /// Write what h2 has said. Pending when the peer does not take it yet.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.borrow_mut().poll_out(cx)
    }
}

// === impl Shared ===

impl<T: AsyncWrite + Unpin> Shared<T> {
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let bytes = &self.out[self.written..];
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
            self.advance(written)?;
        }
        // TLS may keep records that the socket did not take; a socket keeps nothing.
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Gather `slices`, or write them after what was gathered before: how many of their bytes were taken.
    fn poll_slices(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.is_taken_over && self.out.len() + length <= PIECE {
            if self.out.is_empty() {
                self.out = SPARE_OUT.take();
            }
            for slice in slices {
                self.out.extend_from_slice(slice);
            }
            return Poll::Ready(Ok(length));
        }
        loop {
            let waiting = self.out.len() - self.written;
            let mut all = [IoSlice::new(&[]); SLICES];
            all[0] = IoSlice::new(&self.out[self.written..]);
            let count = slices.len().min(SLICES - 1);
            all[1..=count].copy_from_slice(&slices[..count]);
            let first = usize::from(waiting == 0);
            let io = Pin::new(&mut self.io);
            let written = ready!(io.poll_write_vectored(cx, &all[first..=count]))?;
            if waiting > 0 {
                self.advance(written.min(waiting))?;
            }
            if written > waiting || waiting == 0 {
                return Poll::Ready(Ok(written - waiting));
            }
        }
    }

    fn advance(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += written;
        if self.written == self.out.len() {
            self.written = 0;
            self.out.clear();
            SPARE_OUT.set(std::mem::take(&mut self.out));
        }
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> Shared<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            if !self.is_bulk {
                let before = buf.filled().len();
                ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
                self.is_bulk = buf.remaining() == 0 && buf.filled().len() > before;
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_ahead(cx))?;
        }
        let length = buf.remaining().min(self.unread.len());
        let end = self.unread.start + length;
        buf.put_slice(&self.ahead[self.unread.start..end]);
        self.unread.start = end;
        if self.unread.is_empty() {
            let emptied = std::mem::take(&mut self.ahead);
            // What was given back is no buffer of this size.
            if emptied.len() == PIECE {
                SPARE_IN.set(emptied);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Read ahead as much as is there; nothing at the end of the stream.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ahead = SPARE_IN.take();
        if ahead.is_empty() {
            ahead = vec![0; PIECE];
        }
        let mut room = ReadBuf::new(&mut ahead);
        let result = Pin::new(&mut self.io).poll_read(cx, &mut room);
        self.unread = 0..room.filled().len();
        self.is_bulk = self.unread.len() == PIECE;
        if self.unread.is_empty() {
            SPARE_IN.set(ahead);
        } else {
            self.ahead = ahead;
        }
        result
    }
}

// === impl Buffered ===

impl<T: AsyncRead + Unpin> AsyncRead for Buffered<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.shared.borrow_mut().poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Buffered<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.borrow_mut().poll_slices(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &mut *self.shared.borrow_mut();
        if shared.is_taken_over {
            return Poll::Ready(Ok(()));
        }
        ready!(shared.poll_out(cx))?;
        Pin::new(&mut shared.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &mut *self.shared.borrow_mut();
        ready!(shared.poll_out(cx))?;
        Pin::new(&mut shared.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "buffered_tests.rs"]
mod tests;
