//! From bytes to Huffman's code, four in a step.

use super::{CODES, LENGTHS};

/// The number of bytes that a string becomes when it is encoded.
#[inline]
pub(in crate::hpack) fn encoded_length(text: &[u8]) -> usize {
    let bits: usize = text
        .iter()
        .map(|&byte| LENGTHS[byte as usize] as usize)
        .sum();
    bits.div_ceil(8)
}

/// Append the code of a string, where that is shorter than the string. Returns whether it is; else nothing is appended.
pub(in crate::hpack) fn encode(text: &[u8], out: &mut Vec<u8>) -> bool {
    let begin = out.len();
    // The last word may reach three bytes beyond the end. One that does not fit is behind as many bytes as the text has.
    out.resize(begin + text.len() + 3, 0);
    let length = write(text, &mut out[begin..]).filter(|&length| length < text.len());
    out.truncate(begin + length.unwrap_or(0));
    length.is_some()
}

/// Write the code of a string. Returns its bytes, or nothing where there is no room for a word that it ends in.
fn write(text: &[u8], room: &mut [u8]) -> Option<usize> {
    let mut writer = Writer::default();
    let mut words = text.chunks_exact(4);
    for word in words.by_ref() {
        let [a, b, c, d] = [word[0], word[1], word[2], word[3]].map(|byte| CODES[byte as usize]);
        let length = a.length + b.length + c.length + d.length;
        if length <= 32 {
            // Four letters or digits; one look at what there is to write for all.
            let bits = (u64::from(a.bits) << b.length | u64::from(b.bits)) << c.length;
            let bits = (bits | u64::from(c.bits)) << d.length | u64::from(d.bits);
            writer.put(bits, length, room)?;
        } else {
            for code in [a, b, c, d] {
                writer.put(code.bits.into(), code.length, room)?;
            }
        }
    }
    for &byte in words.remainder() {
        let code = CODES[byte as usize];
        writer.put(code.bits.into(), code.length, room)?;
    }
    writer.end(room)
}

/// Bits that are written a word of 32 at a time.
#[derive(Default)]
struct Writer {
    /// In the low bits, below some that are written already.
    bits: u64,
    /// How many of them wait: fewer than 32.
    have: u32,
    at: usize,
}

// === impl Writer ===

impl Writer {
    /// Add up to 32 bits.
    #[inline]
    fn put(&mut self, bits: u64, length: u32, room: &mut [u8]) -> Option<()> {
        self.bits = self.bits << length | bits;
        self.have += length;
        if self.have >= 32 {
            self.have -= 32;
            self.word((self.bits >> self.have) as u32, room)?;
        }
        Some(())
    }

    /// Fill the last byte with EOS's first bits. Returns how many bytes there are.
    #[inline]
    fn end(mut self, room: &mut [u8]) -> Option<usize> {
        let length = self.at + self.have.div_ceil(8) as usize;
        if self.have > 0 {
            let last = (self.bits << (32 - self.have)) as u32 | u32::MAX >> self.have;
            self.word(last, room)?;
        }
        Some(length)
    }

    #[inline]
    fn word(&mut self, word: u32, room: &mut [u8]) -> Option<()> {
        let place = room.get_mut(self.at..)?.first_chunk_mut::<4>()?;
        *place = word.to_be_bytes();
        self.at += 4;
        Some(())
    }
}
