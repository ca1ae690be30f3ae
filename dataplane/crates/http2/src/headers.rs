//! A list of header fields in one buffer: order is kept, names may repeat, and a cleared list keeps its memory, so that a
//! connection reuses one for every block. It judges nothing: which names and values are allowed is the caller's matter.

mod token;

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;

use std::fmt;

pub use token::Token;
pub(crate) use token::{STATIC_NAMES, TOKENS};

/// What a field counts beside its name and value (RFC 9113 section 6.5.2, RFC 7541 section 4.1).
pub const FIELD_OVERHEAD: usize = 32;

/// A list of header fields.
#[derive(Clone, Default)]
pub struct Headers {
    /// Values, each after its name where that has no token.
    bytes: Vec<u8>,
    records: Vec<Record>,
    size: usize,
}

/// Where a field lies in `bytes`: 16 bytes, which is less than [`FIELD_OVERHEAD`], so a limit on the size bounds these too.
#[derive(Clone, Copy)]
struct Record {
    at: u32,
    /// 0 where the name has a token: it isn't stored then.
    name_len: u32,
    value_len: u32,
    token: Option<Token>,
    is_sensitive: bool,
}

/// One field, as [`Headers::iter`] shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name's token, where it is a known one.
    pub token: Option<Token>,
    pub name: &'a [u8],
    pub value: &'a [u8],
    /// It must not be put into a compression table, here or at any later hop (RFC 7541 section 7.1.3).
    pub is_sensitive: bool,
}

// === impl Headers ===

impl Headers {
    pub fn new() -> Self {
        Self::default()
    }

    /// `bytes` is for values, and for the names that have no token.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            records: Vec::with_capacity(fields),
            size: 0,
        }
    }

    /// Empty the list; its memory stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.size = 0;
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The size that SETTINGS_MAX_HEADER_LIST_SIZE limits: names, values and 32 for each field.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes of memory that the list holds, used or not.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.records.capacity() * size_of::<Record>()
    }

    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.push_field(Token::find(name), name, value, false);
    }

    pub fn push_known(&mut self, name: Token, value: &[u8]) {
        self.push_field(Some(name), &[], value, false);
    }

    /// Add a field that no compression table may hold, here or further on.
    pub fn push_sensitive(&mut self, name: &[u8], value: &[u8]) {
        self.push_field(Token::find(name), name, value, true);
    }

    /// Add a field whose token was looked up before; `name` counts only where there is none.
    #[inline]
    pub(crate) fn push_field(
        &mut self,
        token: Option<Token>,
        name: &[u8],
        value: &[u8],
        is_sensitive: bool,
    ) {
        let at = self.begin(token, name);
        self.bytes.extend_from_slice(value);
        self.record(at, token, name.len(), value.len(), is_sensitive);
    }

    /// Begin a field whose value the caller appends to [`Headers::bytes_mut`] itself. Returns where it begins.
    #[inline]
    pub(crate) fn begin(&mut self, token: Option<Token>, name: &[u8]) -> usize {
        let at = self.bytes.len();
        if token.is_none() {
            self.bytes.extend_from_slice(name);
        }
        at
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// End the field begun at `at`: all bytes behind its name are its value, which is returned.
    #[inline]
    pub(crate) fn finish(
        &mut self,
        at: usize,
        token: Option<Token>,
        name_len: usize,
        is_sensitive: bool,
    ) -> &[u8] {
        let stored = if token.is_none() { name_len } else { 0 };
        let value_len = self.bytes.len() - at - stored;
        self.record(at, token, name_len, value_len, is_sensitive);
        &self.bytes[at + stored..]
    }

    #[inline]
    fn record(
        &mut self,
        at: usize,
        token: Option<Token>,
        name_len: usize,
        value_len: usize,
        is_sensitive: bool,
    ) {
        let (stored, counted) = match token {
            Some(token) => (0, token.name().len()),
            None => (name_len, name_len),
        };
        let size = counted + value_len + FIELD_OVERHEAD;
        self.record_sized(at, token, stored, value_len, size, is_sensitive);
    }

    /// Add a field that is known to count `size`; `name` counts where there is no token.
    #[inline]
    pub(crate) fn push_sized(
        &mut self,
        token: Option<Token>,
        name: &[u8],
        value: &[u8],
        size: usize,
        is_sensitive: bool,
    ) {
        let at = self.begin(token, name);
        self.bytes.extend_from_slice(value);
        let stored = if token.is_none() { name.len() } else { 0 };
        self.record_sized(at, token, stored, value.len(), size, is_sensitive);
    }

    #[inline]
    fn record_sized(
        &mut self,
        at: usize,
        token: Option<Token>,
        stored: usize,
        value_len: usize,
        size: usize,
        is_sensitive: bool,
    ) {
        // So that every place is in 32 bits. Limits keep a list far below; one beyond is a fault of the program.
        assert!(self.bytes.len() <= u32::MAX as usize, "a list of 4 GiB");
        self.size += size;
        self.records.push(Record {
            at: at as u32,
            name_len: stored as u32,
            value_len: value_len as u32,
            token,
            is_sensitive,
        });
    }

    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.records.iter().map(|record| self.field(record))
    }

    /// The fields as they are stored: the token or a name, the value, and whether it is sensitive.
    #[inline]
    pub(crate) fn stored(&self) -> impl Iterator<Item = (Option<Token>, &[u8], &[u8], bool)> {
        self.records.iter().map(|record| {
            let value_at = record.at as usize + record.name_len as usize;
            let name: &[u8] = match record.token {
                Some(_) => &[],
                None => &self.bytes[record.at as usize..value_at],
            };
            let value = &self.bytes[value_at..value_at + record.value_len as usize];
            (record.token, name, value, record.is_sensitive)
        })
    }

    /// The first value of a known name.
    pub fn get(&self, name: Token) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// Every value of a known name, in order.
    pub fn get_all(&self, name: Token) -> impl Iterator<Item = &[u8]> {
        let is_it = move |record: &&Record| record.token == Some(name);
        self.records
            .iter()
            .filter(is_it)
            .map(|record| self.field(record).value)
    }

    /// The first value of any lower-case name.
    pub fn get_named(&self, name: &[u8]) -> Option<&[u8]> {
        match Token::find(name) {
            Some(token) => self.get(token),
            None => self
                .iter()
                .find(|field| field.token.is_none() && field.name == name)
                .map(|field| field.value),
        }
    }

    /// Remove every field of a known name. The values' memory comes back at [`Headers::clear`].
    pub fn remove(&mut self, name: Token) {
        if self.records.iter().any(|record| record.token == Some(name)) {
            self.retain(|field| field.token != Some(name));
        }
    }

    /// Keep the fields that `is_kept` says yes to, in order.
    pub fn retain(&mut self, mut is_kept: impl FnMut(Field<'_>) -> bool) {
        let Self {
            bytes,
            records,
            size,
        } = self;
        records.retain(|record| {
            let field = record.field(bytes);
            let is_kept = is_kept(field);
            if !is_kept {
                *size -= field.name.len() + field.value.len() + FIELD_OVERHEAD;
            }
            is_kept
        });
    }

    fn field(&self, record: &Record) -> Field<'_> {
        record.field(&self.bytes)
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.iter()).finish()
    }
}

// === impl Field ===

impl fmt::Debug for Field<'_> {
    /// A sensitive value is kept out of logs as well.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.escape_ascii();
        match self.is_sensitive {
            true => write!(out, "{name}: ({} bytes, sensitive)", self.value.len()),
            false => write!(out, "{name}: {}", self.value.escape_ascii()),
        }
    }
}

// === impl Record ===

impl Record {
    fn field<'a>(&self, bytes: &'a [u8]) -> Field<'a> {
        let value_at = self.at as usize + self.name_len as usize;
        Field {
            token: self.token,
            name: match self.token {
                Some(token) => token.name().as_bytes(),
                None => &bytes[self.at as usize..value_at],
            },
            value: &bytes[value_at..value_at + self.value_len as usize],
            is_sensitive: self.is_sensitive,
        }
    }
}
