//! What is to be written, in order: small frames in one buffer, and slices of larger bodies between them, for one gathered
//! write.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Bodies up to this size are copied: a slice of the write costs more.
const COPIED: usize = 2048;
/// Bytes written of the buffer before it is moved together, where it never runs empty.
const SLACK: usize = 64 * 1024;

/// Bytes that wait to be written.
#[derive(Debug, Default)]
pub struct Out {
    small: Vec<u8>,
    /// Bytes of `small` that are written.
    at: usize,
    parts: VecDeque<Part>,
    length: usize,
}

#[derive(Debug)]
enum Part {
    /// So many bytes of `small`, which are its next.
    Small(usize),
    Shared(Bytes),
}

// === impl Out ===

impl Out {
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn len(&self) -> usize {
        self.length
    }

    /// Append what `write` writes, and nothing else may be changed by it.
    pub fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.small.len();
        write(&mut self.small);
        let added = self.small.len() - before;
        self.length += added;
        match self.parts.back_mut() {
            Some(Part::Small(length)) => *length += added,
            _ => self.parts.push_back(Part::Small(added)),
        }
    }

    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED {
            return self.put(|small| small.extend_from_slice(&bytes));
        }
        self.length += bytes.len();
        self.parts.push_back(Part::Shared(bytes));
    }

    /// The next bytes, as many slices as there is room for; how many they are.
    pub fn slices<'a>(&'a self, room: &mut [IoSlice<'a>]) -> usize {
        let mut at = self.at;
        let mut count = 0;
        for (part, slot) in self.parts.iter().zip(room) {
            *slot = IoSlice::new(match part {
                Part::Small(length) => {
                    at += length;
                    &self.small[at - length..at]
                }
                Part::Shared(bytes) => bytes,
            });
            count += 1;
        }
        count
    }

    /// So many bytes are written.
    pub fn advance(&mut self, mut written: usize) {
        self.length -= written;
        while written > 0 {
            let Some(part) = self.parts.front_mut() else {
                debug_assert!(false, "more written than there was");
                return;
            };
            let left = match part {
                Part::Small(length) => {
                    let done = written.min(*length);
                    self.at += done;
                    *length -= done;
                    written -= done;
                    *length
                }
                Part::Shared(bytes) => {
                    let done = written.min(bytes.len());
                    bytes::Buf::advance(bytes, done);
                    written -= done;
                    bytes.len()
                }
            };
            if left == 0 {
                self.parts.pop_front();
            }
        }
        if self.at == self.small.len() {
            self.small.clear();
            self.at = 0;
        } else if self.at > SLACK {
            self.small.drain(..self.at);
            self.at = 0;
        }
    }

    /// Use a buffer, where none is in use.
    pub fn lend(&mut self, buffer: impl FnOnce() -> Vec<u8>) {
        if self.small.capacity() == 0 {
            self.small = buffer();
            self.small.clear();
        }
    }

    /// The buffer, where nothing waits in it: an idle connection needs none.
    pub fn give_back(&mut self) -> Option<Vec<u8>> {
        if self.length > 0 || self.small.capacity() == 0 {
            return None;
        }
        self.parts = VecDeque::new();
        Some(std::mem::take(&mut self.small))
    }
}

#[cfg(test)]
#[path = "out_tests.rs"]
mod tests;
