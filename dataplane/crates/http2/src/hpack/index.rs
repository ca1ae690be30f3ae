//! The sender's table, with what finds a field in it again: chains by hash, and the newest entry of each name.

use std::hash::Hasher;

use rustc_hash::FxHasher;

use super::table::{Entry, Name, Table};
use crate::headers::{STATIC_NAMES, TOKENS, Token};

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
    /// The number of the newest entry of each known name that the static table lacks; empty until there is one.
    names: Vec<u32>,
    seen: [u32; SEEN],
}

/// What is remembered of an entry.
#[derive(Clone, Copy)]
struct Link {
    hash: u32,
    /// The number of the next older entry of the chain. Where that is evicted, so are all behind it.
    older: u32,
}

/// A field to be found, and its hash.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) token: Option<Token>,
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    hash: u32,
}

// === impl Key ===

impl<'a> Key<'a> {
    #[inline]
    pub(super) fn new(token: Option<Token>, name: &'a [u8], value: &'a [u8]) -> Self {
        Self {
            token,
            name,
            value,
            hash: hash(token, name, value),
        }
    }
}

/// The hash of a name and a value. It needs no secret: who makes values collide lengthens one chain of his own
/// connection's table, to 128 entries at most.
#[inline]
fn hash(token: Option<Token>, name: &[u8], value: &[u8]) -> u32 {
    let mut hasher = FxHasher::default();
    match token {
        Some(token) => hasher.write_usize(token.place()),
        None => hasher.write(name),
    }
    hasher.write(value);
    // The number and its upper half, as FxHasher's mixing leaves the low bits weak.
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
            names: Vec::new(),
            seen: [0; SEEN],
        }
    }

    pub(super) fn max_size(&self) -> usize {
        self.table.max_size()
    }

    pub(super) fn set_max_size(&mut self, max_size: usize) {
        self.table.set_max_size(max_size);
    }

    /// Bytes of memory on the heap.
    pub(super) fn memory(&self) -> usize {
        self.table.memory() + (self.chains.capacity() + self.names.capacity()) * size_of::<u32>()
    }

    /// The number of entries that are newer than the field's.
    #[inline]
    pub(super) fn find(&self, key: &Key<'_>) -> Option<usize> {
        let mut number = *self.chains.get(key.hash as usize % CHAINS)?;
        let mut younger = None;
        loop {
            let age = self.newest.wrapping_sub(number) as usize;
            // Ages grow along a chain; where numbers have wrapped, one could also lead back.
            if younger >= Some(age) {
                return None;
            }
            let (entry, value) = self.table.get(age)?;
            if entry.extra.hash == key.hash && value == key.value && is_name(entry, key) {
                return Some(age);
            }
            younger = Some(age);
            number = entry.extra.older;
        }
    }

    /// The number of entries that are newer than one with this name.
    pub(super) fn find_name(&self, token: Option<Token>, name: &[u8]) -> Option<usize> {
        let Some(token) = token else {
            let is_it = |entry: &Entry<Link>| match &entry.name {
                Name::Other(other) => **other == *name,
                Name::Known(_) => false,
            };
            return self.table.newest_first().position(is_it);
        };
        let place = token.place().checked_sub(STATIC_NAMES)?;
        let age = self.newest.wrapping_sub(*self.names.get(place)?) as usize;
        let (entry, _) = self.table.get(age)?;
        (entry.name.token() == Some(token)).then_some(age)
    }

    /// Put a field in. One larger than the table empties it.
    pub(super) fn insert(&mut self, key: &Key<'_>) {
        if self.chains.is_empty() {
            self.chains = vec![self.newest; CHAINS];
            self.names = vec![self.newest; TOKENS - STATIC_NAMES];
        }
        let number = self.newest.wrapping_add(1);
        let chain = &mut self.chains[key.hash as usize % CHAINS];
        let link = Link {
            hash: key.hash,
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
        let place = key
            .token
            .and_then(|token| token.place().checked_sub(STATIC_NAMES));
        if let Some(place) = place {
            self.names[place] = number;
        }
    }

    /// Whether the field was seen before, as far as a short memory tells; from now on it was.
    pub(super) fn was_seen(&mut self, key: &Key<'_>) -> bool {
        remember(&mut self.seen, key.hash)
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
