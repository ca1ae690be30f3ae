//! The request messages of a local call: whole, decompressed, at most a given size each.

use std::io::Read;

use bytes::{Buf, Bytes, BytesMut};
use flate2::read::{GzDecoder, ZlibDecoder};
use h2::RecvStream;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::call::{Status, gone};
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::{Event, Frames};
use crate::grpc::status::Code;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// What [`Messages`] understands, for answers to callers that use something else.
pub const ACCEPTED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderValue::from_static("identity,deflate,gzip"),
);

/// Reads the messages of one request, however the body is cut into chunks.
#[derive(Debug)]
pub struct Messages {
    body: RecvStream,
    /// Value of `grpc-encoding`.
    encoding: Option<HeaderValue>,
    frames: Frames,
    max_message_bytes: usize,
    /// What is left of the last chunk.
    chunk: Bytes,
    message: BytesMut,
    is_compressed: bool,
}

// === impl Messages ===

impl Messages {
    pub fn new(headers: &HeaderMap, body: RecvStream, max_message_bytes: usize) -> Self {
        Self {
            body,
            encoding: headers.get(GRPC_ENCODING).cloned(),
            frames: Frames::new(max_message_bytes),
            max_message_bytes,
            chunk: Bytes::new(),
            message: BytesMut::new(),
            is_compressed: false,
        }
    }

    /// The next message; `None` when the caller has sent all. May be dropped and called again.
    ///
    /// Errors: bad_request, message_too_large, UNIMPLEMENTED for an unknown encoding, cancelled when the
    /// caller is gone.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take_from_chunk()? {
                return Ok(Some(message));
            }
            match self.body.data().await {
                Some(Ok(chunk)) => {
                    // What is held here is one chunk and one message, both bounded.
                    let released = self.body.flow_control().release_capacity(chunk.len());
                    released.map_err(|_| gone())?;
                    self.chunk = chunk;
                }
                Some(Err(_)) => return Err(gone()),
                None if self.frames.incomplete() => {
                    let text = "request ends within a message";
                    return Err(Error::new(ErrorKind::BadRequest, text).into());
                }
                None => return Ok(None),
            }
        }
    }

    /// The only message of a unary request.
    ///
    /// Errors: as [`next`](Self::next); bad_request when there is none.
    pub async fn only(&mut self) -> Result<Bytes, Status> {
        let message = self.next().await?;
        message.ok_or_else(|| Error::new(ErrorKind::BadRequest, "request has no message").into())
    }

    /// Walk over what is left of the chunk, up to the end of a message.
    fn take_from_chunk(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let mut rest: &[u8] = &self.chunk;
            let event = self.frames.next(&mut rest)?;
            let used = self.chunk.len() - rest.len();
            match event {
                Some(Event::Start { compressed, .. }) => self.is_compressed = compressed,
                Some(Event::Data(data)) => self.message.extend_from_slice(data),
                Some(Event::End) => {
                    self.chunk.advance(used);
                    let message = self.message.split().freeze();
                    return self.plain(message).map(Some);
                }
                None => {
                    self.chunk.clear();
                    return Ok(None);
                }
            }
            self.chunk.advance(used);
        }
    }

    fn plain(&self, message: Bytes) -> Result<Bytes, Status> {
        if !self.is_compressed {
            return Ok(message);
        }
        let encoding = self
            .encoding
            .as_ref()
            .map_or(&b""[..], HeaderValue::as_bytes);
        // A channel that compresses everything compresses its health checks as well.
        match encoding {
            b"gzip" => self.inflate(GzDecoder::new(message.as_ref())),
            b"deflate" => self.inflate(ZlibDecoder::new(message.as_ref())),
            b"" | b"identity" => {
                let text =
                    "message is marked as compressed, but grpc-encoding names no compression";
                Err(Error::new(ErrorKind::BadRequest, text).into())
            }
            other => {
                let other = String::from_utf8_lossy(other).into_owned();
                let text = format!(
                    "grpc-encoding {other} is not supported here; use gzip, deflate or identity"
                );
                Err(Status::new(Code::Unimplemented, text))
            }
        }
    }

    fn inflate(&self, decoder: impl Read) -> Result<Bytes, Status> {
        let mut plain = Vec::new();
        let limit = self.max_message_bytes;
        // One byte more than allowed tells "too large" from "just fits".
        let read = decoder.take(limit as u64 + 1).read_to_end(&mut plain);
        if read.is_err() {
            return Err(Error::new(ErrorKind::BadRequest, "message does not decompress").into());
        }
        if plain.len() > limit {
            let text = format!("message is over the limit of {limit} bytes once decompressed");
            return Err(Error::new(ErrorKind::MessageTooLarge, text).into());
        }
        Ok(plain.into())
    }
}
