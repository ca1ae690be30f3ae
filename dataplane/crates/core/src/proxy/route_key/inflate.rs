//! The beginning of a compressed message, or all of it, inflated to look for the route key; the original bytes go on.

use std::io::{self, Write};

use flate2::write::{GzDecoder, ZlibDecoder};

use super::bad;
use crate::call::inflate::unknown_encoding;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::GRPC_ENCODING;

/// How much of a message is inflated at most, whatever it would inflate to.
pub const INFLATE_LIMIT: usize = 64 * 1024;

/// Inflates a message as its chunks come: its first [`INFLATE_LIMIT`] bytes, or all of it.
#[derive(Debug)]
pub struct Inflater {
    decoder: Decoder,
    /// Bytes handed out already, of a beginning.
    taken: usize,
    /// How much a message that is read whole may have.
    whole: Option<usize>,
}

#[derive(Debug)]
enum Decoder {
    /// `grpc-encoding: gzip`.
    Gzip(GzDecoder<Head>),
    /// `grpc-encoding: deflate`, which is zlib's format (RFC 1950).
    Deflate(ZlibDecoder<Head>),
}

impl Inflater {
    /// Start before the first byte; `encoding` is the call's `grpc-encoding`, `whole` the most that is read of all of it.
    ///
    /// Errors: unsupported_encoding for one that is not known here (the endpoint may know it), missing_encoding where
    /// there is none.
    pub fn new(encoding: Option<&[u8]>, whole: Option<usize>) -> Result<Self, Error> {
        // Of a message that is too long one byte more comes out.
        let room = whole.map_or(INFLATE_LIMIT, |most| most + 1);
        let decoder = match encoding {
            Some(b"gzip") => Decoder::Gzip(GzDecoder::new(Head::new(room))),
            Some(b"deflate") => Decoder::Deflate(ZlibDecoder::new(Head::new(room))),
            None | Some(b"" | b"identity") => return Err(unknown_encoding(GRPC_ENCODING, b"")),
            Some(other) => {
                let other = String::from_utf8_lossy(other).into_owned();
                let text = if whole.is_some() {
                    format!(
                        "a message with grpc-encoding {other:?} cannot be read (gzip and deflate can), and who may call \
                         which model depends on what is in it; use one of these, or none"
                    )
                } else {
                    format!(
                        "no route key can be read from a message with grpc-encoding {other:?} (gzip and deflate can); send the model in x-model, and a version in x-model-version"
                    )
                };
                return Err(Error::new(ErrorKind::UnsupportedEncoding, text));
            }
        };
        Ok(Self {
            decoder,
            taken: 0,
            whole,
        })
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

    /// Whether the message is read whole, by [`step`](Self::step).
    pub fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// Take some of the next bytes of the message; return what comes out, at most some 64 KiB, whatever the message
    /// inflates to. What is still held back comes out for none.
    ///
    /// Errors: bad_route_key when the bytes are not of the encoding, when there are more behind its end (which another
    /// reader may take for more of the message), or when too many come out.
    pub fn step(&mut self, chunk: &mut &[u8]) -> Result<Vec<u8>, Error> {
        let stepped = match &mut self.decoder {
            Decoder::Gzip(decoder) => step(decoder, chunk),
            Decoder::Deflate(decoder) => step(decoder, chunk),
        };
        let head = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Deflate(decoder) => decoder.get_mut(),
        };
        if head.is_full() {
            let most = self.whole.unwrap_or_default();
            return Err(bad(format!(
                "the compressed message inflates to more than {most} bytes (max_message_bytes); send less"
            )));
        }
        stepped.map_err(|error| {
            bad(format!(
                "the compressed message cannot be inflated: {error}"
            ))
        })?;
        Ok(std::mem::take(&mut head.bytes))
    }

    /// Whether the limit is reached: nothing more comes out.
    pub fn is_full(&self) -> bool {
        self.taken == INFLATE_LIMIT
    }
}

/// Let a decoder take some bytes, or give what it holds back where there are none.
fn step(decoder: &mut impl Write, chunk: &mut &[u8]) -> io::Result<()> {
    if chunk.is_empty() {
        return decoder.flush();
    }
    match decoder.write(chunk)? {
        0 => Err(io::Error::other("bytes follow its end")),
        taken => {
            *chunk = &chunk[taken..];
            Ok(())
        }
    }
}

/// Keeps so many bytes written, then stops the decoder with an error: a small message can inflate to gigabytes.
#[derive(Debug)]
struct Head {
    bytes: Vec<u8>,
    room: usize,
}

impl Head {
    fn new(room: usize) -> Self {
        let bytes = Vec::new();
        Self { bytes, room }
    }

    fn is_full(&self) -> bool {
        self.room == 0
    }
}

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 && !bytes.is_empty() {
            return Err(io::Error::other("the limit is reached"));
        }
        let taken = self.room.min(bytes.len());
        self.room -= taken;
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
