//! A queue of chunks of which most hold one at a time: that one needs no memory of the queue's.

use std::collections::VecDeque;

use bytes::Bytes;

#[derive(Debug, Default)]
pub struct Chunks {
    first: Option<Bytes>,
    /// None as long as one was enough; empty where there is no first one.
    #[expect(
        clippy::box_collection,
        reason = "most have none, and streams are moved"
    )]
    rest: Option<Box<VecDeque<Bytes>>>,
}

// === impl Chunks ===

impl Chunks {
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub fn len(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.len());
        usize::from(self.first.is_some()) + rest
    }

    /// The chunk that has so many before it.
    pub fn get(&self, place: usize) -> Option<&Bytes> {
        match place.checked_sub(1) {
            None => self.first.as_ref(),
            Some(place) => self.rest.as_ref()?.get(place),
        }
    }

    pub fn push(&mut self, chunk: Bytes) {
        if self.first.is_none() {
            self.first = Some(chunk);
        } else {
            self.rest.get_or_insert_default().push_back(chunk);
        }
    }

    pub fn pop(&mut self) -> Option<Bytes> {
        let chunk = self.first.take()?;
        self.first = self.rest.as_mut().and_then(|rest| rest.pop_front());
        Some(chunk)
    }

    /// The one that [`pop`](Self::pop) takes.
    pub fn first_mut(&mut self) -> Option<&mut Bytes> {
        self.first.as_mut()
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl From<VecDeque<Bytes>> for Chunks {
    fn from(mut chunks: VecDeque<Bytes>) -> Self {
        Self {
            first: chunks.pop_front(),
            rest: (!chunks.is_empty()).then(|| Box::new(chunks)),
        }
    }
}

impl From<Chunks> for VecDeque<Bytes> {
    fn from(Chunks { first, rest }: Chunks) -> Self {
        let mut chunks = rest.map_or_else(Self::new, |rest| *rest);
        if let Some(first) = first {
            chunks.push_front(first);
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_out_in_the_order_in_which_they_went_in() {
        let mut chunks = Chunks::default();
        let mut expected = VecDeque::new();
        // More go in than come out, and then the other way round.
        for step in 0..200_u8 {
            let chunk = Bytes::from(vec![step]);
            if step % 3 != u8::from(step < 100) {
                chunks.push(chunk.clone());
                expected.push_back(chunk);
            }
            if step % 2 == 0 || step > 100 {
                assert_eq!(chunks.first_mut().cloned(), expected.front().cloned());
                assert_eq!(chunks.pop(), expected.pop_front());
            }
            assert_eq!(chunks.is_empty(), expected.is_empty());
            assert_eq!(chunks.len(), expected.len());
            for place in 0..expected.len() + 2 {
                assert_eq!(chunks.get(place), expected.get(place));
            }
            if step % 7 == 0 {
                let all = VecDeque::from(chunks);
                assert_eq!(all, expected);
                chunks = all.into();
            }
        }
        chunks.push(Bytes::from_static(b"a"));
        chunks.push(Bytes::from_static(b"b"));
        chunks.clear();
        assert!(chunks.is_empty());
        assert_eq!(chunks.pop(), None);
    }
}
