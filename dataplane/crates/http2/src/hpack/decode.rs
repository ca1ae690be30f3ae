//! From a block to a list of fields (RFC 7541 section 3.2).
//!
//! What a block can cost is bounded by its own bytes and by [`Most`]: a field that is beyond takes part in keeping the
//! table in step, and is not copied.

#[cfg(test)]
#[path = "decode_tests.rs"]
pub(super) mod tests;

use std::sync::Arc;

use super::table::{Name, Table};
use super::{DEFAULT_TABLE_SIZE, Malformed, huffman, integer, static_table};
use crate::headers::{FIELD_OVERHEAD, Headers, Token};

/// Names that were decoded keep this much memory for the next; a longer one gives its memory back.
const MOST_KEPT: usize = 256;

/// What a list may hold.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// As [`Headers::size`] counts.
    pub list_bytes: usize,
    pub fields: usize,
}

/// A block that was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decoded {
    /// The list went beyond [`Most`]: the fields up to there are in, the others were read and left away.
    pub is_cut: bool,
}

/// The receiving end of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table<()>,
    /// The most that the peer may set its table to.
    limit: usize,
    /// What we advertised; becomes the limit once the peer has seen it.
    advertised: usize,
    /// The peer's table is above the limit: its next block has to begin with an update (RFC 7541 section 4.2).
    must_update: bool,
    /// A name behind Huffman's code, while its field is read.
    scratch: Vec<u8>,
}

/// A string as the block has it.
#[derive(Clone, Copy)]
struct Text<'a> {
    bytes: &'a [u8],
    is_huffman: bool,
}

/// A name as the block has it.
enum NameIn<'a> {
    Known(Token),
    Table(Arc<[u8]>),
    Text(Text<'a>),
}

/// The list that is filled, and whether it was cut.
struct Sink<'a> {
    list: &'a mut Headers,
    /// What still has room; nothing from the first field on that had none.
    fields_left: usize,
    bytes_left: usize,
    is_cut: bool,
}

// === impl Decoder ===

impl Decoder {
    /// Begin with an empty table. `max_size` is what we advertise as SETTINGS_HEADER_TABLE_SIZE. Until the peer has seen
    /// it, the protocol's 4,096 are its table's size, also where ours is smaller.
    pub fn new(max_size: usize) -> Self {
        Self {
            table: Table::new(DEFAULT_TABLE_SIZE),
            limit: max_size.max(DEFAULT_TABLE_SIZE),
            advertised: max_size,
            must_update: false,
            scratch: Vec::new(),
        }
    }

    /// The peer acknowledged our SETTINGS: from now on its table has to be within what we advertised.
    pub fn acknowledged(&mut self) {
        self.limit = self.advertised;
        self.must_update = self.table.max_size() > self.limit;
    }

    /// Bytes of memory that it holds.
    pub fn memory(&self) -> usize {
        self.table.memory() + self.scratch.capacity()
    }

    /// Append the fields of a whole block to `out`, as far as `most` allows for the list in all.
    ///
    /// Errors: the block is malformed; the table is of no use any more.
    pub fn decode(
        &mut self,
        block: &[u8],
        out: &mut Headers,
        most: &Most,
    ) -> Result<Decoded, Malformed> {
        let mut sink = Sink {
            fields_left: most.fields.saturating_sub(out.len()),
            bytes_left: most.list_bytes.saturating_sub(out.size()),
            list: out,
            is_cut: false,
        };
        let result = self.read(block, &mut sink);
        if self.scratch.capacity() > MOST_KEPT {
            self.scratch = Vec::new();
        }
        result.map(|()| Decoded {
            is_cut: sink.is_cut,
        })
    }

    #[inline]
    fn read(&mut self, mut block: &[u8], sink: &mut Sink<'_>) -> Result<(), Malformed> {
        while let Some(0x20..0x40) = block.first() {
            self.resize(integer::read(&mut block, 5)?)?;
        }
        if self.must_update && !block.is_empty() {
            return Err(Malformed);
        }
        while let Some((&first, rest)) = block.split_first() {
            if (0x81..0xff).contains(&first) {
                block = rest;
                self.indexed(first as usize & 0x7f, sink)?;
            } else {
                block = self.other(first, block, sink)?;
            }
        }
        Ok(())
    }

    /// Read a field that is more than a byte. Returns what is behind it.
    #[inline(never)]
    fn other<'a>(
        &mut self,
        first: u8,
        mut block: &'a [u8],
        sink: &mut Sink<'_>,
    ) -> Result<&'a [u8], Malformed> {
        let (prefix, is_to_index) = match first {
            0x80.. => {
                match integer::read(&mut block, 7)? {
                    0 => return Err(Malformed),
                    index => self.indexed(index, sink)?,
                }
                return Ok(block);
            }
            0x40..0x80 => (6, true),
            // An update of the table's size has its place at the begin only.
            0x20..0x40 => return Err(Malformed),
            0x00..0x20 => (4, false),
        };
        let is_sensitive = !is_to_index && first >= 0x10;
        let index = integer::read(&mut block, prefix)?;
        let name = self.name(index, &mut block)?;
        let value = Text::read(&mut block)?;
        match (&name, value.is_huffman) {
            (NameIn::Known(token), false) => {
                let size = token.name().len() + value.bytes.len() + FIELD_OVERHEAD;
                sink.push(Some(*token), &[], value.bytes, size, is_sensitive);
                if is_to_index {
                    self.table.insert(Name::Known(*token), value.bytes, ());
                }
            }
            (_, _) if is_to_index => self.literal_to_index(&name, value, sink)?,
            (_, _) => self.literal(&name, value, is_sensitive, sink)?,
        }
        Ok(block)
    }

    fn resize(&mut self, size: usize) -> Result<(), Malformed> {
        if size > self.limit {
            return Err(Malformed);
        }
        self.must_update = false;
        self.table.set_max_size(size);
        Ok(())
    }

    /// Add the field of an index, which is not 0.
    #[inline(always)]
    fn indexed(&mut self, index: usize, sink: &mut Sink<'_>) -> Result<(), Malformed> {
        let place = index - 1;
        if let Some(entry) = static_table::ENTRIES.get(place) {
            sink.push(
                Some(entry.name),
                &[],
                entry.value,
                entry.size as usize,
                false,
            );
            return Ok(());
        }
        let age = place - static_table::LENGTH;
        let (entry, value) = self.table.get(age).ok_or(Malformed)?;
        match &entry.name {
            Name::Known(token) => sink.push(Some(*token), &[], value, entry.size as usize, false),
            Name::Other(name) => sink.push(None, name, value, entry.size as usize, false),
        }
        Ok(())
    }

    /// The name of a literal: that of an index, or for 0 a string, which `block` has next.
    #[inline(always)]
    fn name<'a>(&self, index: usize, block: &mut &'a [u8]) -> Result<NameIn<'a>, Malformed> {
        let Some(place) = index.checked_sub(1) else {
            return Text::read(block).map(NameIn::Text);
        };
        if let Some(entry) = static_table::ENTRIES.get(place) {
            return Ok(NameIn::Known(entry.name));
        }
        let age = place - static_table::LENGTH;
        let (entry, _) = self.table.get(age).ok_or(Malformed)?;
        Ok(match &entry.name {
            Name::Known(token) => NameIn::Known(*token),
            Name::Other(name) => NameIn::Table(name.clone()),
        })
    }

    #[inline(never)]
    fn literal(
        &mut self,
        name: &NameIn<'_>,
        value: Text<'_>,
        is_sensitive: bool,
        sink: &mut Sink<'_>,
    ) -> Result<(), Malformed> {
        let (token, name) = name.resolve(&mut self.scratch)?;
        match sink.push_text(token, name, value, is_sensitive)? {
            Some(_) => Ok(()),
            None => value.check(),
        }
    }

    #[inline(never)]
    fn literal_to_index(
        &mut self,
        name: &NameIn<'_>,
        value: Text<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Malformed> {
        let (token, name_bytes) = name.resolve(&mut self.scratch)?;
        let shared = |name_bytes| match name {
            NameIn::Table(name) => Name::Other(name.clone()),
            _ => Name::new(token, name_bytes),
        };
        if let Some(value) = sink.push_text(token, name_bytes, value, false)? {
            self.table.insert(shared(name_bytes), value, ());
            return Ok(());
        }
        // The list is full; the table has to hold the field all the same, as the peer's does.
        let length = value.length()?;
        if !self.table.can_hold(name_bytes.len(), length) {
            self.table.clear();
        } else if value.is_huffman {
            let mut decoded = Vec::with_capacity(length + 2);
            huffman::decode_up_to(value.bytes, length, &mut decoded)?;
            self.table.insert(shared(name_bytes), &decoded, ());
        } else {
            self.table.insert(shared(name_bytes), value.bytes, ());
        }
        Ok(())
    }
}

// === impl Text ===

impl<'a> Text<'a> {
    /// Read a string (RFC 7541 section 5.2); `block` moves behind it.
    #[inline]
    fn read(block: &mut &'a [u8]) -> Result<Self, Malformed> {
        let is_huffman = block.first().is_some_and(|&first| first >= 0x80);
        let length = integer::read(block, 7)?;
        let (bytes, rest) = block.split_at_checked(length).ok_or(Malformed)?;
        *block = rest;
        Ok(Self { bytes, is_huffman })
    }

    /// The bytes that it means.
    fn length(self) -> Result<usize, Malformed> {
        match self.is_huffman {
            true => huffman::decoded_length(self.bytes),
            false => Ok(self.bytes.len()),
        }
    }

    fn check(self) -> Result<(), Malformed> {
        self.length().map(|_| ())
    }
}

// === impl NameIn ===

impl NameIn<'_> {
    /// The token and the bytes of the name.
    #[inline]
    fn resolve<'b>(
        &'b self,
        scratch: &'b mut Vec<u8>,
    ) -> Result<(Option<Token>, &'b [u8]), Malformed> {
        let name = match self {
            Self::Known(token) => return Ok((Some(*token), token.name().as_bytes())),
            Self::Table(name) => return Ok((None, name)),
            Self::Text(text) if !text.is_huffman => text.bytes,
            Self::Text(text) => {
                scratch.clear();
                huffman::decode(text.bytes, scratch)?;
                &scratch[..]
            }
        };
        Ok((Token::find(name), name))
    }
}

// === impl Sink ===

impl Sink<'_> {
    /// What is left for a value beside a name.
    #[inline]
    fn room(&self, name_len: usize) -> Option<usize> {
        let room = self.bytes_left.checked_sub(name_len + FIELD_OVERHEAD);
        room.filter(|_| self.fields_left > 0)
    }

    #[cold]
    fn cut(&mut self) {
        self.is_cut = true;
        self.fields_left = 0;
    }

    /// Add a field where there is room for what it counts. `name` counts where there is no token.
    #[inline]
    fn push(
        &mut self,
        token: Option<Token>,
        name: &[u8],
        value: &[u8],
        size: usize,
        is_sensitive: bool,
    ) {
        if self.bytes_left < size || self.fields_left == 0 {
            return self.cut();
        }
        self.fields_left -= 1;
        self.bytes_left -= size;
        self.list.push_sized(token, name, value, size, is_sensitive);
    }

    /// Add a field whose value is still a string of the block. Returns the value where there is room for it.
    #[inline]
    fn push_text(
        &mut self,
        token: Option<Token>,
        name: &[u8],
        value: Text<'_>,
        is_sensitive: bool,
    ) -> Result<Option<&[u8]>, Malformed> {
        let Some(room) = self.room(name.len()) else {
            self.cut();
            return Ok(None);
        };
        let mut most = value.bytes.len();
        if value.is_huffman {
            most = huffman::most_decoded(most);
            if most > room {
                // It may still fit: count before any memory is taken.
                most = value.length()?;
            }
        }
        if most > room {
            self.cut();
            return Ok(None);
        }
        let at = self.list.begin(token, name);
        match value.is_huffman {
            true => huffman::decode_up_to(value.bytes, most, self.list.bytes_mut())?,
            false => self.list.bytes_mut().extend_from_slice(value.bytes),
        }
        let value = self.list.finish(at, token, name.len(), is_sensitive);
        self.fields_left -= 1;
        self.bytes_left = room - value.len();
        Ok(Some(value))
    }
}
