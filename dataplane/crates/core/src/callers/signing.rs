//! Signed requests: HMAC-SHA256 over what is asked, the body's digest, the time and a nonce. docs/signing.md has the form.
//! [`replays`](super::replays) remembers what has come.

use std::sync::LazyLock;

use ring::{digest, hmac};

/// How far in the past a request may have been signed, and how far in the future, by a clock that is ahead of ours.
pub const PAST_S: u64 = 300;
pub const FUTURE_S: u64 = 30;
/// The first line of what is signed, so that no signature for anything else can be one for a request.
const PURPOSE: &str = "x-signature 1";

/// Stands in for a secret that there is not, so that an unknown id takes as long as a wrong secret.
static NOBODY: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &[]));

/// What is wrong with a signature, for the log. Callers are not told which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    Form,
    Mac,
    Time,
    Replayed,
    Body,
    /// There is no room to remember it; nothing is wrong with it.
    Full,
}

/// The header `x-signature`, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature<'h> {
    /// Of the secret.
    pub id: &'h str,
    /// When it was signed, seconds since 1970.
    pub time: u64,
    nonce: &'h str,
    /// Of the body, in hexadecimal.
    digest: &'h str,
    mac: [u8; 32],
}

/// What of a request is signed beside its body.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    pub verb: &'r str,
    /// As it was sent, with the query.
    pub path: &'r str,
    /// The metadata `x-model` and `x-model-version`; empty where there is none.
    pub model: &'r [u8],
    pub version: &'r [u8],
}

/// Compares a body with the digest that was signed, as it comes.
#[derive(Clone)]
pub struct SignedBody {
    wanted: [u8; 32],
    context: digest::Context,
}

// === impl Wrong ===

impl Wrong {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Form => "x-signature is not of the form id=,time=,nonce=,digest=,mac=",
            Self::Mac => "the signature is not that of the secret over this request",
            Self::Time => "it was signed more than 300 s ago, or in the future",
            Self::Replayed => "it has come before",
            Self::Body => "the body is not the one that was signed",
            Self::Full => "too many signed requests are remembered",
        }
    }
}

// === impl Signature ===

impl<'h> Signature<'h> {
    /// Read the header: five fields, in their order.
    ///
    /// # Errors
    /// `Form`.
    pub fn read(header: &'h [u8]) -> Result<Self, Wrong> {
        let text = std::str::from_utf8(header).map_err(|_| Wrong::Form)?;
        let mut parts = text.split(',');
        let mut field = |name: &str| {
            let part = parts.next()?.strip_prefix(name)?;
            part.strip_prefix('=')
        };
        let read = (|| {
            let id = field("id").filter(|it| is_word(it, 1..=128))?;
            let time = field("time").filter(|it| (1..=11).contains(&it.len()))?;
            let nonce = field("nonce").filter(|it| is_word(it, 16..=64))?;
            let digest = field("digest")?;
            bytes(digest)?;
            let mac = bytes(field("mac")?)?;
            let is_number = time.bytes().all(|byte| byte.is_ascii_digit());
            let is_number = is_number && !time.starts_with('0');
            Some(Self {
                id,
                time: time.parse().ok().filter(|_| is_number)?,
                nonce,
                digest,
                mac,
            })
        })();
        let read = read.ok_or(Wrong::Form)?;
        match parts.next() {
            None => Ok(read),
            Some(_) => Err(Wrong::Form),
        }
    }

    /// Whether it is that of a secret over what is asked, in constant time, and of these minutes. `now` is seconds since
    /// 1970; no secret is one that nobody has.
    ///
    /// # Errors
    /// `Mac`, `Time`.
    pub fn check(
        &self,
        secret: Option<&hmac::Key>,
        asked: &Asked<'_>,
        now: u64,
    ) -> Result<(), Wrong> {
        let is_right = hmac::verify(secret.unwrap_or(&NOBODY), &self.signed(asked), &self.mac);
        if is_right.is_err() || secret.is_none() {
            return Err(Wrong::Mac);
        }
        if self.time > now + FUTURE_S || self.time + PAST_S < now {
            return Err(Wrong::Time);
        }
        Ok(())
    }

    /// What tells the request from all others that are signed with the secret.
    pub fn fingerprint(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.mac;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// What the body must be.
    pub fn body(&self) -> SignedBody {
        SignedBody {
            // It was read before.
            wanted: bytes(self.digest).unwrap_or_default(),
            context: digest::Context::new(&digest::SHA256),
        }
    }

    /// The text that is signed; no part of it can hold the end of a line.
    fn signed(&self, asked: &Asked<'_>) -> Vec<u8> {
        let time = self.time.to_string();
        let lines = [
            PURPOSE.as_bytes(),
            asked.verb.as_bytes(),
            asked.path.as_bytes(),
            asked.model,
            asked.version,
            time.as_bytes(),
            self.nonce.as_bytes(),
            self.digest.as_bytes(),
        ];
        lines.join(&b'\n')
    }
}

fn is_word(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    length.contains(&text.len()) && text.bytes().all(allowed)
}

/// 32 bytes of 64 hexadecimal digits, the letters small: there is one way to write them.
fn bytes(text: &str) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; 32];
    for (byte, [high, low]) in out.iter_mut().zip(text.as_chunks::<2>().0) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}

// === impl SignedBody ===

impl SignedBody {
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// # Errors
    /// `Body`.
    pub fn finish(self) -> Result<(), Wrong> {
        let is_same = self.context.finish().as_ref() == self.wanted;
        is_same.then_some(()).ok_or(Wrong::Body)
    }
}

impl std::fmt::Debug for SignedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedBody").finish_non_exhaustive()
    }
}
