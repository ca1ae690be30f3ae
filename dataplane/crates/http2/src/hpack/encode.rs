//! From a list of fields to a block (RFC 7541 section 6).
//!
//! What enters the table is what comes again: some names' values at once, others when they are seen twice, and those that
//! differ each time, or that are secret, never ([`Policy`]).

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;

use super::index::{Index, Key};
use super::policy::{Policy, Rule, SHORT_COOKIE, is_coarse};
use super::{DEFAULT_TABLE_SIZE, huffman, integer, static_table};
use crate::headers::{FIELD_OVERHEAD, Headers, Token};

/// The largest table that is used, whatever the peer allows: it is memory of each connection.
const MOST_TABLE_SIZE: usize = DEFAULT_TABLE_SIZE;

/// Strings below this length have one byte for it.
const SHORT: usize = 127;
/// Strings below this length go plain where they don't enter the table, and so are sent again each time: in a data centre
/// nine bytes of a request's id are worth less than the 800 instructions that its code costs both ends.
const WORTH_HUFFMAN: usize = 64;

/// How a field or a string begins: the bits of the number in its first byte, and what is above them.
struct Form {
    prefix: u32,
    pattern: u8,
}

const INDEXED: Form = form(7, 0x80);
const LITERAL_TO_INDEX: Form = form(6, 0x40);
const SIZE_UPDATE: Form = form(5, 0x20);
const LITERAL: Form = form(4, 0x00);
const LITERAL_NEVER_INDEXED: Form = form(4, 0x10);
const PLAIN: Form = form(7, 0x00);
const HUFFMAN: Form = form(7, 0x80);

/// The sending end of one direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    index: Index,
    /// The table's size has changed since the last block: the smallest that it was.
    smallest: Option<usize>,
}

// === impl Form ===

const fn form(prefix: u32, pattern: u8) -> Form {
    Form { prefix, pattern }
}

impl Form {
    #[inline]
    fn write(&self, number: usize, out: &mut Vec<u8>) {
        integer::write(number, self.prefix, self.pattern, out);
    }
}

// === impl Encoder ===

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    pub fn new() -> Self {
        Self {
            index: Index::new(DEFAULT_TABLE_SIZE),
            smallest: None,
        }
    }

    /// Take the peer's SETTINGS_HEADER_TABLE_SIZE, between blocks. The next block says it, and the smallest that it was
    /// where it changed more than once (RFC 7541 section 4.2).
    pub fn set_max_size(&mut self, peers_setting: u32) {
        let size = (peers_setting as usize).min(MOST_TABLE_SIZE);
        if size != self.index.max_size() {
            let before = self.smallest.unwrap_or(usize::MAX);
            self.smallest = Some(before.min(size));
            self.index.set_max_size(size);
        }
    }

    /// Names and values in the table, the newest first.
    #[cfg(test)]
    pub(super) fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.index.fields()
    }

    /// Bytes of memory on the heap.
    pub fn memory(&self) -> usize {
        self.index.memory()
    }

    /// Append a block to `out`.
    pub fn encode(&mut self, headers: &Headers, out: &mut Vec<u8>) {
        self.begin(out);
        for (token, name, value, is_sensitive) in headers.stored() {
            self.write(token, name, value, is_sensitive, out);
        }
    }

    /// Append one field to `out`, for a caller that writes a block without a list. `name` counts where there is no token.
    pub fn field(
        &mut self,
        token: Option<Token>,
        name: &[u8],
        value: &[u8],
        is_sensitive: bool,
        out: &mut Vec<u8>,
    ) {
        self.begin(out);
        self.write(token, name, value, is_sensitive, out);
    }

    /// Say how the table's size has changed, where a block begins.
    #[inline]
    fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(smallest) = self.smallest.take() {
            let size = self.index.max_size();
            if smallest < size {
                SIZE_UPDATE.write(smallest, out);
            }
            SIZE_UPDATE.write(size, out);
        }
    }

    #[inline]
    fn write(
        &mut self,
        token: Option<Token>,
        name: &[u8],
        value: &[u8],
        is_sensitive: bool,
        out: &mut Vec<u8>,
    ) {
        let mut name_index = 0;
        if let Some((age, latest)) = self.index.latest(token) {
            if latest == value && !is_sensitive {
                return INDEXED.write(dynamic(age), out);
            }
            name_index = dynamic(age);
        }
        let field = Key { token, name, value };
        self.write_other(field, is_sensitive, name_index, out);
    }

    /// Write a field that is not the last of its name in the table, which is at `name_index`, or at 0 where there is none.
    #[inline(never)]
    fn write_other(
        &mut self,
        mut field: Key<'_>,
        is_sensitive: bool,
        mut name_index: usize,
        out: &mut Vec<u8>,
    ) {
        let rule = Rule::of(field.token);
        let policy = match rule.policy {
            _ if is_sensitive => Policy::Secret,
            Policy::Cookie if field.value.len() < SHORT_COOKIE => Policy::Secret,
            Policy::Timeout if !is_coarse(field.value) => Policy::Volatile,
            policy => policy,
        };
        if rule.first > 0 {
            if policy != Policy::Secret
                && let Some(index) = static_table::find(rule.first as usize, field.value)
            {
                return INDEXED.write(index, out);
            }
            name_index = rule.first as usize;
        }
        match field.token {
            Some(token) => field.name = token.name().as_bytes(),
            None => name_index = self.index.find_name(field.name).map_or(0, dynamic),
        }
        match policy {
            Policy::Secret => literal(LITERAL_NEVER_INDEXED, name_index, &field, out),
            // The name enters with the first value.
            Policy::Volatile if name_index > 0 => literal(LITERAL, name_index, &field, out),
            Policy::Volatile => self.enter(&field, name_index, field.hash(), out),
            Policy::Once | Policy::Twice | Policy::Cookie | Policy::Timeout => {
                self.write_indexable(&field, policy == Policy::Once, name_index, out)
            }
        }
    }

    fn write_indexable(
        &mut self,
        field: &Key<'_>,
        is_due: bool,
        name_index: usize,
        out: &mut Vec<u8>,
    ) {
        let hash = field.hash();
        if let Some(age) = self.index.find(field, hash) {
            return INDEXED.write(dynamic(age), out);
        }
        let was_seen = self.index.was_seen(hash);
        // A name that comes again with other values enters with one of them.
        let was_name_seen = name_index == 0 && self.index.was_name_seen(field);
        match is_due || was_seen || was_name_seen {
            true => self.enter(field, name_index, hash, out),
            false => literal(LITERAL, name_index, field, out),
        }
    }

    /// Write a field that enters the table, unless it would drive out most of the others.
    fn enter(&mut self, field: &Key<'_>, name_index: usize, hash: u32, out: &mut Vec<u8>) {
        let size = field.name.len() + field.value.len() + FIELD_OVERHEAD;
        if size > self.index.max_size() / 2 {
            return literal(LITERAL, name_index, field, out);
        }
        LITERAL_TO_INDEX.write(name_index, out);
        if name_index == 0 {
            string(field.name, out);
        }
        string(field.value, out);
        self.index.insert(field, hash);
    }
}

/// The index of an entry of the dynamic table.
#[inline]
fn dynamic(age: usize) -> usize {
    static_table::LENGTH + 1 + age
}

/// Write a literal that stays out of the table. The name is a string where it has no index, which is 0.
fn literal(form: Form, name_index: usize, field: &Key<'_>, out: &mut Vec<u8>) {
    form.write(name_index, out);
    if name_index == 0 {
        cheap_string(field.name, out);
    }
    cheap_string(field.value, out);
}

#[inline]
fn cheap_string(text: &[u8], out: &mut Vec<u8>) {
    match text.len() < WORTH_HUFFMAN {
        true => plain(text, out),
        false => string(text, out),
    }
}

#[inline]
fn plain(text: &[u8], out: &mut Vec<u8>) {
    PLAIN.write(text.len(), out);
    out.extend_from_slice(text);
}

/// Write a string, in Huffman's code where that is shorter (RFC 7541 section 5.2).
pub(super) fn string(text: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    if text.len() >= SHORT {
        let length = huffman::encoded_length(text);
        if length < text.len() {
            HUFFMAN.write(length, out);
            huffman::encode(text, out);
            return;
        }
    } else {
        // Its length takes one byte: it is filled in once it is known, which spares a look at each character.
        out.push(0);
        if huffman::encode(text, out) {
            out[begin] = HUFFMAN.pattern | (out.len() - begin - 1) as u8;
            return;
        }
        out.truncate(begin);
    }
    plain(text, out);
}
