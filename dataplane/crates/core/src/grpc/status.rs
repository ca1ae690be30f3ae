//! The status that a call ends with, and how headers and trailers carry it.

use std::borrow::Cow;

use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::headers::{Headers, Token};

/// The header or trailer that carries the code.
pub const GRPC_STATUS: Token = Token::GRPC_STATUS;
/// The header or trailer that carries the percent-encoded message.
pub const GRPC_MESSAGE: Token = Token::GRPC_MESSAGE;

/// A status other than OK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    /// Empty for the fixed text with the request id, which an INTERNAL gets.
    pub message: Cow<'static, str>,
    /// Goes into the trailer `access-error`; none where the code is the answer, as NOT_FOUND is of a health check.
    pub kind: Option<ErrorKind>,
    /// A model's own number of the error: the trailer `access-error-number`.
    pub number: Option<i32>,
}

/// Return the code in `grpc-status`.
///
/// `None` when there is none or it is not a number: both are a bad answer of the endpoint. A number that
/// gRPC does not define counts as UNKNOWN, as gRPC's own clients read it.
pub fn parse_grpc_status(headers: &Headers) -> Option<Code> {
    let digits = headers.get(GRPC_STATUS)?;
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
pub fn encode_message(message: &str) -> Cow<'_, str> {
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b'%';
    if message.as_bytes().iter().all(is_plain) {
        return Cow::Borrowed(message);
    }
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(2 * message.len());
    for &byte in message.as_bytes() {
        if is_plain(&byte) {
            encoded.push(char::from(byte));
        } else {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            encoded.extend(['%', char::from(HEX[high]), char::from(HEX[low])]);
        }
    }
    Cow::Owned(encoded)
}

/// Decode `grpc-message`; what is no escape stays as it is, as gRPC asks for.
pub fn decode_message(encoded: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let escaped = digits.and_then(|it| u8::from_str_radix(it, 16).ok());
        (rest, _) = match escaped.filter(|_| *first == b'%') {
            Some(byte) => (&tail[2..], decoded.push(byte)),
            None => (tail, decoded.push(*first)),
        };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// grpc-status and, unless it is empty, grpc-message.
pub fn headers(code: Code, message: &str) -> Headers {
    let mut headers = Headers::roomy();
    headers.push(GRPC_STATUS, code.digits());
    if !message.is_empty() {
        headers.push(GRPC_MESSAGE, encode_message(message).as_ref());
    }
    headers
}

// === impl Status ===

impl Status {
    /// A status that is an answer, not an error of this program's.
    pub fn answer(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            kind: None,
            number: None,
        }
    }

    /// An error with a code of its own: what a hook chose, named by number and word.
    ///
    /// # Errors
    /// Says that there is no such code, that it is OK, or that there is no such kind.
    pub fn named(
        code: u8,
        message: String,
        kind: &str,
        number: Option<i32>,
    ) -> Result<Self, String> {
        let code = match Code::from_u8(code) {
            None | Some(Code::Ok) => {
                return Err(format!("code {code} is not a gRPC error, 1 to 16"));
            }
            Some(code) => code,
        };
        let kind = ErrorKind::from_name(kind)
            .ok_or_else(|| format!("{kind:?} is not a kind of the error table"))?;
        Ok(Self {
            code,
            message: message.into(),
            kind: Some(kind),
            number,
        })
    }

    /// The caller gave up, or is gone: nobody is left to tell.
    pub fn gone() -> Self {
        Error::new(ErrorKind::Cancelled, "the caller cancelled the call").into()
    }

    /// The deadline passed before there was an answer.
    pub fn late(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::DeadlineExceeded, message).into()
    }

    /// A fault of this program.
    pub fn internal() -> Self {
        Error::new(ErrorKind::Internal, "").into()
    }

    pub fn is_gone(&self) -> bool {
        self.kind == Some(ErrorKind::Cancelled)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self {
            code: error.kind.code(),
            message: error.message,
            kind: Some(error.kind),
            number: None,
        }
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
