//! From a block to a list of fields (RFC 7541 section 3.2).
//!
//! What a block can cost is bounded by its own bytes and by [`Most`]: a field that is beyond takes part in keeping the
//! table in step, and is not copied.

#[cfg(test)]
#[path = "decode_tests.rs"]
pub(super) mod tests;

use super::literal::{NameIn, Text};
use super::sink::Sink;
use super::table::{Name, Table};
use super::{DEFAULT_TABLE_SIZE, Malformed, huffman, integer, static_table};
use crate::headers::{FIELD_OVERHEAD, Headers, Token};

/// Names that were decoded keep this much memory for the next; a longer one gives its memory back.
const MOST_KEPT: usize = 256;

/// Bytes of code of the longest path that is remembered.
const MOST_PATH: usize = 128;

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
    path: Path,
}

/// The last path that did not enter the table: nghttp2's users (curl, node, Envoy) send it with each request, in Huffman's
/// code, and it is mostly the one before.
#[derive(Debug, Default)]
struct Path {
    /// Its code, and behind that what it means.
    bytes: Vec<u8>,
    coded: usize,
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
            path: Path::default(),
        }
    }

    /// The peer acknowledged our SETTINGS: from now on its table has to be within what we advertised.
    pub fn acknowledged(&mut self) {
        self.limit = self.advertised;
        self.must_update = self.table.max_size() > self.limit;
    }

    /// Names and values in the table, the newest first.
    #[cfg(test)]
    pub(super) fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.table.fields()
    }

    /// Whether all entries have the same name in the same memory.
    #[cfg(test)]
    pub(super) fn shares_names(&self) -> bool {
        let names: Vec<_> = self
            .table
            .newest_first()
            .map(|it| it.name.bytes().as_ptr())
            .collect();
        names.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// Bytes of memory that it holds.
    pub fn memory(&self) -> usize {
        self.table.memory() + self.scratch.capacity() + self.path.bytes.capacity()
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
        let is_cut = sink.is_cut;
        out.fit();
        result.map(|()| Decoded { is_cut })
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
        if value.is_huffman && token == Some(Token::PATH) {
            if let Some(path) = self.path.of(value.bytes) {
                let size = name.len() + path.len() + FIELD_OVERHEAD;
                sink.push(token, &[], path, size, is_sensitive);
                return Ok(());
            }
            if let Some(path) = sink.push_text(token, name, value, is_sensitive)? {
                self.path.remember(value.bytes, path);
                return Ok(());
            }
            return value.check();
        }
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

// === impl Path ===

impl Path {
    /// What the code means, where it is the one remembered.
    #[inline]
    fn of(&self, code: &[u8]) -> Option<&[u8]> {
        let (coded, path) = self.bytes.split_at(self.coded);
        (coded == code && self.coded > 0).then_some(path)
    }

    fn remember(&mut self, code: &[u8], path: &[u8]) {
        if code.len() <= MOST_PATH {
            self.bytes.clear();
            self.bytes.extend_from_slice(code);
            self.bytes.extend_from_slice(path);
            self.coded = code.len();
        }
    }
}
