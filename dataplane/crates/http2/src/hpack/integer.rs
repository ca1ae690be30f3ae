//! Integers with a prefix (RFC 7541 section 5.1).

#[cfg(test)]
#[path = "integer_tests.rs"]
mod tests;

use super::Malformed;

/// Bytes after the prefix that are read: five hold every 32-bit number, and no index, length or size is larger.
const MOST_BYTES: usize = 5;

/// Read an integer whose first byte keeps the number in its low `prefix` bits; `input` moves behind it.
///
/// Errors: it ends too early, or is beyond 32 bits.
#[inline]
pub(super) fn read(input: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let (&first, rest) = input.split_first().ok_or(Malformed)?;
    *input = rest;
    let full = (1_usize << prefix) - 1;
    let value = first as usize & full;
    if value < full {
        return Ok(value);
    }
    let (value, rest) = read_rest(rest, full as u64)?;
    *input = rest;
    Ok(value)
}

fn read_rest(input: &[u8], full: u64) -> Result<(usize, &[u8]), Malformed> {
    let mut value = full;
    for (place, &byte) in input.iter().take(MOST_BYTES).enumerate() {
        value += u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            let value = u32::try_from(value).map_err(|_| Malformed)?;
            return Ok((value as usize, &input[place + 1..]));
        }
    }
    Err(Malformed)
}

/// Write an integer; `pattern` is what the first byte has above the prefix.
#[inline]
pub(super) fn write(value: usize, prefix: u32, pattern: u8, out: &mut Vec<u8>) {
    let full = (1_usize << prefix) - 1;
    if value < full {
        out.push(pattern | value as u8);
    } else {
        write_rest(value - full, pattern | full as u8, out);
    }
}

fn write_rest(mut value: usize, first: u8, out: &mut Vec<u8>) {
    out.push(first);
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
