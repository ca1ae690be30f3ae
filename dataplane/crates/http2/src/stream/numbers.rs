//! From the numbers of streams to their slots.
//!
//! A table of open addresses: numbers that follow each other lie far apart, and a number that leaves leaves no mark, so that
//! streams may come and go for ever without the table being built anew.

#[cfg(test)]
#[path = "numbers_tests.rs"]
mod tests;

use super::Key;

/// Places of the smallest table: a power of two, as all are.
const LEAST: usize = 8;
/// Stream 0 is the connection's own, so its number marks a place that is free.
const FREE: Key = Key { slot: 0, id: 0 };

#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// At most half of it is used.
    places: Vec<Key>,
    len: usize,
}

// === impl Numbers ===

impl Numbers {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory on the heap.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.places.capacity() * size_of::<Key>()
    }

    pub fn find(&self, id: u32) -> Option<u32> {
        let at = self.place_of(id)?;
        Some(self.places[at].slot)
    }

    /// Add a stream whose number is not in, and not 0.
    pub fn insert(&mut self, key: Key) {
        if 2 * (self.len + 1) > self.places.len() {
            let larger = (2 * self.places.len()).max(LEAST);
            let before = std::mem::replace(&mut self.places, vec![FREE; larger]);
            for key in before.into_iter().filter(|it| *it != FREE) {
                self.put(key);
            }
        }
        self.put(key);
        self.len += 1;
    }

    pub fn remove(&mut self, id: u32) {
        let Some(mut hole) = self.place_of(id) else {
            return;
        };
        self.len -= 1;
        let mask = self.places.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let key = self.places[at];
            if key == FREE {
                self.places[hole] = FREE;
                return;
            }
            // It may move back where the hole is not before the place that it would like.
            let way = at.wrapping_sub(self.wish(key.id)) & mask;
            if way >= at.wrapping_sub(hole) & mask {
                self.places[hole] = key;
                hole = at;
            }
        }
    }

    fn put(&mut self, key: Key) {
        let mask = self.places.len() - 1;
        let mut at = self.wish(key.id);
        while self.places[at] != FREE {
            at = (at + 1) & mask;
        }
        self.places[at] = key;
    }

    #[inline]
    fn place_of(&self, id: u32) -> Option<usize> {
        if self.places.is_empty() || id == FREE.id {
            return None;
        }
        let mask = self.places.len() - 1;
        let mut at = self.wish(id);
        loop {
            match self.places[at].id {
                found if found == id => return Some(at),
                0 => return None,
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Where a number's search begins. It needs no secret: who makes numbers collide lengthens the searches of his own
    /// connection, to as many places as it may have streams.
    #[inline]
    fn wish(&self, id: u32) -> usize {
        // 2^32 / the golden ratio: Fibonacci hashing.
        let mixed = id.wrapping_mul(0x9E37_79B1);
        mixed as usize >> 8 & (self.places.len() - 1)
    }
}
