//! The dynamic table (RFC 7541 section 2.3.2), for both directions: a queue of fields, the newest first, that is bounded by
//! what its fields count. Values lie one behind the other in one buffer.

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::headers::{FIELD_OVERHEAD, Token};

/// The name of an entry. Shared, not copied: a block can put a long name from the table into it again with two bytes, and
/// a copy each time would let 16 KiB of such fields move 32 MiB.
#[derive(Clone)]
pub(super) enum Name {
    Known(Token),
    Other(Arc<[u8]>),
}

/// One field. `X` is what the direction remembers of it.
pub(super) struct Entry<X> {
    pub(super) name: Name,
    pub(super) extra: X,
    /// Where its value begins: the bytes that had ever entered before, which wraps.
    at: u32,
    value_len: u32,
    /// What it counts.
    pub(super) size: u32,
}

pub(super) struct Table<X> {
    /// The oldest first.
    entries: VecDeque<Entry<X>>,
    /// Values, the oldest first; in front may lie some that are gone.
    bytes: Vec<u8>,
    /// The bytes that had ever entered before `bytes[0]`.
    before: u32,
    /// What the entries count.
    size: usize,
    max_size: usize,
}

// === impl Name ===

impl Name {
    pub(super) fn new(token: Option<Token>, name: &[u8]) -> Self {
        match token {
            Some(token) => Self::Known(token),
            None => Self::Other(name.into()),
        }
    }

    pub(super) fn token(&self) -> Option<Token> {
        match self {
            Self::Known(token) => Some(*token),
            Self::Other(_) => None,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Known(token) => token.name().as_bytes(),
            Self::Other(name) => name,
        }
    }
}

// === impl Table ===

impl<X> Table<X> {
    pub(super) fn new(max_size: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: Vec::new(),
            before: 0,
            size: 0,
            max_size,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What the entries count.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Names and values, the newest first.
    #[cfg(test)]
    pub(super) fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let pairs = (0..self.len()).filter_map(|age| self.get(age));
        pairs
            .map(|(entry, value)| (entry.name.bytes().to_vec(), value.to_vec()))
            .collect()
    }

    pub(super) fn max_size(&self) -> usize {
        self.max_size
    }

    /// Bytes of memory that the table holds, used or not. A name that entries share counts for each.
    pub(super) fn memory(&self) -> usize {
        let names = self.entries.iter().filter(|it| it.name.token().is_none());
        let names: usize = names.map(|it| it.name.bytes().len()).sum();
        names + self.bytes.capacity() + self.entries.capacity() * size_of::<Entry<X>>()
    }

    /// The entry that `age` newer ones follow.
    #[inline]
    pub(super) fn get(&self, age: usize) -> Option<(&Entry<X>, &[u8])> {
        // Where there are too few it wraps, and there is none.
        let place = self.entries.len().wrapping_sub(age + 1);
        let entry = self.entries.get(place)?;
        let at = entry.at.wrapping_sub(self.before) as usize;
        Some((entry, &self.bytes[at..at + entry.value_len as usize]))
    }

    /// The entries, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Entry<X>> {
        self.entries.iter().rev()
    }

    /// Set the most that the entries may count, and evict what is beyond.
    pub(super) fn set_max_size(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.evict(max_size);
    }

    /// Whether a field that counts this has room in an empty table.
    pub(super) fn can_hold(&self, name_len: usize, value_len: usize) -> bool {
        name_len + value_len + FIELD_OVERHEAD <= self.max_size
    }

    /// Put a field in and evict what no longer fits. One that is larger than the table empties it, and is left out
    /// (RFC 7541 section 4.4); then it returns false.
    pub(super) fn insert(&mut self, name: Name, value: &[u8], extra: X) -> bool {
        let name_len = name.bytes().len();
        if !self.can_hold(name_len, value.len()) {
            self.clear();
            return false;
        }
        let size = name_len + value.len() + FIELD_OVERHEAD;
        self.evict(self.max_size - size);
        self.make_room(value.len());
        // They fit in 32 bits, as sizes of tables do.
        let at = self.before.wrapping_add(self.bytes.len() as u32);
        self.bytes.extend_from_slice(value);
        self.size += size;
        self.entries.push_back(Entry {
            name,
            extra,
            at,
            value_len: value.len() as u32,
            size: size as u32,
        });
        true
    }

    pub(super) fn clear(&mut self) {
        self.evict(0);
    }

    fn evict(&mut self, most: usize) {
        while self.size > most {
            let Some(entry) = self.entries.pop_front() else {
                return;
            };
            self.size -= entry.size as usize;
        }
    }

    /// Move the values to the front where the buffer is full and at least half of it is gone, so that each move is paid for
    /// by as many bytes that had entered. Else let it grow, which takes no more than twice the table's size.
    fn make_room(&mut self, more: usize) {
        if self.bytes.len() + more <= self.bytes.capacity() {
            return;
        }
        let gone = match self.entries.front() {
            Some(oldest) => oldest.at.wrapping_sub(self.before) as usize,
            None => self.bytes.len(),
        };
        if gone >= self.bytes.len() - gone {
            self.bytes.drain(..gone);
            self.before = self.before.wrapping_add(gone as u32);
        }
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let doubled = (2 * self.bytes.capacity()).min(2 * self.max_size);
            self.bytes
                .reserve_exact(needed.max(doubled) - self.bytes.len());
        }
    }
}

impl<X> fmt::Debug for Table<X> {
    /// Without the fields: some are secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} fields, {} of {} bytes",
            self.len(),
            self.size,
            self.max_size
        )
    }
}
