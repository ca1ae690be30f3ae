//! The protobuf wire format over a contiguous slice: a reader that never recurses, and writing from the
//! back to the front, where a message's length is known once its content stands.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind};

/// Deepest nesting of groups and of `google.protobuf.Value`; the official parsers stop at 100 as well.
pub const MAX_DEPTH: usize = 100;

pub(super) fn bad(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadRequest, message)
}

/// One field's value, by wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// Walks the fields of one message. A field of a wire type that its reader does not expect is an unknown
/// field and skipped, as the protobuf specification asks.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field and its number; `None` at the end of the message. Groups are skipped.
    pub fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, Error> {
        while !self.rest.is_empty() {
            let (number, wire_type) = self.tag()?;
            match wire_type {
                3 => self.skip_group(number)?,
                4 => {
                    return Err(bad(format!(
                        "protobuf: group {number} ends but never began"
                    )));
                }
                _ => return Ok(Some((number, self.field(wire_type)?))),
            }
        }
        Ok(None)
    }

    fn tag(&mut self) -> Result<(u32, u32), Error> {
        let tag = u32::try_from(self.varint()?)
            .map_err(|_| bad("protobuf: field number above 2^29 - 1"))?;
        if tag >> 3 == 0 {
            return Err(bad("protobuf: field number 0"));
        }
        Ok((tag >> 3, tag & 7))
    }

    fn field(&mut self, wire_type: u32) -> Result<Field<'a>, Error> {
        match wire_type {
            0 => Ok(Field::Varint(self.varint()?)),
            1 => Ok(Field::Fixed64(self.fixed()?)),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(truncated)?;
                self.rest = rest;
                Ok(Field::Bytes(bytes))
            }
            5 => Ok(Field::Fixed32(self.fixed()?)),
            other => Err(bad(format!("protobuf: wire type {other} does not exist"))),
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or_else(truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 {
            truncated()
        } else {
            bad("protobuf: varint of more than 10 bytes")
        })
    }

    fn skip_group(&mut self, number: u32) -> Result<(), Error> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let (number, wire_type) = self.tag()?;
            match wire_type {
                3 if open.len() == MAX_DEPTH => {
                    return Err(bad(format!(
                        "protobuf: groups nested deeper than {MAX_DEPTH}"
                    )));
                }
                3 => open.push(number),
                4 if number == innermost => {
                    open.pop();
                }
                4 => return Err(bad(format!("protobuf: group {innermost} ends as {number}"))),
                _ => {
                    self.field(wire_type)?;
                }
            }
        }
        Ok(())
    }
}

fn truncated() -> Error {
    bad("protobuf: message is truncated")
}

/// Calls `each` for every varint of a repeated field's occurrence, packed or not.
pub(super) fn varints(field: Field<'_>, mut each: impl FnMut(u64)) -> Result<(), Error> {
    match field {
        Field::Varint(value) => each(value),
        Field::Bytes(packed) => {
            let mut reader = Reader::new(packed);
            while !reader.rest.is_empty() {
                each(reader.varint()?);
            }
        }
        Field::Fixed32(_) | Field::Fixed64(_) => {}
    }
    Ok(())
}

pub(super) fn text(bytes: &[u8]) -> Result<String, Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(bad(format!(
            "protobuf: a string field is not UTF-8: {error}"
        ))),
    }
}

/// The member of a oneof that was set last, when its members are messages: repeats of one member are merged,
/// and merging messages is concatenating their encodings.
#[derive(Default)]
pub(super) struct Oneof<'a> {
    pub number: u32,
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> Oneof<'a> {
    pub fn set(&mut self, number: u32, bytes: &'a [u8]) {
        if self.number == number {
            self.bytes.to_mut().extend_from_slice(bytes);
        } else {
            *self = Self {
                number,
                bytes: Cow::Borrowed(bytes),
            };
        }
    }
}

/// Where an encoding goes, written from its last byte to its first. Encoders run twice, over a [`Counter`]
/// and over a [`Backwards`], so that the buffer has its exact size from the start.
pub(super) trait Sink: Sized {
    /// Bytes written so far.
    fn written(&self) -> usize;
    fn put(&mut self, bytes: &[u8]);
    /// Leave room at the very end for bytes that whoever finishes the message appends.
    fn tail(&mut self, length: usize);

    fn varint(&mut self, mut value: u64) {
        let mut bytes = [0; 10];
        let mut length = 0;
        loop {
            bytes[length] = (value & 0x7f) as u8 | 0x80;
            length += 1;
            value >>= 7;
            if value == 0 {
                break;
            }
        }
        bytes[length - 1] &= 0x7f;
        self.put(&bytes[..length]);
    }

    fn tag(&mut self, number: u32, wire_type: u32) {
        self.varint(u64::from(number << 3 | wire_type));
    }

    fn varint_field(&mut self, number: u32, value: u64) {
        self.varint(value);
        self.tag(number, 0);
    }

    fn bytes_field(&mut self, number: u32, bytes: &[u8]) {
        self.message(number, |sink| sink.put(bytes));
    }

    /// A length-delimited field around what `content` writes.
    fn message(&mut self, number: u32, content: impl FnOnce(&mut Self)) {
        let before = self.written();
        content(self);
        self.varint((self.written() - before) as u64);
        self.tag(number, 2);
    }
}

/// Counts what an encoder writes.
#[derive(Default)]
pub(super) struct Counter {
    written: usize,
    tail: usize,
}

impl Counter {
    /// Bytes of the whole message.
    pub fn total(&self) -> usize {
        self.written
    }

    /// Bytes in front of the tail.
    pub fn head(&self) -> usize {
        self.written - self.tail
    }
}

impl Sink for Counter {
    fn written(&self) -> usize {
        self.written
    }

    fn put(&mut self, bytes: &[u8]) {
        self.written += bytes.len();
    }

    fn tail(&mut self, length: usize) {
        self.written += length;
        self.tail += length;
    }
}

/// Fills a buffer for everything but the tail from its end. The tail is most of a large message; leaving it
/// out spares filling its memory with zeros first.
pub(super) struct Backwards {
    buffer: Vec<u8>,
    start: usize,
    tail: usize,
}

impl Backwards {
    pub fn new(size: usize) -> Self {
        Self {
            buffer: vec![0; size],
            start: size,
            tail: 0,
        }
    }

    pub fn finish(self) -> Vec<u8> {
        debug_assert_eq!(self.start, 0, "the encoder wrote less than it counted");
        self.buffer
    }
}

impl Sink for Backwards {
    fn written(&self) -> usize {
        self.buffer.len() - self.start + self.tail
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.start;
        self.start -= bytes.len();
        self.buffer[self.start..end].copy_from_slice(bytes);
    }

    fn tail(&mut self, length: usize) {
        debug_assert_eq!(
            self.written(),
            0,
            "the tail comes last, so it is written first"
        );
        self.tail = length;
    }
}
