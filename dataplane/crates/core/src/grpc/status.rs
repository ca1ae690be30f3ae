//! gRPC status codes and messages as HTTP/2 carries them.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::code::Code;

/// The header or trailer that carries the code.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The header or trailer that carries the percent-encoded message.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Return the code in `grpc-status`.
///
/// `None` when there is none or it is not a number: both are a bad answer of the endpoint. A number that
/// gRPC does not define counts as UNKNOWN, as gRPC's own clients read it.
pub fn parse_grpc_status(headers: &HeaderMap) -> Option<Code> {
    let digits = headers.get(&GRPC_STATUS)?.as_bytes();
    if digits.is_empty() || digits.len() > 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    let known = u8::try_from(number).ok().and_then(Code::from_u8);
    Some(known.unwrap_or(Code::Unknown))
}

/// Percent-encode a message for `grpc-message`: everything outside printable ASCII, and `%` itself.
pub fn encode_message(message: &str) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Vec::with_capacity(message.len());
    for &byte in message.as_bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(byte);
        } else {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            encoded.extend_from_slice(&[b'%', HEX[high], HEX[low]]);
        }
    }
    // Only printable ASCII is in it, which every header value may hold.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(encoded))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// grpc-status and, unless it is empty, grpc-message.
pub fn headers(code: Code, message: &str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(GRPC_STATUS, code.header_value());
    if !message.is_empty() {
        headers.insert(GRPC_MESSAGE, encode_message(message));
    }
    headers
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
