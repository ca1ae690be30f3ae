//! From Huffman's code to bytes, up to two in a step.

use super::{Code, EOS_LENGTH, LENGTHS, LONGEST, SHORTEST, codes};
use crate::hpack::Malformed;

/// Bits that are looked up at once. With 12, two letters or digits take one look, in 16 KiB of which few are used often.
const LOOK: u32 = 12;

/// What the next bits mean: one or two bytes, or the begin of a longer code, which is 0. From the low bits: the bytes (16),
/// how many they are (8), the bits of the first's code (4), the bits of all (4).
#[derive(Clone, Copy)]
struct Step(u32);

static STEPS: [Step; 1 << LOOK] = steps();

// === impl Step ===

impl Step {
    const LONG: Self = Self(0);

    const fn new(bytes: [u8; 2], count: u32, first: u32, all: u32) -> Self {
        Self(u16::from_le_bytes(bytes) as u32 | count << 16 | first << 24 | all << 28)
    }

    #[inline]
    const fn bytes(self) -> [u8; 2] {
        (self.0 as u16).to_le_bytes()
    }

    #[inline]
    const fn count(self) -> usize {
        (self.0 >> 16) as u8 as usize
    }

    /// Bits of the first byte's code.
    #[inline]
    const fn first(self) -> u32 {
        self.0 >> 24 & 0xf
    }

    /// Bits of the codes of all its bytes.
    #[inline]
    const fn all(self) -> u32 {
        self.0 >> 28
    }
}

const fn steps() -> [Step; 1 << LOOK] {
    let codes = codes();
    // First one byte a step, then what that leaves of the bits is looked up in the same table.
    let mut single = [(0_u8, 0_u32); 1 << LOOK];
    let mut symbol = 0;
    while symbol < 256 {
        let Code { bits, length } = codes[symbol];
        if length <= LOOK {
            let spare = LOOK - length;
            let mut rest = 0;
            while rest < 1 << spare {
                single[(bits << spare | rest) as usize] = (symbol as u8, length);
                rest += 1;
            }
        }
        symbol += 1;
    }
    let mut steps = [Step::LONG; 1 << LOOK];
    let mut look = 0;
    while look < steps.len() {
        let (byte, length) = single[look];
        if length > 0 {
            let (second, more) = single[(look << length) & (steps.len() - 1)];
            steps[look] = if more > 0 && length + more <= LOOK {
                Step::new([byte, second], 2, length, length + more)
            } else {
                Step::new([byte, 0], 1, length, length)
            };
        }
        look += 1;
    }
    steps
}

/// The bytes in the order of their codes, for codes that are longer than the look.
static ORDERED: [u8; 256] = ordered();

const fn ordered() -> [u8; 256] {
    let mut ordered = [0; 256];
    let (mut place, mut length) = (0, SHORTEST);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                ordered[place] = symbol as u8;
                place += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    ordered
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Run {
    first: u32,
    count: u32,
    /// The place of the first in [`ORDERED`].
    place: u32,
}

static RUNS: [Run; LONGEST + 1] = runs();

const fn runs() -> [Run; LONGEST + 1] {
    let mut runs = [Run {
        first: 0,
        count: 0,
        place: 0,
    }; LONGEST + 1];
    let (mut next, mut place, mut length) = (0, 0, SHORTEST);
    while length <= LONGEST {
        let mut count = 0;
        let mut symbol = 0;
        while symbol < 256 {
            count += (LENGTHS[symbol] as usize == length) as u32;
            symbol += 1;
        }
        runs[length] = Run {
            first: next,
            count,
            place,
        };
        next = (next + count) << 1;
        place += count;
        length += 1;
    }
    runs
}

/// The most bytes that a string of `length` can become: no code is shorter than five bits.
pub(in crate::hpack) const fn most_decoded(length: usize) -> usize {
    length * 8 / SHORTEST
}

/// Append what a string means to `out`.
///
/// Errors: the padding is not up to seven bits of EOS, or EOS occurs (RFC 7541 section 5.2).
pub(in crate::hpack) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    decode_up_to(text, most_decoded(text.len()), out)
}

/// As [`decode`], for a string that is known to become no more than `most` bytes.
pub(in crate::hpack) fn decode_up_to(
    text: &[u8],
    most: usize,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let begin = out.len();
    // A step writes two bytes, also where only one counts.
    out.resize(begin + most + 2, 0);
    let room = &mut out[begin..];
    let mut length = 0;
    let result = read(text, |bytes, count| {
        room[length..][..2].copy_from_slice(&bytes);
        length += count;
    });
    out.truncate(begin + length);
    result
}

/// The number of bytes that a string becomes, or that it is malformed, without any memory.
pub(in crate::hpack) fn decoded_length(text: &[u8]) -> Result<usize, Malformed> {
    let mut length = 0;
    read(text, |_, count| length += count)?;
    Ok(length)
}

#[inline]
fn read(text: &[u8], mut put: impl FnMut([u8; 2], usize)) -> Result<(), Malformed> {
    // The next bits of the text, the first on the left, and how many there are.
    let (mut bits, mut have) = (0_u64, 0_u32);
    let mut words = text.chunks_exact(4);
    for word in words.by_ref() {
        let word = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        bits |= u64::from(word) << (32 - have);
        have += 32;
        while have >= LONGEST as u32 {
            let step = STEPS[(bits >> (64 - LOOK)) as usize];
            let mut length = step.all();
            if length == 0 {
                let byte;
                (byte, length) = long(bits, have)?.ok_or(Malformed)?;
                put([byte, 0], 1);
            } else {
                put(step.bytes(), step.count());
            }
            bits <<= length;
            have -= length;
        }
    }
    for &byte in words.remainder() {
        bits |= u64::from(byte) << (56 - have);
        have += 8;
    }
    read_end(bits, have, put)
}

/// The last bits: a code counts only where all of it is there.
#[inline]
fn read_end(
    mut bits: u64,
    mut have: u32,
    mut put: impl FnMut([u8; 2], usize),
) -> Result<(), Malformed> {
    loop {
        let step = STEPS[(bits >> (64 - LOOK)) as usize];
        let mut length = step.all();
        if length == 0 {
            let Some((byte, long)) = long(bits, have)? else {
                break;
            };
            put([byte, 0], 1);
            length = long;
        } else if length <= have {
            put(step.bytes(), step.count());
        } else if step.first() <= have {
            length = step.first();
            put(step.bytes(), 1);
        } else {
            break;
        }
        bits <<= length;
        have -= length;
    }
    // Up to seven bits may be left, all ones.
    let is_padding = have < 8 && (!bits).checked_shr(64 - have).unwrap_or(0) == 0;
    is_padding.then_some(()).ok_or(Malformed)
}

/// A code that is longer than the look, and its length; none where `have` bits are too few for one.
#[cold]
fn long(bits: u64, have: u32) -> Result<Option<(u8, u32)>, Malformed> {
    for (length, run) in RUNS.iter().enumerate().skip(LOOK as usize + 1) {
        if length > have as usize {
            return Ok(None);
        }
        let place = (bits >> (64 - length)) as u32 - run.first;
        if place < run.count {
            return Ok(Some((ORDERED[(run.place + place) as usize], length as u32)));
        }
    }
    debug_assert_eq!(bits >> (64 - EOS_LENGTH), (1 << EOS_LENGTH) - 1);
    Err(Malformed)
}
