//! The streams of a connection: their states, windows, and what waits to be sent.

mod numbers;

use crate::chunks::Chunks;
use crate::flow::{Receiving, Sending};
use crate::headers::Headers;
use numbers::Numbers;

/// A stream of a connection. It stays valid after the stream's end, and means nothing then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its place among the open streams, for what a user keeps beside them; used again after its end.
    pub slot: u32,
    /// Its number on the connection.
    pub id: u32,
}

/// How far a direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Its headers are still to come.
    Head,
    Body,
    Ended,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub key: Key,
    pub receiving: Part,
    /// Ended once the last frame is among what is to be written.
    pub sending: Part,
    pub in_window: Receiving,
    pub out_window: Sending,
    /// What the peer said its body would have, less what came of it.
    pub expected: Option<u64>,
    pub queue: Chunks,
    pub queued: usize,
    /// Size of the list that it began with.
    pub listed: usize,
    pub trailers: Option<Box<Headers>>,
    /// Nothing follows what is queued.
    pub ends: bool,
    /// It is among those that have something to send.
    pub is_scheduled: bool,
    /// Its user wants to be told when there is room.
    pub wants_room: bool,
    /// Its user wants no more of what comes.
    pub is_unwanted: bool,
}

/// Streams for which a connection without any keeps room.
const MOST_KEPT: usize = 4;

/// The open streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    slots: Vec<Option<Stream>>,
    free: Vec<u32>,
    numbers: Numbers,
    /// Of all streams.
    pub queued: usize,
    pub listed: usize,
}

// === impl Stream ===

impl Stream {
    pub fn is_closed(&self) -> bool {
        self.receiving == Part::Ended && self.sending == Part::Ended
    }

    /// Whether there is something that could be sent if the connection's window allows it.
    pub fn has_work(&self) -> bool {
        match self.queued {
            _ if self.sending != Part::Body => false,
            0 => self.ends,
            _ => self.out_window.available() > 0,
        }
    }
}

// === impl Streams ===

impl Streams {
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    pub fn insert(&mut self, id: u32, make: impl FnOnce(Key) -> Stream) -> Key {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        let key = Key { slot, id };
        let stream = Some(make(key));
        match self.slots.get_mut(slot as usize) {
            Some(place) => *place = stream,
            None => self.slots.push(stream),
        }
        self.numbers.insert(key);
        key
    }

    /// Bytes of memory on the heap.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Stream>>()
            + self.free.capacity() * size_of::<u32>()
            + self.numbers.memory()
    }

    pub fn find(&self, id: u32) -> Option<Key> {
        let slot = self.numbers.find(id)?;
        Some(Key { slot, id })
    }

    #[inline]
    pub fn get(&self, key: Key) -> Option<&Stream> {
        let stream = self.slots.get(key.slot as usize)?.as_ref()?;
        (stream.key == key).then_some(stream)
    }

    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Stream> {
        let stream = self.slots.get_mut(key.slot as usize)?.as_mut()?;
        (stream.key == key).then_some(stream)
    }

    /// End a stream. False where it has ended before.
    pub fn remove(&mut self, key: Key) -> bool {
        let Some(stream) = self.get(key) else {
            return false;
        };
        let (queued, listed) = (stream.queued, stream.listed);
        self.queued -= queued;
        self.listed -= listed;
        self.slots[key.slot as usize] = None;
        self.free.push(key.slot);
        self.numbers.remove(key.id);
        if self.numbers.len() == 0 && self.slots.len() > MOST_KEPT {
            // An idle connection keeps no room for many streams.
            *self = Self::default();
        }
        true
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().flatten()
    }

    pub fn keys(&self) -> Vec<Key> {
        self.slots.iter().flatten().map(|it| it.key).collect()
    }
}
