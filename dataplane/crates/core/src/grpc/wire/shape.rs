//! Which fields of a message are of interest to a scanner: a tree of field numbers, made once per method.

/// Messages inside messages that a shape may name, the root included.
pub(super) const MAX_DEPTH: usize = 8;

/// Wire types of single values.
pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const LENGTH: u8 = 2;
pub(super) const FIXED32: u8 = 5;

/// A field of interest, given by [`Shape::field`].
pub type FieldId = u16;

/// The message itself.
pub const ROOT: FieldId = 0;

/// How a field of interest must be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A submessage whose fields are of interest.
    Message,
    Varint,
    Fixed64,
    /// `string`, `bytes`, or a submessage taken as bytes.
    Bytes,
}

/// The fields of interest, as a tree.
#[derive(Debug)]
pub struct Shape {
    /// Fields by id; a field that is no message has none.
    messages: Vec<Vec<Edge>>,
    /// How many messages each field is inside of, by id.
    depths: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    number: u32,
    pub(super) kind: FieldKind,
    pub(super) id: FieldId,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            messages: vec![Vec::new()],
            depths: vec![0],
        }
    }
}

impl Shape {
    /// Name a field of the message `parent`; the same field named twice has one id.
    ///
    /// Errors: the field is named already with another kind, or is nested too deeply to be scanned.
    pub fn field(
        &mut self,
        parent: FieldId,
        number: u32,
        kind: FieldKind,
    ) -> Result<FieldId, &'static str> {
        let next = FieldId::try_from(self.messages.len()).map_err(|_| "too many fields")?;
        let edges = self
            .messages
            .get_mut(usize::from(parent))
            .ok_or("no such parent")?;
        if let Some(edge) = edges.iter().find(|edge| edge.number == number) {
            return if edge.kind == kind {
                Ok(edge.id)
            } else {
                Err("one field is named with two kinds")
            };
        }
        let depth = self.depths[usize::from(parent)] + 1;
        if kind == FieldKind::Message && depth == MAX_DEPTH {
            return Err("the field is nested too deeply");
        }
        self.depths.push(depth);
        edges.push(Edge {
            number,
            kind,
            id: next,
        });
        self.messages.push(Vec::new());
        Ok(next)
    }

    /// Whether no field is of interest.
    pub fn is_empty(&self) -> bool {
        self.messages.len() == 1
    }

    /// The field of interest of a message, if its wire type is the expected one.
    pub(super) fn find(&self, message: FieldId, number: u32, wire: u8) -> Option<Edge> {
        let edges = &self.messages[usize::from(message)];
        let edge = *edges.iter().find(|edge| edge.number == number)?;
        (edge.kind.wire_type() == wire).then_some(edge)
    }
}

impl FieldKind {
    fn wire_type(self) -> u8 {
        match self {
            Self::Varint => VARINT,
            Self::Fixed64 => FIXED64,
            Self::Bytes | Self::Message => LENGTH,
        }
    }
}
