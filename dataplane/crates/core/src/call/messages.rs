//! The messages of a request, whole and inflated, however the body is cut into chunks. Their bytes are counted against
//! the process's limit as they come, and the caller's window opens as they are used.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use super::inflate::inflate;
use super::limit::{Held, HeldBytes};
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::{Event, Frames};
use crate::grpc::metadata::GRPC_ENCODING;
use crate::grpc::status::Status;
use crate::headers::Headers;
use crate::net::stream::Body;

/// A body that brings fewer bytes than this in `body_timeout_ms` is a stall (balancing.md 4.1, slow read).
pub const MIN_PROGRESS: usize = 16 * 1024;

/// Memory reserved on a caller's word for a message's length; what is beyond comes with the bytes.
const MAX_RESERVED: usize = 1 << 20;

/// Reads the messages of one request.
#[derive(Debug)]
pub struct Messages {
    body: Body,
    /// Value of `grpc-encoding`.
    encoding: Option<Box<[u8]>>,
    frames: Frames,
    max_message_bytes: usize,
    budget: Arc<HeldBytes>,
    /// What is left of the last chunk, and how long it was.
    chunk: Bytes,
    chunk_length: usize,
    /// Bytes behind the chunk that came while nothing could be done with them, at most a stream's window.
    backlog: BytesMut,
    has_ended: bool,
    /// No further message is allowed.
    is_complete: bool,
    /// Bytes read so far.
    read: usize,
    message: Parts,
}

/// One message, and its share of the held bytes.
#[derive(Debug)]
pub struct Message {
    pub bytes: Bytes,
    pub held: Held,
}

/// What has come of a message.
#[derive(Debug)]
struct Parts {
    is_compressed: bool,
    length: usize,
    /// The first piece, as long as it is the only one: a message that lies in one chunk is not copied.
    first: Bytes,
    joined: Vec<u8>,
    held: Held,
}

// === impl Messages ===

impl Messages {
    /// `max_message_bytes` limits a message as sent and inflated.
    pub fn new(
        headers: &Headers,
        body: Body,
        max_message_bytes: usize,
        budget: Arc<HeldBytes>,
    ) -> Self {
        Self {
            body,
            encoding: headers.get(GRPC_ENCODING).map(Into::into),
            frames: Frames::new(max_message_bytes),
            max_message_bytes,
            message: Parts::new(&budget),
            budget,
            chunk: Bytes::new(),
            chunk_length: 0,
            backlog: BytesMut::new(),
            has_ended: false,
            is_complete: false,
            read: 0,
        }
    }

    /// The next message; none when the caller has sent all. May be dropped and called again.
    ///
    /// # Errors
    /// `bad_request`, `message_too_large`, `shed`, an encoding that is missing or not supported, the caller's cancel.
    pub async fn next(&mut self) -> Result<Option<Message>, Status> {
        loop {
            if let Some(message) = self.take_from_chunk()? {
                return Ok(Some(message));
            }
            self.body.release(self.chunk_length);
            self.chunk_length = 0;
            let chunk = match self.backlog.is_empty() {
                true => self.chunk().await?,
                false => Some(self.backlog.split().freeze()),
            };
            match chunk {
                Some(chunk) => (self.chunk_length, self.chunk) = (chunk.len(), chunk),
                None if self.frames.incomplete() => {
                    return Err(bad("the request ended inside a message").into());
                }
                None => return Ok(None),
            }
        }
    }

    /// The only message of a unary request, which ends behind it. Fewer than [`MIN_PROGRESS`] bytes in `stall`, or no
    /// end until the `deadline`, end the wait.
    ///
    /// # Errors
    /// As [`next`](Self::next); `bad_request` when there is none, or another; `deadline_exceeded`.
    pub async fn only(
        &mut self,
        deadline: Option<Instant>,
        stall: Duration,
    ) -> Result<Message, Status> {
        let message = self.within(deadline, stall).await?;
        let message = message.ok_or_else(|| bad("the request has no message"))?;
        self.is_complete = true;
        // A second message fails at its head.
        self.within(deadline, stall).await?;
        Ok(message)
    }

    /// Take whatever comes, for later, without end: there is no room for another message.
    ///
    /// Not to read at all would leave the caller's frames to the HTTP/2 library, which ends a connection, with every
    /// call on it, where too many small ones lie unread.
    ///
    /// # Errors
    /// The caller's cancel.
    pub async fn stash(&mut self) -> Result<(), Status> {
        if self.has_ended {
            return pending().await;
        }
        if let Some(chunk) = self.chunk().await? {
            self.backlog.extend_from_slice(&chunk);
        }
        Ok(())
    }

    async fn within(
        &mut self,
        deadline: Option<Instant>,
        stall: Duration,
    ) -> Result<Option<Message>, Status> {
        loop {
            let before = self.read;
            let stalled = Instant::now() + stall;
            let limit = deadline.map_or(stalled, |deadline| deadline.min(stalled));
            match timeout_at(limit, self.next()).await {
                Ok(next) => return next,
                Err(_) if limit == stalled && self.read >= before + MIN_PROGRESS => {}
                Err(_) => return Err(Status::late("the request's message did not come in time")),
            }
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Status> {
        let chunk = self.body.chunk().await;
        let chunk = chunk.transpose().map_err(|_| Status::gone())?;
        self.has_ended |= chunk.is_none();
        self.read += chunk.as_ref().map_or(0, Bytes::len);
        Ok(chunk)
    }

    /// Walk over what is left of the chunk, up to the end of a message.
    fn take_from_chunk(&mut self) -> Result<Option<Message>, Status> {
        loop {
            let mut rest: &[u8] = &self.chunk;
            let event = self.frames.next(&mut rest)?;
            let used = self.chunk.len() - rest.len();
            let is_end = event == Some(Event::End);
            match event {
                Some(Event::Start { .. }) if self.is_complete => {
                    return Err(bad("a unary call has one message, a second one came").into());
                }
                Some(Event::Start { compressed, length }) => {
                    (self.message.is_compressed, self.message.length) = (compressed, length);
                }
                Some(Event::Data(data)) => {
                    self.message.add(&self.chunk, data, self.chunk_length)?
                }
                Some(Event::End) => {}
                None => {
                    self.chunk.clear();
                    return Ok(None);
                }
            }
            self.chunk.advance(used);
            if is_end {
                return self.finish_message().map(Some);
            }
        }
    }

    fn finish_message(&mut self) -> Result<Message, Status> {
        let parts = std::mem::replace(&mut self.message, Parts::new(&self.budget));
        let is_compressed = parts.is_compressed;
        let mut message = parts.finish();
        if is_compressed {
            message.bytes = inflate(
                (GRPC_ENCODING, self.encoding.as_deref()),
                &message.bytes,
                self.max_message_bytes,
            )?;
            message.held.grow(message.bytes.len())?;
        }
        Ok(message)
    }
}

// === impl Parts ===

impl Parts {
    fn new(budget: &Arc<HeldBytes>) -> Self {
        Self {
            is_compressed: false,
            length: 0,
            first: Bytes::new(),
            joined: Vec::new(),
            held: Held::new(budget.clone()),
        }
    }

    /// `data` is a part of `chunk`, which is what is left of one of `chunk_length` bytes.
    fn add(&mut self, chunk: &Bytes, data: &[u8], chunk_length: usize) -> Result<(), Error> {
        self.held.grow(data.len())?;
        if self.first.is_empty() && self.joined.is_empty() {
            // A slice keeps its whole chunk: a small part of a large one is copied.
            self.first = if data.len() * 2 < chunk_length {
                Bytes::copy_from_slice(data)
            } else {
                chunk.slice_ref(data)
            };
            return Ok(());
        }
        if self.joined.is_empty() {
            self.joined.reserve(self.length.min(MAX_RESERVED));
            self.joined
                .extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(data);
        Ok(())
    }

    fn finish(self) -> Message {
        let bytes = match self.joined.is_empty() {
            true => self.first,
            false => self.joined.into(),
        };
        Message {
            bytes,
            held: self.held,
        }
    }
}

fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadRequest, message)
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
