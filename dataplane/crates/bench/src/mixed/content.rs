//! What one call sends and nobody else: messages that every method's model is read from, filled with numbers that follow
//! from the call's own.

use bytes::{BufMut, Bytes, BytesMut};

/// Field 1 of `ModelInferRequest`, `model_name`: m.
const OIP_NAME: &[u8] = b"\x0a\x01m";
/// Field 1 of `PredictRequest`, `model_spec`, and its field 1, `name`: m.
const TFS_NAME: &[u8] = b"\x0a\x03\x0a\x01m";
/// Field 15, bytes, which no message has.
const FILLER: u8 = 0x7a;

/// A body that is sent in parts, one message each.
pub struct Body {
    /// Messages with their gRPC prefixes.
    pub parts: Vec<Bytes>,
    is_named: bool,
}

// === impl Body ===

impl Body {
    /// The body of a call: messages with this many bytes of content; one of none is empty.
    #[must_use]
    pub fn new(call: u64, is_stream: bool, sizes: &[usize]) -> Body {
        let name = if is_stream { OIP_NAME } else { TFS_NAME };
        let mut random = fastrand::Rng::with_seed(call);
        let parts = sizes.iter().map(|size| message(name, *size, &mut random));
        Body {
            parts: parts.collect(),
            is_named: sizes.first().is_some_and(|size| *size > 0),
        }
    }

    /// Whether the first message names the model; otherwise metadata has to.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn message(name: &[u8], size: usize, random: &mut fastrand::Rng) -> Bytes {
    let mut content = BytesMut::with_capacity(size + 32);
    if size > 0 {
        content.put_slice(name);
        content.put_u8(FILLER);
        let mut rest = size;
        while rest > 0x7f {
            content.put_u8((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        content.put_u8(rest as u8);
        let begin = content.len();
        content.resize(begin + size, 0);
        random.fill(&mut content[begin..]);
    }
    let mut framed = BytesMut::with_capacity(content.len() + 5);
    framed.put_u8(0);
    framed.put_u32(content.len() as u32);
    framed.put_slice(&content);
    framed.freeze()
}

/// Compares what comes with what must come, piece by piece.
pub struct Check<'a> {
    parts: &'a [Bytes],
    /// Of the first of `parts`.
    passed: usize,
    taken: usize,
}

// === impl Check ===

impl<'a> Check<'a> {
    #[must_use]
    pub fn new(body: &'a Body) -> Check<'a> {
        Check {
            parts: &body.parts,
            passed: 0,
            taken: 0,
        }
    }

    /// Take the next piece.
    ///
    /// # Errors
    /// Where it differs.
    pub fn take(&mut self, mut piece: &[u8]) -> Result<(), String> {
        while !piece.is_empty() {
            let Some((part, others)) = self.parts.split_first() else {
                return Err(format!("{} bytes more than all", piece.len()));
            };
            let expected = &part[self.passed..];
            let length = expected.len().min(piece.len());
            if piece[..length] != expected[..length] {
                let from = self.taken;
                return Err(format!("not what was asked, from byte {from} on"));
            }
            self.taken += length;
            self.passed += length;
            piece = &piece[length..];
            if self.passed == part.len() {
                (self.parts, self.passed) = (others, 0);
            }
        }
        Ok(())
    }

    /// Messages that have come whole, of so many.
    #[must_use]
    pub fn whole(&self, all: usize) -> usize {
        all - self.parts.len()
    }

    #[must_use]
    pub fn is_done(&self) -> bool {
        self.parts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_its_own_in_any_pieces_and_no_other_call_s() {
        let (one, other) = (
            Body::new(1, false, &[300, 0]),
            Body::new(2, false, &[300, 0]),
        );
        let bytes = one.parts.concat();
        let mut check = Check::new(&one);
        for piece in bytes.chunks(7) {
            assert_eq!(check.take(piece), Ok(()));
        }
        assert!(check.is_done());
        assert_eq!(check.whole(2), 2);
        assert_eq!(
            check.take(b"x"),
            Err("1 bytes more than all".to_owned()),
            "nothing comes after the end"
        );
        let wrong = Check::new(&other).take(&bytes);
        assert!(wrong.unwrap_err().contains("not what was asked"));
        let mut short = Check::new(&one);
        assert_eq!(short.take(&bytes[..bytes.len() - 1]), Ok(()));
        assert!(!short.is_done());
    }

    #[test]
    fn a_message_has_the_length_that_its_prefix_says() {
        for size in [0, 1, 127, 128, 100_000] {
            let body = Body::new(3, true, &[size]);
            let part = &body.parts[0];
            let length = u32::from_be_bytes([part[1], part[2], part[3], part[4]]);
            assert_eq!(length as usize + 5, part.len());
            assert_eq!(body.is_named(), size > 0);
        }
    }
}
