//! What is sent on streams, and what their users tell of what they received.

use bytes::Bytes;

use super::{Connection, Leaving, Role};
use crate::chunks::Chunks;
use crate::flow::{Receiving, Sending};
use crate::frame::{self, Code, END_STREAM, Head, LEAST_MAX_FRAME, MAX_STREAM, kind};
use crate::headers::Headers;
use crate::stream::{Key, Part, Stream};

/// The stream is over, or its end was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// No stream can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Before another one ends.
    Now,
    /// On this connection any more.
    Forever,
}

/// Bytes of a stream from which on no more are asked for, whatever the window: a peer may read nothing.
const MOST_QUEUED: usize = 256 * 1024;
/// Bytes of memory that are kept for blocks to be encoded; a longer one gives its own back.
const MOST_KEPT: usize = 4096;
/// Streams that may wait for their turn before those that ended are looked for among them.
const LEAST_WAITING: usize = 32;
/// Bytes of a DATA frame, whatever the peer would take: others wait meanwhile.
const MAX_DATA: usize = LEAST_MAX_FRAME as usize;

// === impl Connection ===

impl Connection {
    /// How many streams the peer takes at a time.
    pub fn max_streams(&self) -> usize {
        self.peer.max_streams as usize
    }

    /// How many streams a client could still open now.
    pub fn room_for_streams(&self) -> usize {
        self.max_streams().saturating_sub(self.streams.len())
    }

    /// Open a stream with a request.
    ///
    /// # Errors
    /// The peer takes no more streams, for now or for good.
    pub fn open(&mut self, headers: &Headers, ends: bool) -> Result<Key, Full> {
        debug_assert_eq!(self.role, Role::Client);
        self.takes_a_stream()?;
        let id = self.next;
        self.next += 2;
        let key = self.add(id, Part::Head, Part::Head);
        // It is there: just added.
        let _ = self.send_head(key, headers, ends);
        Ok(key)
    }

    /// Whether `open` would open one.
    ///
    /// # Errors
    /// The peer takes no more streams, for now or for good.
    pub fn takes_a_stream(&self) -> Result<(), Full> {
        let is_over = self.leaving != Leaving::No || self.peer_last.is_some();
        if is_over || self.failed.is_some() || self.next > MAX_STREAM {
            return Err(Full::Forever);
        }
        if self.room_for_streams() == 0 {
            return Err(Full::Now);
        }
        Ok(())
    }

    pub(super) fn add(&mut self, id: u32, receiving: Part, sending: Part) -> Key {
        let (ours, theirs) = (self.config.stream_window, self.peer.first_window);
        self.streams.insert(id, |key| Stream {
            key,
            receiving,
            sending,
            in_window: Receiving::new(ours, ours),
            out_window: Sending::new(theirs),
            expected: None,
            queue: Chunks::default(),
            queued: 0,
            listed: 0,
            trailers: None,
            ends: false,
            is_scheduled: false,
            wants_room: false,
            is_unwanted: false,
        })
    }

    /// Send the head of a request or an answer; of an answer, more heads (1xx) may follow one that does not end it and is
    /// followed by nothing else.
    ///
    /// # Errors
    /// The stream is over, or something was sent on it.
    pub fn send_head(&mut self, key: Key, headers: &Headers, ends: bool) -> Result<(), Gone> {
        let stream = self.streams.get_mut(key).ok_or(Gone)?;
        if stream.sending != Part::Head {
            return Err(Gone);
        }
        stream.sending = if ends { Part::Ended } else { Part::Body };
        self.write_block(key.id, headers, ends);
        if ends {
            self.on_sent_end(key);
        }
        Ok(())
    }

    /// Send a part of a body, as the windows allow.
    ///
    /// # Errors
    /// The stream is over, or its end was sent.
    pub fn send_data(&mut self, key: Key, bytes: Bytes, ends: bool) -> Result<(), Gone> {
        let stream = self.sendable(key)?;
        let length = bytes.len();
        if length > 0 {
            stream.queued += length;
            stream.queue.push(bytes);
        }
        stream.ends = ends;
        self.streams.queued += length;
        self.schedule(key);
        Ok(())
    }

    /// End a stream with trailers, after what is queued.
    ///
    /// # Errors
    /// The stream is over, or its end was sent.
    pub fn send_trailers(&mut self, key: Key, trailers: Headers) -> Result<(), Gone> {
        let stream = self.sendable(key)?;
        if stream.queued > 0 {
            // Encoded when they are written: compression depends on the order.
            stream.trailers = Some(Box::new(trailers));
            stream.ends = true;
            self.schedule(key);
            return Ok(());
        }
        stream.sending = Part::Ended;
        self.write_block(key.id, &trailers, true);
        self.on_sent_end(key);
        Ok(())
    }

    fn sendable(&mut self, key: Key) -> Result<&mut Stream, Gone> {
        let stream = self.streams.get_mut(key).ok_or(Gone)?;
        match stream.sending {
            Part::Body if !stream.ends => Ok(stream),
            _ => Err(Gone),
        }
    }

    /// Whether the peer would take more on the stream than what waits on it, and that is not too much.
    pub fn has_room(&self, key: Key) -> bool {
        let is_full = self.streams.queued >= self.config.max_memory;
        self.streams.get(key).is_some_and(|it| {
            let window = it.out_window.available().min(self.out_window.available());
            !is_full && it.queued < window.min(MOST_QUEUED)
        })
    }

    /// Tell by [`next_roomy`](Self::next_roomy) when the stream has room.
    pub fn want_room(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.wants_room = true;
            self.is_full |= self.streams.queued >= self.config.max_memory;
        }
    }

    /// A stream that has room since it was asked for.
    pub fn next_roomy(&mut self) -> Option<Key> {
        // Half of it, so that all are not looked at again and again.
        if self.is_full && self.streams.queued <= self.config.max_memory / 2 {
            self.is_full = false;
            for key in self.streams.keys() {
                self.tell_room(key);
            }
        }
        self.roomy.pop()
    }

    pub(super) fn tell_room(&mut self, key: Key) {
        let has_room = self.has_room(key);
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if !stream.wants_room {
            return;
        }
        if has_room {
            stream.wants_room = false;
            self.roomy.push(key);
        } else {
            self.is_full |= self.streams.queued >= self.config.max_memory;
        }
    }

    /// Whether the end of what is sent has been queued or written.
    pub fn has_sent_end(&self, key: Key) -> bool {
        let stream = self.streams.get(key);
        stream.is_none_or(|it| it.ends || it.sending == Part::Ended)
    }

    /// End a stream at once. What came of it and is not released stays to be released.
    pub fn reset(&mut self, key: Key, code: Code) {
        if self.streams.remove(key) {
            self.recent.add(key.id);
            self.out.put(|out| frame::write_reset(out, key.id, code));
        }
    }

    /// Nothing of what still comes on the stream is wanted: once the end of what is sent has gone, the stream is ended
    /// (RFC 9113#8.1).
    pub fn ignore(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        stream.is_unwanted = true;
        if stream.sending == Part::Ended {
            self.on_sent_end(key);
        }
    }

    /// Nobody uses the stream any more: it is reset, unless it ends by itself.
    pub fn abandon(&mut self, key: Key) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let has_said_all = stream.ends || stream.sending == Part::Ended;
        if has_said_all && (self.role == Role::Server || stream.receiving == Part::Ended) {
            return self.ignore(key);
        }
        self.reset(key, Code::CANCEL);
    }

    /// So many bytes that came on the stream are done with.
    pub fn release(&mut self, key: Key, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let bytes = bytes as u32;
        if !self.config.opens_on_receipt {
            self.release_connection(bytes);
        }
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        stream.in_window.release(bytes);
        if stream.receiving == Part::Ended || stream.is_unwanted {
            return;
        }
        if let Some(bytes) = stream.in_window.announce() {
            self.out
                .put(|out| frame::write_window_update(out, key.id, bytes));
        }
    }

    pub(super) fn release_connection(&mut self, bytes: u32) {
        self.in_window.release(bytes);
        self.announce();
    }

    pub(super) fn write_block(&mut self, id: u32, headers: &Headers, ends: bool) {
        let mut block = std::mem::take(&mut self.scratch);
        block.clear();
        self.encoder.encode(headers, &mut block);
        let most = self.peer.max_frame.min(LEAST_MAX_FRAME) as usize;
        self.out
            .put(|out| frame::write_block(out, id, &block, ends, most));
        if block.capacity() <= MOST_KEPT {
            self.scratch = block;
        }
    }

    /// The last frame of a stream is among what is to be written.
    pub(super) fn on_sent_end(&mut self, key: Key) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        if stream.receiving == Part::Ended {
            self.streams.remove(key);
        } else if stream.is_unwanted && self.role == Role::Server {
            self.reset(key, Code::NO_ERROR);
        }
    }

    pub(super) fn schedule(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && !stream.is_scheduled
            && stream.has_work()
        {
            stream.is_scheduled = true;
            self.scheduled.push_back(key);
            self.forget_gone();
        }
    }

    /// Keep few of the streams that ended while they waited for their turn: a peer may reset each that it has opened, and
    /// read nothing.
    fn forget_gone(&mut self) {
        let most = 2 * self.streams.len() + LEAST_WAITING;
        if self.scheduled.len() + self.blocked.len() > most {
            self.scheduled
                .retain(|key| self.streams.get(*key).is_some());
            self.blocked.retain(|key| self.streams.get(*key).is_some());
        }
    }

    /// Add bodies to what is to be written, a frame of each stream in turn, until that is `enough` bytes or the windows
    /// are closed.
    pub fn pump(&mut self, enough: usize) {
        if self.failed.is_some() {
            return;
        }
        while self.out.len() < enough
            && let Some(key) = self.scheduled.pop_front()
        {
            let Some(stream) = self.streams.get_mut(key) else {
                continue;
            };
            if stream.queued > 0 && self.out_window.available() == 0 {
                self.blocked.push(key);
                continue;
            }
            stream.is_scheduled = false;
            self.send_frame(key);
            self.schedule(key);
        }
    }

    /// The next frame of a stream that may send.
    fn send_frame(&mut self, key: Key) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        let windows = stream
            .out_window
            .available()
            .min(self.out_window.available());
        let length = stream.queued.min(windows).min(MAX_DATA);
        self.streams.queued -= length;
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let is_all = length == stream.queued;
        let ends = is_all && stream.ends && stream.trailers.is_none();
        if length > 0 || ends {
            let head = Head {
                length: length as u32,
                kind: kind::DATA,
                flags: if ends { END_STREAM } else { 0 },
                stream: key.id,
            };
            self.out.put(|out| head.write(out));
            let mut left = length;
            while left > 0
                && let Some(chunk) = stream.queue.first_mut()
            {
                let bytes = if chunk.len() > left {
                    chunk.split_to(left)
                } else {
                    stream.queue.pop().unwrap_or_default()
                };
                left -= bytes.len();
                self.out.push(bytes);
            }
            stream.queued -= length;
            stream.out_window.send(length);
            self.out_window.send(length);
            if let Some(credit) = &mut self.credit
                && length > 0
            {
                credit.earn();
            }
        }
        if ends {
            stream.sending = Part::Ended;
            return self.on_sent_end(key);
        }
        if is_all && let Some(trailers) = stream.trailers.take() {
            stream.sending = Part::Ended;
            self.write_block(key.id, &trailers, true);
            return self.on_sent_end(key);
        }
        self.tell_room(key);
    }
}
