//! A resumable scanner of the protobuf wire format: it walks a message chunk by chunk and reports the
//! fields that a [`Shape`] names; every other field is skipped by its length, without touching its bytes.
//!
//! It knows no schema beyond the shape. A field whose wire type is not the expected one counts as unknown,
//! as in every protobuf implementation. What repeats is reported as often as it comes; what that means is
//! the [`Sink`]'s business. Reads no more of the specification than a proxy needs, and refuses what
//! implementations read differently (tags over 32 bits, lengths over 2 GiB, varints over 64 bits).

mod shape;
mod sink;
mod skip;
mod state;

use shape::{Edge, FIXED32, FIXED64, LENGTH, MAX_DEPTH, VARINT};
pub use shape::{FieldId, FieldKind, ROOT, Shape};
pub use sink::{MAX_VALUE_BYTES, Malformed, Sink, Span, Value};
use state::{Level, State};

/// Groups inside groups; protobuf's own implementations stop at 100 levels.
const MAX_GROUPS: usize = 100;

/// Longest length-delimited field that the specification allows.
const MAX_LENGTH: u64 = i32::MAX as u64;

const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;

/// Position in one message. Small, and allocates only where a value of interest is split over chunks and
/// where there are groups.
#[derive(Debug)]
pub struct Scanner {
    levels: [Level; MAX_DEPTH],
    depth: usize,
    /// Field numbers of the open groups; inside a group nothing is of interest.
    groups: Vec<u32>,
    offset: u64,
    /// Where the tag read last begins, and where it ends.
    tag: u64,
    head: u64,
    state: State,
    /// A varint or fixed64 under way, and its bits so far.
    number: u64,
    bits: u32,
    held: Vec<u8>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            levels: [Level {
                message: ROOT,
                end: u64::MAX,
            }; MAX_DEPTH],
            depth: 0,
            groups: Vec::new(),
            offset: 0,
            tag: 0,
            head: 0,
            state: State::Tag,
            number: 0,
            bits: 0,
            held: Vec::new(),
        }
    }
}

impl Scanner {
    /// Read the next bytes of the message.
    ///
    /// Errors: [`Malformed`], or what the sink returned. Nothing more can be read after an error.
    pub fn feed<S: Sink>(
        &mut self,
        shape: &Shape,
        mut chunk: &[u8],
        sink: &mut S,
    ) -> Result<(), S::Error> {
        while !chunk.is_empty() {
            let room = self.levels[self.depth].end - self.offset;
            if room == 0 {
                // At a field's end the level would have been left.
                return Err(self
                    .malformed("a field goes beyond the end of its message")
                    .into());
            }
            let usable = usize::try_from(room).map_or(chunk.len(), |room| room.min(chunk.len()));
            let skipped = self.skip_unknown(shape, &chunk[..usable]);
            if skipped > 0 {
                self.end_field(sink)?;
                chunk = &chunk[skipped..];
                continue;
            }
            let used = self.step(shape, &chunk[..usable], sink)?;
            chunk = &chunk[used..];
        }
        Ok(())
    }

    /// Say that the message ends here.
    ///
    /// Errors: it ends inside a field, a submessage or a group.
    pub fn finish(&self) -> Result<(), Malformed> {
        let between_fields = matches!(self.state, State::Tag) && self.bits == 0;
        if between_fields && self.depth == 0 && self.groups.is_empty() {
            Ok(())
        } else {
            Err(self.malformed("the message is cut off"))
        }
    }

    /// Go over the whole unknown fields that `bytes` begins with; return their length.
    fn skip_unknown(&mut self, shape: &Shape, bytes: &[u8]) -> usize {
        if !matches!(self.state, State::Tag) || self.bits != 0 {
            return 0;
        }
        let message = self
            .groups
            .is_empty()
            .then(|| self.levels[self.depth].message);
        let skipped = skip::unknown_fields(shape, message, bytes);
        self.offset += skipped as u64;
        skipped
    }

    /// Read some of `bytes`, which is not empty and within the current level; return how many.
    fn step<S: Sink>(
        &mut self,
        shape: &Shape,
        bytes: &[u8],
        sink: &mut S,
    ) -> Result<usize, S::Error> {
        match self.state {
            State::Skip(remaining) => {
                let used = usize::try_from(remaining).map_or(bytes.len(), |n| n.min(bytes.len()));
                self.offset += used as u64;
                self.state = State::Skip(remaining - used as u64);
                if remaining == used as u64 {
                    self.end_field(sink)?;
                }
                Ok(used)
            }
            State::Bytes(field, remaining) => self.bytes(field, remaining, bytes, sink),
            State::Fixed64(field) => self.fixed64(field, bytes, sink),
            State::Tag | State::Varint(_) | State::Length(_) => {
                if matches!(self.state, State::Tag) && self.bits == 0 {
                    self.tag = self.offset;
                }
                let (used, number) = self.varint(bytes)?;
                if let Some(number) = number {
                    self.number_read(shape, number, sink)?;
                }
                Ok(used)
            }
        }
    }

    /// Act on a complete varint, by what it was.
    fn number_read<S: Sink>(
        &mut self,
        shape: &Shape,
        number: u64,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        match self.state {
            State::Varint(field) => {
                if let Some(field) = field {
                    sink.value(
                        field,
                        Value::Varint(number),
                        self.span(self.head, self.offset),
                    )?;
                }
                self.end_field(sink)
            }
            State::Length(edge) => self.length_read(number, edge, sink),
            _ => self.tag_read(shape, number, sink),
        }
    }

    fn tag_read<S: Sink>(&mut self, shape: &Shape, tag: u64, sink: &mut S) -> Result<(), S::Error> {
        let tag = u32::try_from(tag).map_err(|_| self.malformed("a tag has more than 32 bits"))?;
        let (number, wire) = (tag >> 3, (tag & 7) as u8);
        if number == 0 {
            return Err(self.malformed("field number 0").into());
        }
        self.head = self.offset;
        let edge = if self.groups.is_empty() {
            shape.find(self.levels[self.depth].message, number, wire)
        } else {
            None
        };
        match wire {
            VARINT => self.state = State::Varint(edge.map(|edge| edge.id)),
            LENGTH => self.state = State::Length(edge),
            FIXED64 => match edge {
                Some(edge) => self.state = State::Fixed64(edge.id),
                None => self.skip(8)?,
            },
            FIXED32 => self.skip(4)?,
            START_GROUP => {
                if self.groups.len() == MAX_GROUPS {
                    return Err(self
                        .malformed("groups are nested more than 100 deep")
                        .into());
                }
                self.groups.push(number);
            }
            END_GROUP => {
                if self.groups.pop() != Some(number) {
                    return Err(self.malformed("a group ends that was not begun").into());
                }
                self.end_field(sink)?;
            }
            _ => return Err(self.malformed("wire type 6 or 7").into()),
        }
        Ok(())
    }

    fn length_read<S: Sink>(
        &mut self,
        length: u64,
        edge: Option<Edge>,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        if length > MAX_LENGTH {
            return Err(self.malformed("a field is longer than 2 GiB").into());
        }
        if length == 0 && edge.is_none() {
            return self.end_field(sink);
        }
        self.skip(length)?;
        let Some(edge) = edge else { return Ok(()) };
        if edge.kind == FieldKind::Message {
            return self.enter(edge.id, length, sink);
        }
        // At most MAX_LENGTH, which fits usize.
        match length as usize {
            0 => {
                sink.value(
                    edge.id,
                    Value::Bytes(&[]),
                    self.span(self.offset, self.offset),
                )?;
                self.end_field(sink)?;
            }
            length if length > MAX_VALUE_BYTES => {
                let span = self.span(self.offset, self.offset + length as u64);
                sink.value(edge.id, Value::TooLong(length), span)?;
            }
            length => self.state = State::Bytes(edge.id, length),
        }
        Ok(())
    }

    /// Go on behind the next `length` bytes, which must lie within the current level.
    fn skip(&mut self, length: u64) -> Result<(), Malformed> {
        if length > self.levels[self.depth].end - self.offset {
            return Err(self.malformed("a field goes beyond the end of its message"));
        }
        self.state = State::Skip(length);
        Ok(())
    }

    fn enter<S: Sink>(
        &mut self,
        message: FieldId,
        length: u64,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        // In bounds: a shape names no more than MAX_DEPTH levels.
        self.depth += 1;
        self.levels[self.depth] = Level {
            message,
            end: self.offset + length,
        };
        sink.enter(message, self.span(self.offset, self.offset + length))?;
        self.end_field(sink)
    }

    /// Expect a tag next, or leave the levels that end here.
    fn end_field<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        self.state = State::Tag;
        while self.depth > 0 && self.offset == self.levels[self.depth].end {
            if !self.groups.is_empty() {
                return Err(self
                    .malformed("a group goes beyond the end of its message")
                    .into());
            }
            self.depth -= 1;
            sink.exit(self.levels[self.depth + 1].message)?;
        }
        Ok(())
    }

    /// Read a varint on: the bytes used, and the number once it is complete.
    fn varint(&mut self, bytes: &[u8]) -> Result<(usize, Option<u64>), Malformed> {
        for (index, &byte) in bytes.iter().enumerate() {
            // The tenth byte holds bit 63 alone.
            if self.bits == 63 && byte > 1 {
                return Err(self.malformed("a varint has more than 64 bits"));
            }
            self.number |= u64::from(byte & 0x7f) << self.bits;
            self.bits += 7;
            self.offset += 1;
            if byte < 0x80 {
                self.bits = 0;
                return Ok((index + 1, Some(std::mem::take(&mut self.number))));
            }
        }
        Ok((bytes.len(), None))
    }

    fn fixed64<S: Sink>(
        &mut self,
        field: FieldId,
        bytes: &[u8],
        sink: &mut S,
    ) -> Result<usize, S::Error> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.number |= u64::from(byte) << self.bits;
            self.bits += 8;
            self.offset += 1;
            if self.bits == 64 {
                self.bits = 0;
                let span = self.span(self.head, self.offset);
                sink.value(
                    field,
                    Value::Fixed64(std::mem::take(&mut self.number)),
                    span,
                )?;
                self.end_field(sink)?;
                return Ok(index + 1);
            }
        }
        Ok(bytes.len())
    }

    fn bytes<S: Sink>(
        &mut self,
        field: FieldId,
        remaining: usize,
        bytes: &[u8],
        sink: &mut S,
    ) -> Result<usize, S::Error> {
        let used = remaining.min(bytes.len());
        self.offset += used as u64;
        if used < remaining {
            self.held.extend_from_slice(&bytes[..used]);
            self.state = State::Bytes(field, remaining - used);
            return Ok(used);
        }
        if self.held.is_empty() {
            let span = self.span(self.offset - used as u64, self.offset);
            sink.value(field, Value::Bytes(&bytes[..used]), span)?;
        } else {
            self.held.extend_from_slice(&bytes[..used]);
            let span = self.span(self.offset - self.held.len() as u64, self.offset);
            sink.value(field, Value::Bytes(&self.held), span)?;
            self.held.clear();
        }
        self.end_field(sink)?;
        Ok(used)
    }

    /// The field whose tag was read last, with its value there.
    fn span(&self, value: u64, end: u64) -> Span {
        Span {
            tag: self.tag,
            head: self.head,
            value,
            end,
        }
    }

    fn malformed(&self, reason: &'static str) -> Malformed {
        Malformed {
            reason,
            offset: self.offset,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
