//! An answer on its way to the caller: taken from the endpoint as it comes, so that no other call waits for room on
//! the connection, and kept while its caller takes nothing.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::clock::Clock;
use super::failure::{Failure, after_headers, cancelled};
use super::listing::Completion;
use crate::call::limit::{Held, HeldBytes};
use crate::chunks::Chunks;
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::Frames;
use crate::headers::Headers;
use crate::net::stream::{Body, Sender};

pub struct Relay<'a> {
    body: Body,
    framing: Frames,
    out: &'a mut Sender,
    /// Bytes passed on, for the record.
    bytes: &'a mut usize,
    /// Holds the answer back, where versions may have to be added to it.
    completion: Option<Completion>,
    kept: Kept<'a>,
    /// How the endpoint's part ended, while what it sent before is still here.
    end: Option<Result<(), Failure>>,
    /// The caller does not take the answer: what it was sent last is still here.
    pub is_unread: bool,
}

/// What has come from the endpoint and not been passed on. The stream's window reopens only as it is, which bounds
/// one call's part; the budget bounds that of all calls.
struct Kept<'a> {
    chunks: Chunks,
    held: Option<Held>,
    budget: &'a Arc<HeldBytes>,
}

// === impl Relay ===

impl<'a> Relay<'a> {
    /// Pass `body` on to `out`; `budget` is the process's for bytes that callers do not take.
    pub fn new(
        (body, framing): (Body, Frames),
        completion: Option<Completion>,
        (out, bytes): (&'a mut Sender, &'a mut usize),
        budget: &'a Arc<HeldBytes>,
    ) -> Self {
        Self {
            body,
            framing,
            out,
            bytes,
            completion,
            kept: Kept {
                chunks: Chunks::default(),
                held: None,
                budget,
            },
            end: None,
            is_unread: false,
        }
    }

    /// Pass on what has come, as far as the caller takes it. Ready with the trailers when all of it is.
    ///
    /// # Errors
    /// The endpoint's failure, after what came before it; the caller's reset; `shed` when the process keeps too much
    /// for callers that take nothing.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: &mut Clock<'_>,
    ) -> Poll<Result<Option<Headers>, Failure>> {
        loop {
            self.is_unread = !self.pass_kept(cx, clock)?;
            if self.end.is_some() {
                return self.poll_end(cx);
            }
            match self.body.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => self.take(chunk, clock)?,
                Poll::Ready(Some(Err(broken))) => self.fail(after_headers(&broken)),
                Poll::Ready(None) => self.end = Some(self.complete()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The number of the endpoint's stream.
    pub fn stream(&self) -> u32 {
        self.body.number()
    }

    /// Ready when the caller goes away.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.out.poll_reset(cx)
    }

    /// Pass on what is kept. False while the caller takes no more.
    fn pass_kept(&mut self, cx: &mut Context<'_>, clock: &mut Clock<'_>) -> Result<bool, Failure> {
        loop {
            if *self.bytes > 0 {
                match self.out.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Err(Failure::Caller(cancelled())),
                    Poll::Pending => return Ok(false),
                }
            }
            let Some(chunk) = self.kept.pop() else {
                return Ok(true);
            };
            self.pass(chunk, clock)?;
        }
    }

    fn take(&mut self, chunk: Bytes, clock: &mut Clock<'_>) -> Result<(), Failure> {
        if let Err(error) = check_sizes(&mut self.framing, &chunk) {
            self.fail(Failure::Endpoint(error));
        } else if let Some(completion) = &mut self.completion {
            clock.progress(chunk.len());
            self.body.release(chunk.len());
            completion.push(&chunk);
        } else if self.is_unread {
            self.kept.push(chunk).map_err(Failure::Caller)?;
        } else {
            self.pass(chunk, clock)?;
        }
        Ok(())
    }

    fn pass(&mut self, chunk: Bytes, clock: &mut Clock<'_>) -> Result<(), Failure> {
        clock.progress(chunk.len());
        // Taken as fast as the caller takes it: the stream's window reopens only now.
        self.body.release(chunk.len());
        self.send(chunk)
    }

    fn send(&mut self, chunk: Bytes) -> Result<(), Failure> {
        *self.bytes += chunk.len();
        let sent = self.out.send(chunk, false);
        sent.map_err(|_| Failure::Caller(cancelled()))
    }

    /// The answer ends here; what came before is still passed on.
    fn fail(&mut self, failure: Failure) {
        self.end = Some(Err(failure));
    }

    /// Forward the answer that was held back, if one was.
    fn complete(&mut self) -> Result<(), Failure> {
        self.completion
            .take()
            .map_or(Ok(()), |completion| self.send(completion.finish()))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Headers>, Failure>> {
        if self.is_unread {
            return Poll::Pending;
        }
        if matches!(self.end, Some(Err(_))) {
            self.end.take().expect("just seen")?;
        }
        let trailers = self.body.poll_trailers(cx);
        trailers.map_err(|broken| after_headers(&broken))
    }
}

// === impl Kept ===

impl Kept<'_> {
    fn push(&mut self, chunk: Bytes) -> Result<(), Error> {
        let held = self
            .held
            .get_or_insert_with(|| Held::new(self.budget.clone()));
        if !held.try_grow(chunk.len()) {
            let text = "too many bytes of answers wait for callers that do not take them (max_unread_bytes)";
            return Err(Error::new(ErrorKind::Shed, text));
        }
        self.chunks.push(chunk);
        Ok(())
    }

    fn pop(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.pop()?;
        if let Some(held) = &mut self.held {
            held.shrink(chunk.len());
        }
        Some(chunk)
    }
}

/// Walk the messages of a chunk: an answer beyond max_message_bytes is refused, and one that is malformed is the
/// endpoint's fault, not a bad request.
fn check_sizes(framing: &mut Frames, chunk: &[u8]) -> Result<(), Error> {
    framing.pass(chunk).map_err(|error| match error.kind {
        ErrorKind::BadRequest => Error::new(ErrorKind::BadUpstreamResponse, error.message),
        _ => error,
    })
}
