//! Compressed bodies (RFC 9110#8.4): those of requests are inflated within a limit, answers are compressed where the
//! caller takes it. What takes long goes to a thread beside the worker, whose other calls go on meanwhile.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use tokio::task::spawn_blocking;

use crate::call::limit::Held;
use crate::error::{Error, ErrorKind};
use crate::headers::{Headers, Token, text};

/// The codings, for who asks for another one.
pub const ACCEPTED: &str = "gzip, deflate, zstd";

/// Bytes that are inflated or compressed at once on the worker's own thread: less than a millisecond of it.
const AT_ONCE: usize = 64 * 1024;
/// Smaller answers do not get smaller by enough.
const MIN_BYTES: usize = 1024;
/// The fastest of those that its authors count from 1.
const ZSTD_LEVEL: i32 = 1;
/// What a decoder of Zstandard must be able to look back, 8 MiB (RFC 9659#3): a frame that asks for more is refused.
const MAX_WINDOW_LOG: u32 = 23;

/// How bytes are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Zstd,
    Gzip,
    /// The format of zlib.
    Deflate,
}

/// A body on its way to what it was.
struct Inflating {
    coding: Coding,
    decoder: Box<dyn Read + Send>,
    inflated: Vec<u8>,
    held: Held,
    limit: usize,
}

// === impl Coding ===

impl Coding {
    /// From the one that is tried first where callers take all alike.
    const ALL: [Self; 3] = [Self::Zstd, Self::Gzip, Self::Deflate];

    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn named(self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.name())
            // The same by its old name (RFC 9110#8.4.1.3).
            || (self == Self::Gzip && name.eq_ignore_ascii_case("x-gzip"))
    }

    /// The coding of a request's body; none for one that is as it is.
    ///
    /// # Errors
    /// `unsupported_encoding`: another one, or several.
    pub fn of_body(headers: &Headers) -> Result<Option<Self>, Error> {
        let mut found = None;
        for name in elements(headers, Token::CONTENT_ENCODING) {
            if name.eq_ignore_ascii_case("identity") {
                continue;
            }
            let coding = Self::ALL.into_iter().find(|it| it.named(name));
            let is_first = found.is_none();
            found = coding;
            if found.is_none() || !is_first {
                let all = headers.get_all(Token::CONTENT_ENCODING);
                let all: Vec<_> = all.map(String::from_utf8_lossy).collect();
                let text = format!(
                    "content-encoding {:?} is not supported here, only one of gzip, deflate and zstd",
                    all.join(", ")
                );
                return Err(Error::new(ErrorKind::UnsupportedEncoding, text));
            }
        }
        Ok(found)
    }

    /// The coding that an answer may have, and that its caller wants most (RFC 9110#12.5.3).
    pub fn wanted(headers: &Headers) -> Option<Self> {
        let mut best: Option<(u16, Self)> = None;
        let weight_of = |is_it: &dyn Fn(&str) -> bool| {
            let mut elements = elements(headers, Token::ACCEPT_ENCODING);
            elements.find_map(|it| {
                let (name, weight) = it.split_once(';').unwrap_or((it, ""));
                is_it(name.trim()).then(|| thousandths(weight))
            })
        };
        let others = weight_of(&|name| name == "*").unwrap_or(0);
        let as_it_is = weight_of(&|name| name.eq_ignore_ascii_case("identity")).unwrap_or(0);
        for coding in Self::ALL {
            let weight = weight_of(&|name| coding.named(name)).unwrap_or(others);
            if weight > best.map_or(0, |(most, _)| most) && weight >= as_it_is {
                best = Some((weight, coding));
            }
        }
        best.map(|(_, coding)| coding)
    }

    fn decoder(self, body: Bytes) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(body.reader())),
            Self::Deflate => Box::new(ZlibDecoder::new(body.reader())),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(body.reader())?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }

    /// Inflate a body. `held` counts what comes of it.
    ///
    /// # Errors
    /// `bad_request`, `message_too_large`, `shed`.
    pub async fn inflate(
        self,
        body: Bytes,
        held: Held,
        limit: usize,
    ) -> Result<(Bytes, Held), Error> {
        let mut inflating = Inflating {
            coding: self,
            decoder: self.decoder(body).map_err(|error| self.invalid(&error))?,
            inflated: Vec::new(),
            held,
            limit,
        };
        if !inflating.go_on(AT_ONCE)? {
            // Not cancelled with its call: it ends with the limit.
            let rest = spawn_blocking(move || {
                inflating.go_on(usize::MAX)?;
                Ok(inflating)
            });
            inflating = rest.await.unwrap_or_else(|_| Err(broken()))?;
        }
        Ok((inflating.inflated.into(), inflating.held))
    }

    fn invalid(self, error: &io::Error) -> Error {
        let text = format!("the body is not valid {}: {error}", self.name());
        Error::new(ErrorKind::BadRequest, text)
    }

    /// Compress an answer; none where it would not get smaller.
    pub async fn compress(self, body: &Bytes) -> Option<Bytes> {
        if body.len() < MIN_BYTES {
            return None;
        }
        let compressed = if body.len() <= AT_ONCE {
            self.compressed(body)
        } else {
            let whole = body.clone();
            let compressing = spawn_blocking(move || self.compressed(&whole));
            compressing.await.ok()?
        };
        compressed
            .filter(|it| it.len() < body.len())
            .map(Bytes::from)
    }

    fn compressed(self, body: &[u8]) -> Option<Vec<u8>> {
        let room = Vec::with_capacity(body.len() / 2);
        let written = match self {
            Self::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(room, Compression::fast());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(room, Compression::fast());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
        };
        // Writing to memory does not fail.
        written.ok()
    }
}

/// Whether an answer is long enough that it may come compressed: then it depends on `accept-encoding`.
pub fn is_worth_it(body: &[u8]) -> bool {
    body.len() >= MIN_BYTES
}

fn broken() -> Error {
    Error::new(ErrorKind::Internal, "the body could not be inflated")
}

// === impl Inflating ===

impl Inflating {
    /// Inflate so many bytes more at most; whether that was all.
    fn go_on(&mut self, most: usize) -> Result<bool, Error> {
        let before = self.inflated.len();
        let mut piece = [0; 16 * 1024];
        while self.inflated.len() - before < most {
            let read = self.decoder.read(&mut piece);
            let read = read.map_err(|error| self.coding.invalid(&error))?;
            if read == 0 {
                return Ok(true);
            }
            if self.inflated.len() + read > self.limit {
                let text = format!(
                    "the inflated body is over the limit of {} bytes (max_message_bytes)",
                    self.limit
                );
                return Err(Error::new(ErrorKind::MessageTooLarge, text));
            }
            self.held.grow(read)?;
            self.inflated.extend_from_slice(&piece[..read]);
        }
        Ok(false)
    }
}

/// The elements of a field that is a list.
fn elements<'a>(headers: &'a Headers, name: Token) -> impl Iterator<Item = &'a str> + use<'a> {
    // What is no text names no coding.
    let values = headers.get_all(name).map(|it| text(it).unwrap_or("?"));
    let elements = values.flat_map(|it| it.split(','));
    elements.map(str::trim).filter(|it| !it.is_empty())
}

/// A weight, from 0 to 1000; what is no weight is none.
fn thousandths(parameter: &str) -> u16 {
    let Some((name, value)) = parameter.split_once('=') else {
        return 1000;
    };
    if !name.trim().eq_ignore_ascii_case("q") {
        return 1000;
    }
    let value: f32 = value.trim().parse().unwrap_or(0.0);
    (value.clamp(0.0, 1.0) * 1000.0) as u16
}

#[cfg(test)]
#[path = "coding_tests.rs"]
mod tests;
