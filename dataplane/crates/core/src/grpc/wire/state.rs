//! Where a scanner is: what it expects next, and in which submessage.

use super::shape::{Edge, FieldId};

/// What the next bytes are.
#[derive(Clone, Copy, Debug)]
pub enum State {
    Tag,
    /// A varint of interest, or one to skip.
    Varint(Option<FieldId>),
    Length(Option<Edge>),
    Fixed64(FieldId),
    Skip(u64),
    /// This many bytes of a value are still to come; those before are in `held`.
    Bytes(FieldId, usize),
}

#[derive(Clone, Copy, Debug)]
pub struct Level {
    pub message: FieldId,
    /// Where it ends, as an offset in the whole message.
    pub end: u64,
}
