//! gRPC's message framing: a flag byte and a four-byte length in front of each message.
//!
//! [`Frames`] walks the chunks of a body as they come, whatever the split, and never copies or allocates.

use crate::error::{Error, ErrorKind};

/// Bytes in front of each message.
pub const PREFIX: usize = 5;

/// What [`Frames::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message begins.
    Start { compressed: bool, length: usize },
    /// Bytes of the message, never empty; a message without bytes has none.
    Data(&'a [u8]),
    /// The message is complete.
    End,
}

/// Resumable walk over the messages of one direction of a call.
#[derive(Debug)]
pub struct Frames {
    max_message_bytes: usize,
    prefix: [u8; PREFIX],
    /// Bytes of `prefix` read so far; `PREFIX` while inside a message.
    have: usize,
    /// Bytes of the current message still to come.
    remaining: usize,
}

impl Frames {
    /// Start before the first message.
    pub fn new(max_message_bytes: usize) -> Self {
        Self {
            max_message_bytes,
            prefix: [0; PREFIX],
            have: 0,
            remaining: 0,
        }
    }

    /// Take the next event off the front of `chunk`; `None` when the chunk is used up.
    ///
    /// Errors: message_too_large; bad_request for a flag byte other than 0 and 1. Nothing more can be
    /// read after an error.
    pub fn next<'a>(&mut self, chunk: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        if self.have == PREFIX {
            if self.remaining == 0 {
                self.have = 0;
                return Ok(Some(Event::End));
            }
            if chunk.is_empty() {
                return Ok(None);
            }
            let (data, rest) = chunk.split_at(self.remaining.min(chunk.len()));
            *chunk = rest;
            self.remaining -= data.len();
            return Ok(Some(Event::Data(data)));
        }
        let (head, rest) = chunk.split_at((PREFIX - self.have).min(chunk.len()));
        *chunk = rest;
        self.prefix[self.have..self.have + head.len()].copy_from_slice(head);
        self.have += head.len();
        if self.have < PREFIX {
            Ok(None)
        } else {
            self.start().map(Some)
        }
    }

    /// Go over a chunk of which only the sizes matter.
    ///
    /// Errors: as [`next`](Self::next).
    pub fn pass(&mut self, mut chunk: &[u8]) -> Result<(), Error> {
        if self.have == 0
            && let Some((&[0 | 1, length @ ..], message)) = chunk.split_first_chunk::<PREFIX>()
        {
            let length = u32::from_be_bytes(length) as usize;
            if length == message.len() && length <= self.max_message_bytes {
                // One whole message, as most chunks of small answers are.
                return Ok(());
            }
        }
        while self.next(&mut chunk)?.is_some() {}
        Ok(())
    }

    /// Whether the body may not end here: a message has begun and is not complete.
    pub fn incomplete(&self) -> bool {
        self.have != 0
    }

    fn start(&mut self) -> Result<Event<'static>, Error> {
        let [flag, length @ ..] = self.prefix;
        if flag > 1 {
            return Err(Error::new(
                ErrorKind::BadRequest,
                format!("message flag is {flag}, must be 0 (plain) or 1 (compressed)"),
            ));
        }
        // usize has at least 32 bits on every platform that tokio serves.
        let length = u32::from_be_bytes(length) as usize;
        if length > self.max_message_bytes {
            return Err(Error::new(
                ErrorKind::MessageTooLarge,
                format!(
                    "message of {length} bytes is over the limit of {} (max_message_bytes)",
                    self.max_message_bytes
                ),
            ));
        }
        self.remaining = length;
        Ok(Event::Start {
            compressed: flag == 1,
            length,
        })
    }
}

/// The prefix of an uncompressed message of `length` bytes.
pub fn prefix(length: u32) -> [u8; PREFIX] {
    let [a, b, c, d] = length.to_be_bytes();
    [0, a, b, c, d]
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
