//! The one message of a unary request: read as it comes, within limits, and inflated where it is compressed.
//! The messages of a stream are read in stream.rs, within the same budget.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderName};
use tokio::time::{Instant, timeout_at};

use super::reply::Failure;
use crate::admin::metrics::ProcessStats;
use crate::config::Limits;
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::{Event, Frames};
use crate::grpc::status::Code;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Encodings that [`read`] inflates, as `grpc-accept-encoding` tells them.
pub(super) const ACCEPTED_ENCODINGS: &str = "identity,gzip,deflate";

/// A body that brings fewer bytes than this in `body_timeout_ms` is a stall (balancing.md 4.1, slow read).
const MIN_PROGRESS: usize = 16 * 1024;

/// Memory reserved on a caller's word for a message's length; what is beyond comes with the bytes.
const MAX_RESERVED: usize = 1 << 20;

/// Request bytes held in the process, against one limit.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    limit: usize,
    /// Where refusals are counted.
    stats: Arc<ProcessStats>,
}

/// One call's share of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

/// Why a message could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    Failed(Failure),
    /// The caller reset the call.
    Cancelled,
}

// === impl Budget ===

impl Budget {
    pub fn new(limit: usize, stats: Arc<ProcessStats>) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit,
            stats,
        })
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub fn hold(self: &Arc<Self>) -> Held {
        Held {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

impl Held {
    pub fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let used = self.budget.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Counted even when refused: dropping gives it back.
        self.bytes += bytes;
        if used > self.budget.limit {
            self.budget
                .stats
                .shed_held_bytes
                .fetch_add(1, Ordering::Relaxed);
            let text = "too many request bytes are held (max_held_bytes); try again later";
            return Err(Error::new(ErrorKind::Shed, text));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl<T: Into<Failure>> From<T> for ReadError {
    fn from(failure: T) -> Self {
        Self::Failed(failure.into())
    }
}

/// Joins the chunks of one message. A message that lies in one chunk is not copied.
struct Parts {
    frames: Frames,
    length: usize,
    is_compressed: bool,
    first: Bytes,
    joined: Vec<u8>,
}

impl Parts {
    fn take(&mut self, chunk: &Bytes) -> Result<(), Error> {
        let mut rest = &chunk[..];
        while let Some(event) = self.frames.next(&mut rest)? {
            match event {
                Event::Start { .. } if self.frames.messages() > 0 => {
                    return Err(bad("a unary call has one message, a second one came"));
                }
                Event::Start { compressed, length } => {
                    (self.is_compressed, self.length) = (compressed, length)
                }
                Event::Data(data) if self.first.is_empty() => self.first = chunk.slice_ref(data),
                Event::Data(data) => {
                    if self.joined.is_empty() {
                        self.joined.reserve(self.length.min(MAX_RESERVED));
                        self.joined.extend_from_slice(&self.first);
                    }
                    self.joined.extend_from_slice(data);
                }
                Event::End => {}
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(Bytes, bool), Error> {
        if self.frames.incomplete() {
            return Err(bad("the request ended inside its message"));
        }
        if self.frames.messages() == 0 {
            return Err(bad("the request has no message"));
        }
        let message = if self.joined.is_empty() {
            self.first
        } else {
            self.joined.into()
        };
        Ok((message, self.is_compressed))
    }
}

/// Read the message to the end of the request.
pub(super) async fn read(
    headers: &HeaderMap,
    body: &mut RecvStream,
    limits: &Limits,
    held: &mut Held,
    deadline: Instant,
) -> Result<Bytes, ReadError> {
    let frames = Frames::new(limits.max_message_bytes);
    let mut parts = Parts {
        frames,
        length: 0,
        is_compressed: false,
        first: Bytes::new(),
        joined: Vec::new(),
    };
    let stall = Duration::from_millis(limits.body_timeout_ms);
    let (mut stalled_at, mut progress) = (Instant::now() + stall, 0);
    loop {
        let Ok(chunk) = timeout_at(deadline.min(stalled_at), body.data()).await else {
            let text = "the request's message did not come in time";
            return Err(Error::new(ErrorKind::DeadlineExceeded, text).into());
        };
        match chunk {
            None => break,
            Some(Err(_)) => return Err(ReadError::Cancelled),
            Some(Ok(chunk)) => {
                // Fails only when the stream is gone, which the next read tells.
                let _ = body.flow_control().release_capacity(chunk.len());
                held.grow(chunk.len())?;
                parts.take(&chunk)?;
                progress += chunk.len();
                if progress >= MIN_PROGRESS {
                    (stalled_at, progress) = (Instant::now() + stall, 0);
                }
            }
        }
    }
    let (message, is_compressed) = parts.finish()?;
    if !is_compressed {
        return Ok(message);
    }
    let message = inflate(headers, &message, limits.max_message_bytes)?;
    held.grow(message.len())?;
    Ok(message)
}

fn bad(message: &'static str) -> Error {
    Error::new(ErrorKind::BadRequest, message)
}

pub(super) fn inflate(headers: &HeaderMap, message: &[u8], limit: usize) -> Result<Bytes, Failure> {
    let encoding = headers
        .get(&GRPC_ENCODING)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("identity");
    let bound = limit as u64 + 1;
    let mut inflated = Vec::new();
    let outcome = match encoding {
        "gzip" => flate2::read::GzDecoder::new(message)
            .take(bound)
            .read_to_end(&mut inflated),
        // gRPC's "deflate" is the zlib format.
        "deflate" => flate2::read::ZlibDecoder::new(message)
            .take(bound)
            .read_to_end(&mut inflated),
        "identity" => {
            let text =
                "the message is marked as compressed, but grpc-encoding names no compression";
            return Err(Failure::new(
                Code::Internal,
                text,
                ErrorKind::BadRequest.name(),
            ));
        }
        other => {
            let text =
                format!("grpc-encoding {other:?} is not supported, only {ACCEPTED_ENCODINGS}");
            return Err(Failure::new(
                Code::Unimplemented,
                text,
                ErrorKind::BadRequest.name(),
            ));
        }
    };
    if let Err(error) = outcome {
        let text = format!("the message is not valid {encoding}: {error}");
        return Err(Error::new(ErrorKind::BadRequest, text).into());
    }
    if inflated.len() > limit {
        let text =
            format!("the inflated message is over the limit of {limit} bytes (max_message_bytes)");
        return Err(Error::new(ErrorKind::MessageTooLarge, text).into());
    }
    Ok(inflated.into())
}
