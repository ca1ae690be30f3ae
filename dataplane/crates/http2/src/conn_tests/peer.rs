//! What a peer sends.

use super::*;

pub fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = payload.len() as u32;
    Head {
        length,
        kind,
        flags,
        stream,
    }
    .write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// A block whose meaning does not depend on those before: literals that no table takes.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            match u8::try_from(text.len()) {
                Ok(length @ ..127) => bytes.push(length),
                _ => {
                    let mut rest = text.len() - 127;
                    bytes.push(127);
                    while rest >= 128 {
                        bytes.push(rest as u8 | 128);
                        rest >>= 7;
                    }
                    bytes.push(rest as u8);
                }
            }
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

pub fn head(stream: u32, fields: &[(&str, &str)], ends: bool) -> Vec<u8> {
    let end = if ends { END_STREAM } else { 0 };
    raw(kind::HEADERS, END_HEADERS | end, stream, &block(fields))
}

pub fn data(stream: u32, bytes: &[u8], ends: bool) -> Vec<u8> {
    let flags = if ends { END_STREAM } else { 0 };
    raw(kind::DATA, flags, stream, bytes)
}

pub fn padded(stream: u32, bytes: &[u8], padding: u8, ends: bool) -> Vec<u8> {
    let flags = if ends { END_STREAM } else { 0 } | PADDED;
    let zeros = vec![0; padding.into()];
    raw(
        kind::DATA,
        flags,
        stream,
        &[&[padding], bytes, &zeros].concat(),
    )
}

pub fn reset(stream: u32, code: Code) -> Vec<u8> {
    raw(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes())
}

pub fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    raw(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

pub fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write_settings(&mut bytes, entries);
    bytes
}

pub fn goaway(last: u32, code: Code) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write_goaway(&mut bytes, last, code);
    bytes
}
