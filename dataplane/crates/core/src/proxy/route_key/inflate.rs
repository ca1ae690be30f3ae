//! The beginning of a compressed message, inflated to look for the route key; the original bytes go on.

use std::io::{self, Write};

use flate2::write::{GzDecoder, ZlibDecoder};
use http::HeaderValue;

use super::bad;
use crate::call::inflate::unknown_encoding;
use crate::error::Error;
use crate::grpc::metadata::GRPC_ENCODING;

/// How much of a message is inflated at most, whatever it would inflate to.
pub const INFLATE_LIMIT: usize = 64 * 1024;

/// Inflates the first [`INFLATE_LIMIT`] bytes of a message as its chunks come.
#[derive(Debug)]
pub struct Inflater {
    decoder: Decoder,
    /// Bytes handed out already.
    taken: usize,
}

#[derive(Debug)]
enum Decoder {
    /// `grpc-encoding: gzip`.
    Gzip(GzDecoder<Head>),
    /// `grpc-encoding: deflate`, which is zlib's format (RFC 1950).
    Deflate(ZlibDecoder<Head>),
}

impl Inflater {
    /// Start before the first byte; `encoding` is the call's `grpc-encoding`.
    ///
    /// Errors: bad_route_key for an encoding that is not known here (the endpoint may know it), missing_encoding where
    /// there is none.
    pub fn new(encoding: Option<&HeaderValue>) -> Result<Self, Error> {
        let decoder = match encoding.map(HeaderValue::as_bytes) {
            Some(b"gzip") => Decoder::Gzip(GzDecoder::new(Head::default())),
            Some(b"deflate") => Decoder::Deflate(ZlibDecoder::new(Head::default())),
            None | Some(b"" | b"identity") => return Err(unknown_encoding(&GRPC_ENCODING, b"")),
            Some(other) => {
                let other = String::from_utf8_lossy(other).into_owned();
                return Err(bad(format!(
                    "no route key can be read from a message with grpc-encoding {other:?} (gzip and deflate can); send the model in x-model, and a version in x-model-version"
                )));
            }
        };
        Ok(Self { decoder, taken: 0 })
    }

    /// Take the next bytes of the message; return what more of its beginning is known.
    ///
    /// Errors: bad_route_key when the bytes are not of the encoding.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<&[u8], Error> {
        let inflated = match &mut self.decoder {
            _ if self.taken == INFLATE_LIMIT => Ok(()),
            // A flush brings out what the decoder still holds back.
            Decoder::Gzip(decoder) => decoder.write_all(chunk).and_then(|()| decoder.flush()),
            Decoder::Deflate(decoder) => decoder.write_all(chunk).and_then(|()| decoder.flush()),
        };
        let head = match &self.decoder {
            Decoder::Gzip(decoder) => decoder.get_ref(),
            Decoder::Deflate(decoder) => decoder.get_ref(),
        };
        if let (Err(error), false) = (inflated, head.is_full()) {
            return Err(bad(format!(
                "the compressed message cannot be inflated: {error}"
            )));
        }
        let new = &head.bytes[self.taken..];
        self.taken = head.bytes.len();
        Ok(new)
    }

    /// Whether the limit is reached: nothing more comes out.
    pub fn is_full(&self) -> bool {
        self.taken == INFLATE_LIMIT
    }
}

/// Keeps the first [`INFLATE_LIMIT`] bytes written, then stops the decoder with an error: a small message
/// can inflate to gigabytes.
#[derive(Debug, Default)]
struct Head {
    bytes: Vec<u8>,
}

impl Head {
    fn is_full(&self) -> bool {
        self.bytes.len() == INFLATE_LIMIT
    }
}

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = INFLATE_LIMIT - self.bytes.len();
        if room == 0 && !bytes.is_empty() {
            return Err(io::Error::other("the limit is reached"));
        }
        let taken = room.min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
