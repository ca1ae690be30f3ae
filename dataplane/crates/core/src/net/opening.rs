//! What a connection opens with, before HTTP begins. A client that wants TLS gets an answer that it understands, and the
//! operator a count and a line in the log; the frames that HTTP/2 would answer it with tell neither of them anything.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

/// What a client of HTTP/2 sends first (RFC 9113#3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest name of an HTTP/1 method that is known as one; the registry's longest has 17 letters.
const MAX_METHOD: usize = 20;
/// One read. What a client of HTTP/2 sends at once at first is some 100 bytes.
const READ_BYTES: usize = 1024;
/// How long a caller may take to read its answer. Closing with bytes of it unread would reset the connection, and the
/// answer with it.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes that are read and thrown away meanwhile.
const LINGER_BYTES: u64 = 256 * 1024;
/// TLS record of the alert `handshake_failure`, fatal (RFC 8446#6), in the version that each client takes.
const TLS_ALERT: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x28];

/// First byte of a record of TLS that shakes hands.
pub const HANDSHAKE: u8 = 0x16;
/// What a caller without TLS gets at a port of TLS.
const PLAINTEXT: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 46\r\n\
connection: close\r\n\r\nthis port speaks TLS: call it with TLS, https\n";
/// SETTINGS, and a GOAWAY that says INADEQUATE_SECURITY (RFC 9113#7).
const INSECURE: [u8; 26] = [
    0, 0, 0, 4, 0, 0, 0, 0, 0, // SETTINGS
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, // GOAWAY
];

/// What the first bytes say of the caller's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    Http2,
    Http1,
    Tls,
    /// The caller went without a word.
    Silent,
    /// None of these; the engine answers it with what HTTP/2 asks for.
    Other,
}

/// Read into `seen` until it is clear what is spoken.
///
/// # Errors
/// The socket's error, and `TimedOut` where too little has come by `end`.
pub async fn read(
    io: &mut (impl AsyncRead + Unpin),
    seen: &mut Vec<u8>,
    end: Instant,
) -> io::Result<Opening> {
    loop {
        if let Some(opening) = judge(seen) {
            return Ok(opening);
        }
        let before = seen.len();
        if more(io, seen, end).await? == 0 {
            return Ok(if before == 0 {
                Opening::Silent
            } else {
                Opening::Other
            });
        }
    }
}

/// Tell a caller that wants TLS that there is none.
pub async fn answer_tls(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    part(io, &TLS_ALERT).await
}

/// Tell a caller without TLS that this port wants it.
pub async fn answer_plaintext(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    end: Instant,
) -> io::Result<()> {
    match read(io, &mut Vec::new(), end).await? {
        Opening::Http1 => part(io, PLAINTEXT).await,
        Opening::Http2 => part(io, &INSECURE).await,
        Opening::Tls | Opening::Silent | Opening::Other => Ok(()),
    }
}

/// `None` while more bytes could still make a difference.
fn judge(seen: &[u8]) -> Option<Opening> {
    match seen {
        [b'\r'] | [b'\r', b'\n'] => None,
        // RFC 9112#2.2: an empty line before a request of HTTP/1 says nothing.
        [b'\r', b'\n', rest @ ..] => match judge_word(rest)? {
            Opening::Http1 => Some(Opening::Http1),
            _ => Some(Opening::Other),
        },
        all => judge_word(all),
    }
}

fn judge_word(seen: &[u8]) -> Option<Opening> {
    let compared = seen.len().min(PREFACE.len());
    if seen[..compared] == PREFACE[..compared] {
        return (compared == PREFACE.len()).then_some(Opening::Http2);
    }
    // A handshake record of any version of TLS, the first byte of its version included.
    if seen[0] == HANDSHAKE {
        return match seen.get(1) {
            None => None,
            Some(0x03) => Some(Opening::Tls),
            Some(_) => Some(Opening::Other),
        };
    }
    let is_letter = |byte: &&u8| byte.is_ascii_uppercase() || **byte == b'-';
    let letters = seen.iter().take_while(is_letter).count();
    match seen.get(letters) {
        _ if letters > MAX_METHOD => Some(Opening::Other),
        None => None,
        // A broken preface is no request.
        Some(b' ') if letters > 0 && &seen[..letters] != b"PRI" => Some(Opening::Http1),
        Some(_) => Some(Opening::Other),
    }
}

/// Read once; 0 at the stream's end.
async fn more(
    io: &mut (impl AsyncRead + Unpin),
    seen: &mut Vec<u8>,
    end: Instant,
) -> io::Result<usize> {
    seen.reserve(READ_BYTES);
    let mut limited = io.take(READ_BYTES as u64);
    timeout_at(end, limited.read_buf(seen)).await?
}

/// Write the last word, and read until the caller closes, too.
async fn part(io: &mut (impl AsyncRead + AsyncWrite + Unpin), word: &[u8]) -> io::Result<()> {
    let parting = async {
        io.write_all(word).await?;
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    timeout(LINGER, parting).await?.map(drop)
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
