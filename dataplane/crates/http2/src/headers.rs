//! A list of header fields in one buffer: order is kept, names may repeat, and a cleared list keeps its memory, so that a
//! connection reuses one for every block. It judges nothing: which names and values are allowed is the caller's matter.

mod token;
mod tokens;

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;

use std::cell::RefCell;
use std::fmt;

pub use token::Token;
pub(crate) use token::{STATIC_NAMES, TOKENS};
pub use tokens::Tokens;

/// What a field counts beside its name and value (RFC 9113 section 6.5.2, RFC 7541 section 4.1).
pub const FIELD_OVERHEAD: usize = 32;

/// What a list has room for at first: a call's usual metadata.
const USUAL_FIELDS: usize = 24;
const USUAL_BYTES: usize = 768;

/// Bytes from which on a list's memory is worth a look.
const LONG: usize = 4096;

/// What may be added to a long list without its memory being doubled for it.
const ADDED_BYTES: usize = 512;
const ADDED_FIELDS: usize = 12;

thread_local! {
    // Memory of lists that were dropped: a call has four, and each would take two pieces of memory.
    static POOL: RefCell<Vec<Headers>> = const { RefCell::new(Vec::new()) };
}

/// Most lists that are kept on a thread.
const MOST_POOLED: usize = 256;
/// Most memory of one that is kept, bytes.
const MOST_POOLED_BYTES: usize = 8 * 1024;

/// A list of header fields.
#[derive(Clone, Default)]
pub struct Headers {
    /// Values, each after its name where that has no token.
    bytes: Vec<u8>,
    records: Vec<Record>,
    size: usize,
    /// Known names that were added: what is not among them need not be looked for.
    names: Tokens,
    /// Names without a token were added.
    has_others: bool,
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

/// A name of a field, in lower case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Name<'n> {
    Known(Token),
    /// One that has no token.
    Other(&'n [u8]),
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

    /// One with room for a call's usual metadata: memory of a list that was dropped on this thread, where there is some.
    pub fn roomy() -> Self {
        let pooled = POOL.try_with(|pool| pool.borrow_mut().pop());
        let pooled = pooled.unwrap_or_default();
        pooled.unwrap_or_else(|| Self::with_capacity(USUAL_FIELDS, USUAL_BYTES))
    }

    /// `bytes` is for values, and for the names that have no token.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            records: Vec::with_capacity(fields),
            size: 0,
            names: Tokens::default(),
            has_others: false,
        }
    }

    /// Empty the list; its memory stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.size = 0;
        self.names = Tokens::default();
        self.has_others = false;
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

    /// Give back the memory of a long list that it does not use, which may be as much as it does, but for what a proxy adds.
    #[inline]
    pub(crate) fn fit(&mut self) {
        if self.bytes.capacity() > LONG {
            self.fit_long();
        }
    }

    #[cold]
    fn fit_long(&mut self) {
        if self.bytes.capacity() > self.bytes.len() + LONG / 2 {
            self.bytes.shrink_to(self.bytes.len() + ADDED_BYTES);
            self.records.shrink_to(self.records.len() + ADDED_FIELDS);
        }
        self.bytes.reserve_exact(ADDED_BYTES);
        self.records.reserve_exact(ADDED_FIELDS);
    }

    /// Bytes of memory that the list holds, used or not.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.records.capacity() * size_of::<Record>()
    }

    pub fn push<'n>(&mut self, name: impl Into<Name<'n>>, value: impl AsRef<[u8]>) {
        let (token, name) = name.into().parts();
        self.push_field(token, name, value.as_ref(), false);
    }

    /// Add a field that no compression table may hold, here or further on.
    pub fn push_sensitive<'n>(&mut self, name: impl Into<Name<'n>>, value: impl AsRef<[u8]>) {
        let (token, name) = name.into().parts();
        self.push_field(token, name, value.as_ref(), true);
    }

    /// Add a field before all others, as pseudo-header fields must be.
    pub fn push_first<'n>(&mut self, name: impl Into<Name<'n>>, value: impl AsRef<[u8]>) {
        self.push(name, value);
        self.records.rotate_right(1);
    }

    /// Let the name have this value and no other.
    pub fn set<'n>(&mut self, name: impl Into<Name<'n>>, value: impl AsRef<[u8]>) {
        let name = name.into();
        self.remove(name);
        self.push(name, value);
    }

    /// Add all fields of another list.
    pub fn append(&mut self, other: &Self) {
        let shift = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        // As for a record of its own: see there.
        assert!(self.bytes.len() <= u32::MAX as usize, "a list of 4 GiB");
        self.size += other.size;
        self.names.add_all(other.names);
        self.has_others |= other.has_others;
        let moved = |record: &Record| Record {
            at: record.at + shift as u32,
            ..*record
        };
        self.records.extend(other.records.iter().map(moved));
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

    /// All values, and the names that have no token.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
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
        match token {
            Some(token) => self.names.add(token),
            None => self.has_others = true,
        }
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

    /// The token of each field.
    #[inline]
    pub(crate) fn tokens(&self) -> impl Iterator<Item = Option<Token>> {
        self.records.iter().map(|record| record.token)
    }

    /// The field that has so many before it, which are fewer than there are fields.
    pub(crate) fn at(&self, place: usize) -> Field<'_> {
        self.field(&self.records[place])
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

    /// The first value of a name.
    #[inline]
    pub fn get<'n>(&self, name: impl Into<Name<'n>>) -> Option<&[u8]> {
        let name = name.into();
        if !self.may_have(name) {
            return None;
        }
        let record = self.records.iter().find(|it| self.is_of(it, name))?;
        Some(self.field(record).value)
    }

    /// The first value of a name, where it is of visible ASCII, spaces and tabs.
    pub fn text<'n>(&self, name: impl Into<Name<'n>>) -> Option<&str> {
        text(self.get(name)?)
    }

    /// Every value of a name, in order.
    pub fn get_all<'n>(&self, name: impl Into<Name<'n>>) -> impl Iterator<Item = &[u8]> {
        let name = name.into();
        let records = self.records.iter();
        records
            .filter(move |it| self.is_of(it, name))
            .map(|record| self.field(record).value)
    }

    #[inline]
    pub fn has<'n>(&self, name: impl Into<Name<'n>>) -> bool {
        let name = name.into();
        self.may_have(name) && self.records.iter().any(|it| self.is_of(it, name))
    }

    /// Whether it is sure to have none of these names, and none without a token. A list that had one may say no.
    #[inline]
    pub fn is_free_of(&self, names: Tokens) -> bool {
        !self.has_others && !self.names.meets(names)
    }

    #[inline]
    fn may_have(&self, name: Name<'_>) -> bool {
        match name {
            Name::Known(token) => self.names.has(token),
            Name::Other(_) => true,
        }
    }

    #[inline]
    fn is_of(&self, record: &Record, name: Name<'_>) -> bool {
        match name {
            Name::Known(token) => record.token == Some(token),
            Name::Other(name) => record.token.is_none() && self.field(record).name == name,
        }
    }

    /// Remove every field of a name. The values' memory comes back at [`Headers::clear`].
    pub fn remove<'n>(&mut self, name: impl Into<Name<'n>>) {
        let name = name.into();
        if self.has(name) {
            let (token, name) = name.parts();
            self.retain(|it| it.token != token || (token.is_none() && it.name != name));
            if let Some(token) = token {
                self.names.remove(token);
            }
        }
    }

    /// Remove the pseudo-header fields, which stand before all others.
    pub fn remove_pseudo(&mut self) {
        let is_pseudo = |record: &&Record| record.token.is_some_and(Token::is_pseudo);
        let count = self.records.iter().take_while(is_pseudo).count();
        for record in self.records.drain(..count) {
            let name = record.token.map_or(0, |token| token.name().len());
            self.size -= name + record.value_len as usize + FIELD_OVERHEAD;
        }
    }

    /// Keep the fields that `is_kept` says yes to, in order.
    pub fn retain(&mut self, mut is_kept: impl FnMut(Field<'_>) -> bool) {
        let Self {
            bytes,
            records,
            size,
            ..
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

    #[inline]
    fn field(&self, record: &Record) -> Field<'_> {
        record.field(&self.bytes)
    }
}

impl<'n, N: Into<Name<'n>>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in fields {
            headers.push(name, value);
        }
        headers
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        if !(1..=MOST_POOLED_BYTES).contains(&self.memory()) {
            return;
        }
        // A thread that ends has no pool any more.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < MOST_POOLED {
                let mut list = Self {
                    bytes: std::mem::take(&mut self.bytes),
                    records: std::mem::take(&mut self.records),
                    size: 0,
                    names: Tokens::default(),
                    has_others: false,
                };
                list.clear();
                pool.push(list);
            }
        });
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

// === impl Name ===

impl<'n> Name<'n> {
    #[inline]
    fn parts(self) -> (Option<Token>, &'n [u8]) {
        match self {
            Self::Known(token) => (Some(token), &[]),
            Self::Other(name) => (None, name),
        }
    }
}

impl From<Token> for Name<'_> {
    fn from(token: Token) -> Self {
        Self::Known(token)
    }
}

impl<'n> From<&'n [u8]> for Name<'n> {
    fn from(name: &'n [u8]) -> Self {
        Token::find(name).map_or(Self::Other(name), Self::Known)
    }
}

impl<'n, const N: usize> From<&'n [u8; N]> for Name<'n> {
    fn from(name: &'n [u8; N]) -> Self {
        name[..].into()
    }
}

impl<'n> From<&'n str> for Name<'n> {
    fn from(name: &'n str) -> Self {
        name.as_bytes().into()
    }
}

// === impl Field ===

impl<'h> Field<'h> {
    /// The value, where it is of visible ASCII, spaces and tabs.
    pub fn text(&self) -> Option<&'h str> {
        text(self.value)
    }
}

/// A value as text, where it is of visible ASCII, spaces and tabs.
pub fn text(value: &[u8]) -> Option<&str> {
    let is_text = |byte: &u8| (b' '..=b'~').contains(byte) || *byte == b'\t';
    let value = value.iter().all(is_text).then_some(value)?;
    std::str::from_utf8(value).ok()
}

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
    #[inline]
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
