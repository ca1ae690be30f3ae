//! What comes, frame by frame.

use bytes::{Buf, Bytes};

use super::data::Data;
use super::heads::Block;
use super::settings::{calm, protocol, size};
use super::{Connection, Event, Fatal, Role};
use crate::frame::{ACK, HEAD, Head, PADDED, PREFACE, kind};

/// A packed header block may have so many times the bytes of the list that is taken, and at least [`LEAST_BLOCK`].
const BLOCK: usize = 2;
const LEAST_BLOCK: usize = 64 * 1024;
pub(super) const ON_ITSELF: &str = "a stream that depends on itself";

/// What has come in part.
#[derive(Debug)]
pub struct Incoming {
    /// Bytes of the preface that are still to come.
    preface: usize,
    has_settings: bool,
    /// A frame that is not whole.
    partial: Vec<u8>,
    /// A header block that is not whole.
    pub(super) block: Option<Block>,
    /// A DATA frame that is not whole.
    pub(super) data: Option<Data>,
}

pub(super) enum Step {
    /// Go on.
    Done,
    /// Nothing more can be made of what is there.
    Starved,
    Event(Event),
}

// === impl Incoming ===

impl Incoming {
    pub fn new(role: Role) -> Self {
        Self {
            preface: match role {
                Role::Server => PREFACE.len(),
                Role::Client => 0,
            },
            has_settings: false,
            partial: Vec::new(),
            block: None,
            data: None,
        }
    }

    /// Bytes of memory on the heap.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.partial.capacity() + self.block.as_ref().map_or(0, |it| it.bytes.capacity())
    }

    pub fn is_within(&self) -> bool {
        !self.partial.is_empty() || self.block.is_some() || self.data.is_some()
    }
}

// === impl Connection ===

impl Connection {
    /// Take what came from the front of `input`, up to the next event. None: all of it is taken.
    ///
    /// # Errors
    /// The connection is over. What else comes is thrown away.
    pub fn receive(&mut self, input: &mut Bytes) -> Result<Option<Event>, Fatal> {
        if let Some(fatal) = self.failed {
            input.clear();
            return Err(fatal);
        }
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            match self.step(input) {
                Ok(Step::Done) => {}
                Ok(Step::Starved) => return Ok(None),
                Ok(Step::Event(event)) => return Ok(Some(event)),
                Err(fatal) => {
                    self.close(fatal.code, fatal.why);
                    input.clear();
                    return Err(fatal);
                }
            }
        }
    }

    fn step(&mut self, input: &mut Bytes) -> Result<Step, Fatal> {
        if self.incoming.preface > 0 {
            return self.take_preface(input);
        }
        if let Some(data) = self.incoming.data {
            return Ok(self.take_data(data, input));
        }
        if self.incoming.partial.is_empty() {
            let Some(head) = input.first_chunk::<HEAD>() else {
                return Ok(self.keep(input, HEAD));
            };
            let head = Head::parse(*head);
            let whole = self.whole(head)?;
            if input.len() < whole {
                return Ok(self.keep(input, whole));
            }
            // Of a DATA frame only the head is taken here.
            let step = self.on_frame(head, &input[HEAD..whole]);
            input.advance(whole);
            return step;
        }
        if self.incoming.partial.len() < HEAD && !self.complete(input, HEAD) {
            return Ok(Step::Starved);
        }
        let Some(head) = self.incoming.partial.first_chunk::<HEAD>() else {
            return Ok(Step::Starved);
        };
        let head = Head::parse(*head);
        let whole = self.whole(head)?;
        if !self.complete(input, whole) {
            return Ok(Step::Starved);
        }
        let partial = std::mem::take(&mut self.incoming.partial);
        self.on_frame(head, &partial[HEAD..])
    }

    /// How many bytes of a frame are to be there before it is looked at.
    fn whole(&self, head: Head) -> Result<usize, Fatal> {
        if head.length > self.config.max_frame {
            return Err(size("a frame beyond SETTINGS_MAX_FRAME_SIZE"));
        }
        if head.kind == kind::DATA && self.incoming.block.is_none() {
            return Ok(HEAD + usize::from(head.has(PADDED) && head.length > 0));
        }
        let is_headers = matches!(head.kind, kind::HEADERS | kind::CONTINUATION);
        if is_headers && head.length as usize > self.most_block() {
            return Err(calm("headers_flood"));
        }
        Ok(HEAD + head.length as usize)
    }

    pub(super) fn most_block(&self) -> usize {
        (self.config.max_list as usize)
            .saturating_mul(BLOCK)
            .max(LEAST_BLOCK)
    }

    /// Keep what is there of a frame of `whole` bytes.
    fn keep(&mut self, input: &mut Bytes, whole: usize) -> Step {
        self.complete(input, whole);
        Step::Starved
    }

    /// Add to the partial frame until it has `whole` bytes. Whether it has.
    fn complete(&mut self, input: &mut Bytes, whole: usize) -> bool {
        let partial = &mut self.incoming.partial;
        let taken = whole.saturating_sub(partial.len()).min(input.len());
        partial.extend_from_slice(&input[..taken]);
        input.advance(taken);
        partial.len() >= whole
    }

    fn take_preface(&mut self, input: &mut Bytes) -> Result<Step, Fatal> {
        let expected = &PREFACE[PREFACE.len() - self.incoming.preface..];
        let taken = expected.len().min(input.len());
        if input[..taken] != expected[..taken] {
            return Err(protocol("what came first is not HTTP/2's preface"));
        }
        input.advance(taken);
        self.incoming.preface -= taken;
        Ok(if self.incoming.preface > 0 {
            Step::Starved
        } else {
            Step::Done
        })
    }

    fn on_frame(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
        if !self.incoming.has_settings {
            if head.kind != kind::SETTINGS || head.has(ACK) {
                return Err(protocol("the first frame is not SETTINGS"));
            }
            self.incoming.has_settings = true;
        }
        if let Some(block) = &self.incoming.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return Err(protocol("a frame within a header block"));
        }
        self.account(head, payload)?;
        match head.kind {
            kind::DATA => self.on_data(head, payload),
            kind::HEADERS => self.on_headers(head, payload),
            kind::CONTINUATION => self.on_continuation(head, payload),
            kind::PRIORITY => self.on_priority(head, payload).map(|()| Step::Done),
            kind::RST_STREAM => self.on_reset(head, payload),
            kind::SETTINGS => self.on_settings(head, payload).map(|()| Step::Done),
            kind::PUSH_PROMISE => Err(protocol("PUSH_PROMISE")),
            kind::PING => self.on_ping(head, payload),
            kind::GOAWAY => self.on_goaway(head, payload),
            kind::WINDOW_UPDATE => self.on_window_update(head, payload),
            // Frames that HTTP/2 does not know say nothing (RFC 9113#4.1).
            _ => Ok(Step::Done),
        }
    }

    /// Let control frames cost, and traffic earn.
    fn account(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let Some(credit) = &mut self.credit else {
            return Ok(());
        };
        let is_ack = head.has(ACK);
        let flood = match head.kind {
            kind::DATA => {
                let padding = match payload.first() {
                    Some(length) if head.has(PADDED) => 1 + u32::from(*length),
                    _ => 0,
                };
                if head.length > padding {
                    credit.earn();
                    return Ok(());
                }
                "empty_data_flood"
            }
            kind::HEADERS => {
                credit.earn();
                return Ok(());
            }
            kind::CONTINUATION => "continuation_flood",
            kind::PRIORITY => "priority_flood",
            kind::RST_STREAM => "rst_stream_flood",
            kind::SETTINGS if is_ack => "settings_ack_flood",
            kind::SETTINGS => "settings_flood",
            kind::PING if is_ack => "ping_ack_flood",
            kind::PING => "ping_flood",
            kind::GOAWAY => "goaway_flood",
            kind::WINDOW_UPDATE => "window_update_flood",
            _ => "unknown_frame_flood",
        };
        if credit.pay() {
            Ok(())
        } else {
            Err(calm(flood))
        }
    }
}
