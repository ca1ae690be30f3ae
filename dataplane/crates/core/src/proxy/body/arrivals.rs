//! A request's bytes as they arrive. Those that the call's endpoint does not take yet can be taken off the caller's
//! connection, so that they hold up none of its other calls.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::call::limit::{Held, HeldBytes};
use crate::chunks::Chunks;
use crate::net::guard::Kept;
use crate::net::stream::{Body, Broken};

pub struct Arrivals {
    body: Body,
    /// Taken off the connection, and not asked for yet. The stream's window reopens only when they are, which bounds one
    /// call's part; the budget bounds that of all calls.
    chunks: Chunks,
    kept: Kept,
    held: Held,
    /// The budget is used up. What comes now stays where it closes the connection's window, and no call fails for it:
    /// who waits keeps its place among the calls in flight, by which its endpoint gets fewer.
    is_full: bool,
}

// === impl Arrivals ===

impl Arrivals {
    /// `budget` is the process's for bytes that endpoints do not take.
    pub fn new(body: Body, kept: Kept, budget: &Arc<HeldBytes>) -> Self {
        Self {
            body,
            chunks: Chunks::default(),
            kept,
            held: Held::new(budget.clone()),
            is_full: false,
        }
    }

    /// The next chunk, for which the stream's window reopens; none at the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let chunk = match self.chunks.pop() {
            Some(chunk) => {
                self.give_back(chunk.len());
                chunk
            }
            None => match ready!(self.body.poll_chunk(cx)) {
                Some(Ok(chunk)) => chunk,
                end => return Poll::Ready(end),
            },
        };
        self.body.release(chunk.len());
        Poll::Ready(Some(Ok(chunk)))
    }

    /// Take what has come off the connection, while nothing of it can be sent on.
    pub fn take_off(&mut self, cx: &mut Context<'_>) {
        // An error is told to who comes to it.
        while !self.is_full
            && let Poll::Ready(Some(Ok(chunk))) = self.body.poll_chunk(cx)
        {
            if self.held.try_grow(chunk.len()) {
                self.kept.grow(chunk.len());
            } else {
                self.is_full = true;
            }
            self.chunks.push(chunk);
        }
    }

    /// Whether the last chunk has been taken.
    pub fn has_ended(&self) -> bool {
        self.chunks.is_empty() && self.body.has_ended()
    }

    fn give_back(&mut self, bytes: usize) {
        if self.is_full && self.chunks.is_empty() {
            // The last one found no room.
            self.is_full = false;
        } else {
            self.held.shrink(bytes);
            self.kept.shrink(bytes);
        }
    }
}
