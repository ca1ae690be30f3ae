//! gRPC status codes and messages as HTTP/2 carries them.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header or trailer that carries the code.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The header or trailer that carries the percent-encoded message.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The seventeen gRPC codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// Each code at the index of its number: with its name and its number as a header value.
const CODES: [(Code, &str, &str); 17] = [
    (Code::Ok, "OK", "0"),
    (Code::Cancelled, "CANCELLED", "1"),
    (Code::Unknown, "UNKNOWN", "2"),
    (Code::InvalidArgument, "INVALID_ARGUMENT", "3"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "4"),
    (Code::NotFound, "NOT_FOUND", "5"),
    (Code::AlreadyExists, "ALREADY_EXISTS", "6"),
    (Code::PermissionDenied, "PERMISSION_DENIED", "7"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED", "8"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION", "9"),
    (Code::Aborted, "ABORTED", "10"),
    (Code::OutOfRange, "OUT_OF_RANGE", "11"),
    (Code::Unimplemented, "UNIMPLEMENTED", "12"),
    (Code::Internal, "INTERNAL", "13"),
    (Code::Unavailable, "UNAVAILABLE", "14"),
    (Code::DataLoss, "DATA_LOSS", "15"),
    (Code::Unauthenticated, "UNAUTHENTICATED", "16"),
];

impl Code {
    /// Every code in the order of its number.
    pub fn all() -> impl Iterator<Item = Self> {
        CODES.iter().map(|row| row.0)
    }

    /// The code with this number; `None` above 16.
    pub fn from_u8(number: u8) -> Option<Self> {
        CODES.get(usize::from(number)).map(|row| row.0)
    }

    /// The name as configuration, metrics and logs spell it, e.g. `NOT_FOUND`.
    pub fn name(self) -> &'static str {
        CODES[self as usize].1
    }

    /// The code with this name; `None` for anything else, other case included.
    pub fn from_name(name: &str) -> Option<Self> {
        CODES.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The code of an answer that has this HTTP status, other than 200, and no `grpc-status`.
    ///
    /// Source: grpc/grpc, doc/http-grpc-status-mapping.md.
    pub fn from_http(status: u16) -> Self {
        match status {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// The value of `grpc-status`.
    pub fn header_value(self) -> HeaderValue {
        HeaderValue::from_static(CODES[self as usize].2)
    }
}

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

/// Return the decoded `grpc-message`; empty when there is none.
pub fn parse_grpc_message(headers: &HeaderMap) -> Cow<'_, str> {
    match headers.get(&GRPC_MESSAGE) {
        Some(value) => decode_message(value.as_bytes()),
        None => Cow::Borrowed(""),
    }
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

/// Decode `grpc-message`. As gRPC asks, nothing is refused: an escape that is none stays as it is, and
/// bytes that are not UTF-8 become U+FFFD.
pub fn decode_message(encoded: &[u8]) -> Cow<'_, str> {
    if !encoded.contains(&b'%') {
        return String::from_utf8_lossy(encoded);
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&byte, tail)) = rest.split_first() {
        match tail {
            [high, low, after @ ..] if byte == b'%' => {
                if let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low)) {
                    decoded.push(high << 4 | low);
                    rest = after;
                    continue;
                }
                decoded.push(byte);
            }
            _ => decoded.push(byte),
        }
        rest = tail;
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn hex_digit(byte: u8) -> Option<u8> {
    // to_digit(16) is at most 15.
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
