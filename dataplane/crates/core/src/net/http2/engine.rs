//! Reads and writes of a connection: one large read, what it brings, and one gathered write for all that comes of it.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use dl_http2::{Connection, Event, Fatal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::handle::Handle;
use super::link::Link;

/// Bytes of one read.
const READ: usize = 64 * 1024;
/// Reads of one turn: other connections have theirs.
const READS: usize = 8;
/// Bytes that are gathered before they are written.
const GATHERED: usize = 64 * 1024;
/// Slices of one write.
const SLICES: usize = 32;
/// Most bytes that are read of a peer that was told that the connection is over: as many as may be on their way.
const MOST_LINGERED: usize = 4 << 20;
/// Most bytes that wait because the peer reads nothing: beyond it nothing that it sends is read.
const MOST_WAITING: usize = 1 << 20;

thread_local! {
    // The buffer that the next read of this thread takes: an idle connection has none.
    static SPARE: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// What drives a connection.
#[derive(Debug)]
pub struct Engine<T> {
    io: T,
    link: Rc<Link<Handle>>,
    /// Read, and not taken yet.
    input: Bytes,
    reads: u64,
}

/// What came of a turn.
#[derive(Debug)]
pub enum Turn {
    Event(Event),
    /// The peer sends nothing any more.
    Closed,
    /// The peer broke the rules; what tells it so is to be written.
    Fatal(Fatal),
    Io(io::Error),
}

// === impl Engine ===

impl<T: AsyncRead + AsyncWrite + Unpin> Engine<T> {
    /// Drive `connection` over `io`, from which `seen` was read already.
    pub fn new(io: T, connection: Connection, seen: Vec<u8>) -> Self {
        Self {
            io,
            link: Link::new(connection),
            input: seen.into(),
            reads: 0,
        }
    }

    pub fn link(&self) -> &Rc<Link<Handle>> {
        &self.link
    }

    /// Whether nothing has come since the last time it was asked, in the midst of a frame or a header block.
    pub fn reads(&self) -> (u64, bool) {
        (self.reads, self.link.ask(|it| it.is_within()))
    }

    /// What comes next. Pending when nothing more has come, and what is to be written is, as far as the peer takes it.
    /// `budget` is that of one turn of the task.
    pub fn poll(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> Poll<Turn> {
        if let Poll::Ready(turn) = self.poll_received(cx, budget) {
            return Poll::Ready(turn);
        }
        match self.poll_write(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Turn::Io(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// As [`poll`](Self::poll), but nothing is written.
    pub fn poll_received(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> Poll<Turn> {
        self.link.is_driven(cx);
        loop {
            let input = &mut self.input;
            match self.link.drive(|it| it.receive(input)) {
                Ok(Some(event)) => return Poll::Ready(Turn::Event(event)),
                Ok(None) => {}
                Err(fatal) => return Poll::Ready(Turn::Fatal(fatal)),
            }
            self.input = Bytes::new();
            let waiting = self.link.drive(|it| it.out().len());
            if waiting > MOST_WAITING {
                return Poll::Pending;
            }
            if *budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Turn::Closed),
                Ok(_) => *budget -= 1,
                Err(error) => return Poll::Ready(Turn::Io(error)),
            }
        }
    }

    /// The budget of a turn.
    pub fn budget() -> usize {
        READS
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = SPARE.take();
        // Nothing is copied, and nothing is asked for where the last read's bytes are all gone.
        buffer.reserve(READ);
        let read = pin!(self.io.read_buf(&mut buffer)).poll(cx);
        if matches!(read, Poll::Ready(Ok(1..))) {
            self.input = buffer.split().freeze();
            self.reads += 1;
        }
        SPARE.set(buffer);
        read
    }

    /// Write what is to be written.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.link.drive(|it| it.pump(GATHERED));
            self.link.wake_roomy();
            let io = &mut self.io;
            let written = self.link.drive(|it| {
                let out = it.out();
                if out.is_empty() {
                    return Poll::Ready(io::Result::Ok(0));
                }
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = out.slices(&mut slices);
                let written = ready!(Pin::new(io).poll_write_vectored(cx, &slices[..count]))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                out.advance(written);
                Poll::Ready(Ok(written))
            });
            if ready!(written)? == 0 {
                break;
            }
            self.link.wake_opening();
        }
        self.link.rest();
        // TLS may keep records that the socket did not take; a socket keeps nothing.
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Say that nothing more comes, and take what the peer still sends until it has closed, too: a socket that is closed
    /// with bytes unread resets its peer, which may lose by it what was written last. A peer that floods has no more of it.
    pub async fn linger(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)).await?;
        let mut left = MOST_LINGERED;
        while left > 0 {
            self.input = Bytes::new();
            match poll_fn(|cx| self.poll_read(cx)).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok(())
    }

    /// Whether the connection has ended in good order, and all is written.
    pub fn is_done(&self) -> bool {
        self.link.drive(|it| it.is_done() && it.out().is_empty())
    }
}
