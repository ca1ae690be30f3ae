//! The messages of one streamed answer of gRPC, one by one.

use bytes::{Buf, Bytes, BytesMut};

use crate::error::{Error, ErrorKind};
use crate::grpc::framing;
use crate::headers::Headers;
use crate::net::pipe::{Gone, Reading};
use crate::rest::grpc::caller::{broken_off, failed, unframed};
use crate::rest::web::reply::Failed;

/// A streamed answer that is being read.
#[derive(Debug)]
pub struct Streamed {
    reading: Reading,
    headers: Headers,
    /// What has come of messages that are not whole.
    rest: BytesMut,
    max_message_bytes: usize,
}

// === impl Streamed ===

impl Streamed {
    /// Wait for the head of the answer.
    pub async fn of(reading: Reading, max_message_bytes: usize) -> Result<Self, Failed> {
        let (_, headers) = reading.head().await.map_err(|Gone| broken_off())?;
        Ok(Self {
            reading,
            headers,
            rest: BytesMut::new(),
            max_message_bytes,
        })
    }

    /// The next message; none at the end.
    pub async fn message(&mut self) -> Result<Option<Bytes>, Failed> {
        loop {
            if let Some(length) = self.length()?
                && self.rest.len() >= framing::PREFIX + length
            {
                let framed = self.rest.split_to(framing::PREFIX + length).freeze();
                return Ok(Some(unframed(
                    &self.headers,
                    framed,
                    self.max_message_bytes,
                )?));
            }
            match self.reading.chunk().await {
                Some(chunk) => {
                    let chunk = chunk.map_err(|Gone| broken_off())?;
                    self.rest.extend_from_slice(&chunk);
                }
                None => return self.ended(),
            }
        }
    }

    /// Length of the next message, once its prefix is there.
    fn length(&self) -> Result<Option<usize>, Error> {
        if self.rest.len() < framing::PREFIX {
            return Ok(None);
        }
        let length = (&self.rest[1..framing::PREFIX]).get_u32() as usize;
        let limit = self.max_message_bytes;
        if length > limit {
            let text = format!(
                "a message of {length} bytes is over the limit of {limit} (max_message_bytes)"
            );
            return Err(Error::new(ErrorKind::BadUpstreamResponse, text));
        }
        Ok(Some(length))
    }

    fn ended(&self) -> Result<Option<Bytes>, Failed> {
        let trailers = self.reading.trailers();
        // An answer without a message has its status in the headers.
        match failed(trailers.as_ref().unwrap_or(&self.headers)) {
            Some(failed) => Err(failed),
            None if self.rest.is_empty() => Ok(None),
            None => Err(broken_off()),
        }
    }
}
