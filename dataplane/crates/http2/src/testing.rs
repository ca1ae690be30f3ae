//! What tests of this crate need, and those of others that look at its bytes: header lists, and all that is written.

use std::io::IoSlice;

use crate::headers::Headers;
use crate::out::Out;

/// A list of these fields.
#[must_use]
pub fn list(fields: &[(&str, &str)]) -> Headers {
    fields.iter().copied().collect()
}

/// All that waits to be written, as a socket takes it: several pieces at a time.
pub fn written(out: &mut Out) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = out.slices(&mut slices);
        let before = bytes.len();
        slices[..count]
            .iter()
            .for_each(|it| bytes.extend_from_slice(it));
        let length = bytes.len() - before;
        out.advance(length);
    }
    bytes
}
