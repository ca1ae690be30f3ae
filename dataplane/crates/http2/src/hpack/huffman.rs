//! Huffman's code for header strings (RFC 7541 appendix B).
//!
//! The code is canonical: the codes of one length follow each other in the order of their symbols, and go on where those of
//! the length before ended. So the lengths say everything, and the tables are built from them by the compiler.

use super::Malformed;

/// Bits of the code of each byte.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6, //  !"#$%&'()*+,-./
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10, // 0123456789:;<=>?
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7, // @ABCDEFGHIJKLMNO
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6, // PQRSTUVWXYZ[\]^_
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5, // `abcdefghijklmno
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28, // pqrstuvwxyz{|}~
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// Bits of the code of EOS, which is all ones and must not occur.
const EOS_LENGTH: usize = 30;
const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// The code of a byte, in the low bits.
#[derive(Clone, Copy)]
pub(super) struct Code {
    pub(super) bits: u32,
    pub(super) length: u32,
}

pub(super) static CODES: [Code; 256] = codes();

const fn codes() -> [Code; 256] {
    let mut codes = [Code { bits: 0, length: 0 }; 256];
    let mut next = 0;
    let mut length = SHORTEST;
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                codes[symbol].bits = next;
                codes[symbol].length = length as u32;
                next += 1;
            }
            symbol += 1;
        }
        next <<= 1;
        length += 1;
    }
    codes
}

/// Bits that are looked up at once. With 11, most pairs of letters and digits take one look, in 8 KiB.
const LOOK: u32 = 11;

/// What the next bits mean: one or two bytes, or the begin of a longer code.
#[derive(Clone, Copy)]
struct Step {
    bytes: [u8; 2],
    /// Bits of the first's code; 0: the code is longer than the look.
    first: u8,
    /// Bits of all, above how many bytes there are.
    both: u8,
}

const COUNT_BITS: u8 = 2;
static STEPS: [Step; 1 << LOOK] = steps();

const fn steps() -> [Step; 1 << LOOK] {
    let codes = codes();
    // First one byte a step, then what that leaves of the bits is looked up in the same table.
    let mut single = [(0_u8, 0_u8); 1 << LOOK];
    let mut symbol = 0;
    while symbol < 256 {
        let Code { bits, length } = codes[symbol];
        if length <= LOOK {
            let spare = LOOK - length;
            let mut rest = 0;
            while rest < 1 << spare {
                single[(bits << spare | rest) as usize] = (symbol as u8, length as u8);
                rest += 1;
            }
        }
        symbol += 1;
    }
    let mut steps = [const {
        Step {
            bytes: [0; 2],
            first: 0,
            both: 0,
        }
    }; 1 << LOOK];
    let mut look = 0;
    while look < steps.len() {
        let (byte, length) = single[look];
        if length > 0 {
            let (second, more) = single[(look << length) & (steps.len() - 1)];
            let is_pair = more > 0 && length + more <= LOOK as u8;
            steps[look] = Step {
                bytes: [byte, if is_pair { second } else { 0 }],
                first: length,
                both: if is_pair {
                    (length + more) << COUNT_BITS | 2
                } else {
                    length << COUNT_BITS | 1
                },
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
pub(super) const fn most_decoded(length: usize) -> usize {
    length * 8 / SHORTEST
}

/// Append what a string means to `out`.
///
/// Errors: the padding is not up to seven bits of EOS, or EOS occurs (RFC 7541 section 5.2).
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    decode_up_to(text, most_decoded(text.len()), out)
}

/// As [`decode`], for a string that is known to become no more than `most` bytes.
pub(super) fn decode_up_to(text: &[u8], most: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let begin = out.len();
    // A step writes two bytes, also where only one counts.
    out.resize(begin + most + 2, 0);
    let room = &mut out[begin..];
    let mut length = 0;
    let result = read(text, |bytes, count| {
        room[length..length + 2].copy_from_slice(&bytes);
        length += count;
    });
    out.truncate(begin + length);
    result
}

/// The number of bytes that a string becomes, or that it is malformed, without any memory.
pub(super) fn decoded_length(text: &[u8]) -> Result<usize, Malformed> {
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
            let length = match step.first {
                0 => {
                    let (byte, length) = long(bits, have)?.ok_or(Malformed)?;
                    put([byte, 0], 1);
                    length
                }
                _ => {
                    put(step.bytes, (step.both & ((1 << COUNT_BITS) - 1)) as usize);
                    u32::from(step.both >> COUNT_BITS)
                }
            };
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
        let both = u32::from(step.both >> COUNT_BITS);
        let first = u32::from(step.first);
        let length = if first == 0 {
            let Some((byte, length)) = long(bits, have)? else {
                break;
            };
            put([byte, 0], 1);
            length
        } else if both <= have {
            put(step.bytes, (step.both & ((1 << COUNT_BITS) - 1)) as usize);
            both
        } else if first <= have {
            put(step.bytes, 1);
            first
        } else {
            break;
        };
        bits <<= length;
        have -= length;
    }
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

/// The number of bytes that a string becomes when it is encoded.
#[inline]
pub(super) fn encoded_length(text: &[u8]) -> usize {
    let bits: usize = text
        .iter()
        .map(|&byte| LENGTHS[byte as usize] as usize)
        .sum();
    bits.div_ceil(8)
}

/// Append the code of a string, which is `length` bytes ([`encoded_length`]).
pub(super) fn encode(text: &[u8], length: usize, out: &mut Vec<u8>) {
    let begin = out.len();
    // The last word may reach beyond the end.
    out.resize(begin + length + 4, 0);
    let room = &mut out[begin..];
    let (mut bits, mut have, mut at) = (0_u64, 0_u32, 0);
    for &byte in text {
        let code = CODES[byte as usize];
        bits = bits << code.length | u64::from(code.bits);
        have += code.length;
        if have >= 32 {
            have -= 32;
            room[at..at + 4].copy_from_slice(&((bits >> have) as u32).to_be_bytes());
            at += 4;
        }
    }
    if have > 0 {
        // The padding is EOS's first bits.
        let last = (bits << (32 - have)) as u32 | u32::MAX >> have;
        room[at..at + 4].copy_from_slice(&last.to_be_bytes());
    }
    out.truncate(begin + length);
}
