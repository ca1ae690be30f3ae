//! What a scanner reports, and to whom.

use std::fmt;

use super::shape::FieldId;

/// Longest value that is reported with its bytes; a longer one comes as [`Value::TooLong`].
pub const MAX_VALUE_BYTES: usize = 1024;

/// The value of a field of interest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Bytes, more than [`MAX_VALUE_BYTES`]: this many.
    TooLong(usize),
}

/// Where a field is in the message, as offsets from the message's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub tag: u64,
    /// Behind the tag: the length of what has one, else the value.
    pub head: u64,
    pub value: u64,
    pub end: u64,
}

/// Takes what a [`Scanner`] finds, in the order of the bytes.
pub trait Sink {
    type Error: From<Malformed>;

    /// A submessage of interest begins.
    fn enter(&mut self, message: FieldId, span: Span) -> Result<(), Self::Error>;
    /// It is complete.
    fn exit(&mut self, message: FieldId) -> Result<(), Self::Error>;
    /// A field of interest has this value.
    fn value(&mut self, field: FieldId, value: Value<'_>, span: Span) -> Result<(), Self::Error>;
}

/// Why bytes are not a protobuf message, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub reason: &'static str,
    /// Bytes of the message read before.
    pub offset: u64,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.offset)
    }
}
