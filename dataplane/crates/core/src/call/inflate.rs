//! Messages that come compressed.

use std::io::{self, Read};

use crate::error::{Error, ErrorKind};
use crate::headers::Token;
use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};

/// What is inflated here, for the answer to callers that use something else.
pub const ACCEPTED: (Token, &str) = (Token::GRPC_ACCEPT_ENCODING, "identity,deflate,gzip");

/// Inflate a message that is marked as compressed, by the header that says how. gRPC's "deflate", as HTTP's, is the zlib
/// format.
pub fn inflate(
    (header, encoding): (Token, Option<&[u8]>),
    message: &[u8],
    limit: usize,
) -> Result<Bytes, Error> {
    let encoding = encoding.unwrap_or_default();
    let inflated = match encoding {
        b"gzip" => read(GzDecoder::new(message), limit),
        b"deflate" => read(ZlibDecoder::new(message), limit),
        other => return Err(unknown_encoding(header, other)),
    };
    let inflated = inflated.map_err(|error| {
        let encoding = String::from_utf8_lossy(encoding);
        let text = format!("what came with {header} {encoding:?} is not valid {encoding}: {error}");
        Error::new(ErrorKind::BadRequest, text)
    })?;
    if inflated.len() > limit {
        let text = format!("inflated it is over the limit of {limit} bytes (max_message_bytes)");
        return Err(Error::new(ErrorKind::MessageTooLarge, text));
    }
    Ok(inflated.into())
}

/// One byte more than allowed tells "too large" from "just fits".
fn read(decoder: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut inflated = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut inflated)?;
    Ok(inflated)
}

/// The error of a compressed message whose header names no compression that is known here.
pub fn unknown_encoding(header: Token, encoding: &[u8]) -> Error {
    if matches!(encoding, b"" | b"identity") {
        let text =
            format!("the message is marked as compressed, but {header} names no compression");
        return Error::new(ErrorKind::MissingEncoding, text);
    }
    let encoding = String::from_utf8_lossy(encoding);
    let text = format!("{header} {encoding:?} is not supported here, only gzip and deflate");
    Error::new(ErrorKind::UnsupportedEncoding, text)
}
