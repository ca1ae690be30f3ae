//! The sender's table, with what finds a field in it again: chains by hash, and the newest entry of each name.

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;

use std::hash::Hasher;

use rustc_hash::FxHasher;

use super::table::{Entry, Name, Table};
use crate::headers::{TOKENS, Token};

/// Chains of entries by hash: half as many as a table of 4,096 can hold entries.
const CHAINS: usize = 64;
/// Hashes of fields that were seen once.
const SEEN: usize = 32;

#[derive(Debug)]
pub(super) struct Index {
    table: Table<Link>,
    /// The number of the newest entry: how many had ever entered, which wraps.
    newest: u32,
    /// The number of the newest entry of each chain; empty until there is one.
    chains: Vec<u32>,
    /// The number of the entry of each known name that was used last; empty until there is one.
    latest: Vec<u32>,
    seen: [u32; SEEN],
}

/// What is remembered of an entry.
#[derive(Clone, Copy)]
struct Link {
    hash: u32,
    /// The number of the next older entry of the chain. Where that is evicted, so are all behind it.
    older: u32,
}

/// A field to be found.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) token: Option<Token>,
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
}

// === impl Key ===

impl Key<'_> {
    /// The hash of the name and the value. It needs no secret: who makes values collide lengthens one chain of his own
    /// connection's table, to 128 entries at most.
    pub(super) fn hash(&self) -> u32 {
        hash(self.token, self.name, self.value)
    }
}

fn hash(token: Option<Token>, name: &[u8], value: &[u8]) -> u32 {
    let mut hasher = FxHasher::default();
    match token {
        Some(token) => hasher.write_usize(token.place()),
        None => hasher.write(name),
    }
    hasher.write(value);
    let hash = hasher.finish();
    (hash ^ hash >> 32) as u32
}

// === impl Index ===

impl Index {
    pub(super) fn new(max_size: usize) -> Self {
        Self {
            table: Table::new(max_size),
            newest: 0,
            chains: Vec::new(),
            latest: Vec::new(),
            seen: [0; SEEN],
        }
    }

    pub(super) fn max_size(&self) -> usize {
        self.table.max_size()
    }

    pub(super) fn set_max_size(&mut self, max_size: usize) {
        self.table.set_max_size(max_size);
    }

    /// Names and values in the table, the newest first.
    #[cfg(test)]
    pub(super) fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.table.fields()
    }

    /// Bytes of memory on the heap.
    pub(super) fn memory(&self) -> usize {
        self.table.memory() + (self.chains.capacity() + self.latest.capacity()) * size_of::<u32>()
    }

    /// The entry of a known name that was used last: how many are newer, and its value. Most names have one value for long,
    /// and then it takes no hash to find it.
    #[inline]
    pub(super) fn latest(&self, token: Option<Token>) -> Option<(usize, &[u8])> {
        let number = *self.latest.get(token?.place())?;
        let age = self.newest.wrapping_sub(number) as usize;
        let (entry, value) = self.table.get(age)?;
        // Where numbers have wrapped, it could be another's.
        (entry.name.token() == token).then_some((age, value))
    }

    /// The entry of a field: how many are newer.
    pub(super) fn find(&mut self, key: &Key<'_>, hash: u32) -> Option<usize> {
        let mut number = *self.chains.get(hash as usize % CHAINS)?;
        let mut younger = None;
        loop {
            let age = self.newest.wrapping_sub(number) as usize;
            // Ages grow along a chain; where numbers have wrapped, one could also lead back.
            if younger >= Some(age) {
                return None;
            }
            let (entry, value) = self.table.get(age)?;
            if entry.extra.hash == hash && value == key.value && is_name(entry, key) {
                if let Some(token) = key.token {
                    self.latest[token.place()] = number;
                }
                return Some(age);
            }
            younger = Some(age);
            number = entry.extra.older;
        }
    }

    /// An entry of a name without a token: how many are newer.
    pub(super) fn find_name(&self, name: &[u8]) -> Option<usize> {
        let is_it = |entry: &Entry<Link>| match &entry.name {
            Name::Other(other) => **other == *name,
            Name::Known(_) => false,
        };
        self.table.newest_first().position(is_it)
    }

    /// Put a field in. One larger than the table empties it.
    pub(super) fn insert(&mut self, key: &Key<'_>, hash: u32) {
        if self.chains.is_empty() {
            self.chains = vec![self.newest; CHAINS];
            self.latest = vec![self.newest; TOKENS];
        }
        let number = self.newest.wrapping_add(1);
        let chain = &mut self.chains[hash as usize % CHAINS];
        let link = Link {
            hash,
            older: *chain,
        };
        if !self
            .table
            .insert(Name::new(key.token, key.name), key.value, link)
        {
            return;
        }
        self.newest = number;
        *chain = number;
        if let Some(token) = key.token {
            self.latest[token.place()] = number;
        }
    }

    /// Whether the field was seen before, as far as a short memory tells; from now on it was.
    pub(super) fn was_seen(&mut self, hash: u32) -> bool {
        remember(&mut self.seen, hash)
    }

    /// As [`Index::was_seen`], for the name alone.
    pub(super) fn was_name_seen(&mut self, key: &Key<'_>) -> bool {
        remember(&mut self.seen, hash(key.token, key.name, b"\0"))
    }
}

#[inline]
fn is_name(entry: &Entry<Link>, key: &Key<'_>) -> bool {
    match &entry.name {
        Name::Known(token) => key.token == Some(*token),
        Name::Other(name) => key.token.is_none() && **name == *key.name,
    }
}

fn remember(seen: &mut [u32; SEEN], hash: u32) -> bool {
    // Other bits than those that choose the chain.
    let slot = &mut seen[(hash >> 16) as usize % SEEN];
    let was_seen = *slot == hash;
    *slot = hash;
    was_seen
}
