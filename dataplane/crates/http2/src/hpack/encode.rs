//! From a list of fields to a block (RFC 7541 section 6).
//!
//! What enters the table is what comes again: some names' values at once, others when they are seen twice, and those that
//! differ each time, or that are secret, never ([`Policy`]).

use super::index::{Index, Key};
use super::policy::{Policy, SHORT_COOKIE};
use super::{DEFAULT_TABLE_SIZE, huffman, integer, static_table};
use crate::headers::{FIELD_OVERHEAD, Headers, Token};

/// The largest table that is used, whatever the peer allows: it is memory of each connection.
const MOST_TABLE_SIZE: usize = DEFAULT_TABLE_SIZE;

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

    /// Take the peer's SETTINGS_HEADER_TABLE_SIZE. The next block says it, and the smallest in between where it changed
    /// more than once (RFC 7541 section 4.2).
    pub fn set_max_size(&mut self, peers_setting: u32) {
        let size = (peers_setting as usize).min(MOST_TABLE_SIZE);
        if size != self.index.max_size() {
            let before = self.smallest.unwrap_or(usize::MAX);
            self.smallest = Some(before.min(size));
            self.index.set_max_size(size);
        }
    }

    /// Bytes of memory on the heap.
    pub fn memory(&self) -> usize {
        self.index.memory()
    }

    /// Append a block to `out`.
    pub fn encode(&mut self, headers: &Headers, out: &mut Vec<u8>) {
        self.begin(out);
        for field in headers.iter() {
            let is_sensitive = field.is_sensitive;
            self.field(field.token, field.name, field.value, is_sensitive, out);
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
        let name = token.map_or(name, |token| token.name().as_bytes());
        let policy = match token {
            _ if is_sensitive => Policy::Secret,
            Some(token) => Policy::of(token),
            None => Policy::Twice,
        };
        let known = token.and_then(static_table::find);
        let name_index = known.map_or(0, |(first, _)| first);
        match policy {
            Policy::Cookie if value.len() < SHORT_COOKIE => {
                self.secret(token, name, name_index, value, out)
            }
            Policy::Secret => self.secret(token, name, name_index, value, out),
            Policy::Volatile => self.volatile(token, name, name_index, value, out),
            Policy::Once | Policy::Twice | Policy::Cookie => {
                if let Some((first, count)) = known {
                    let entries = static_table::ENTRIES[first - 1..].iter().take(count);
                    if let Some(more) = entries.map(|entry| entry.value).position(|it| it == value)
                    {
                        return INDEXED.write(first + more, out);
                    }
                }
                let key = Key::new(token, name, value);
                match self.index.find(&key) {
                    Some(age) => INDEXED.write(dynamic(age), out),
                    None => self.unknown(&key, name_index, policy, out),
                }
            }
        }
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

    /// Write a field that the tables lack.
    fn unknown(&mut self, key: &Key<'_>, name_index: usize, policy: Policy, out: &mut Vec<u8>) {
        let mut name_index = name_index;
        if name_index == 0 {
            name_index = self.find_name(key.token, key.name);
        }
        let is_seen = self.index.was_seen(key);
        // A name that comes again with other values enters with one of them.
        let is_name_due = name_index == 0 && self.index.was_name_seen(key);
        let is_due = policy == Policy::Once || is_seen || is_name_due;
        // One field shall not drive out most of the others.
        let size = key.name.len() + key.value.len() + FIELD_OVERHEAD;
        if is_due && size <= self.index.max_size() / 2 {
            literal(LITERAL_TO_INDEX, name_index, key.name, key.value, out);
            self.index.insert(key);
        } else {
            literal(LITERAL, name_index, key.name, key.value, out);
        }
    }

    /// Write a field whose value won't come again; its name enters the table with the first.
    fn volatile(
        &mut self,
        token: Option<Token>,
        name: &[u8],
        name_index: usize,
        value: &[u8],
        out: &mut Vec<u8>,
    ) {
        let mut name_index = name_index;
        if name_index == 0 {
            name_index = self.find_name(token, name);
        }
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        if name_index == 0 && size <= self.index.max_size() / 2 {
            literal(LITERAL_TO_INDEX, 0, name, value, out);
            self.index.insert(&Key::new(token, name, value));
        } else {
            literal(LITERAL, name_index, name, value, out);
        }
    }

    fn secret(
        &mut self,
        token: Option<Token>,
        name: &[u8],
        name_index: usize,
        value: &[u8],
        out: &mut Vec<u8>,
    ) {
        let mut name_index = name_index;
        if name_index == 0 {
            name_index = self.find_name(token, name);
        }
        literal(LITERAL_NEVER_INDEXED, name_index, name, value, out);
    }

    /// The index of an entry of the dynamic table with this name; 0 where there is none.
    fn find_name(&self, token: Option<Token>, name: &[u8]) -> usize {
        self.index.find_name(token, name).map_or(0, dynamic)
    }
}

/// The index of an entry of the dynamic table.
#[inline]
fn dynamic(age: usize) -> usize {
    static_table::LENGTH + 1 + age
}

/// Write a literal; the name is a string where it has no index, which is 0.
#[inline]
fn literal(form: Form, name_index: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    form.write(name_index, out);
    if name_index == 0 {
        string(name, out);
    }
    string(value, out);
}

/// Write a string, in Huffman's code where that is shorter (RFC 7541 section 5.2).
pub(super) fn string(text: &[u8], out: &mut Vec<u8>) {
    let length = huffman::encoded_length(text);
    if length < text.len() {
        HUFFMAN.write(length, out);
        huffman::encode(text, length, out);
    } else {
        PLAIN.write(text.len(), out);
        out.extend_from_slice(text);
    }
}
