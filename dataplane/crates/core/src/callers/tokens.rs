//! Tokens of others: JWT (RFC 7519), signed with a key of their issuer's (JWKS, RFC 7517). RS256, ES256 and EdDSA alone:
//! no secret is shared with an issuer, and a token without a signature is none.
//!
//! Why not the crate `jsonwebtoken`: its releases with ring end at 9, where CVE-2026-25537 is open; later ones bring a second
//! library of cryptography, or a provider that cannot have RSA keys of a JWKS from outside, and read the clock themselves.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::claims::{Claims, NoTime};
use super::jwks::{Key, Kind};

/// Longest token, bytes: what it says has a use, and parsing costs whoever gets it.
pub const MOST_BYTES: usize = 8192;
/// What clocks may differ by.
const LEEWAY_S: u64 = 60;

/// What is wrong with a token, for the log. Callers are not told which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    Form,
    Algorithm,
    Issuer,
    Key,
    Signature,
    Expired,
    Early,
    Audience,
    Caller,
}

/// Who may sign tokens, and whose they are.
#[derive(Debug, Default)]
pub struct Issuer {
    pub audience: Box<str>,
    pub keys: Vec<Key>,
    /// Subject -> caller.
    pub subjects: FxHashMap<Box<str>, usize>,
    /// The first that fits.
    pub rules: Vec<Rule>,
}

/// Whose tokens are that have all of these claims.
#[derive(Debug)]
pub struct Rule {
    pub claims: Vec<(Box<str>, Box<str>)>,
    pub caller: usize,
}

/// The issuers, by name.
#[derive(Debug)]
pub struct Tokens {
    issuers: FxHashMap<Box<str>, Issuer>,
    /// No others have it: what was verified by others is not verified.
    pub number: u64,
}

/// Numbers given so far.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// A token that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    pub caller: usize,
    /// It is right up to here, seconds since 1970.
    pub until: u64,
    /// And from here on.
    pub from: u64,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// What must be understood; we know none of it (RFC 7515#4.1.11).
    crit: Option<IgnoredAny>,
}

// === impl Wrong ===

impl Wrong {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Form => "a token that is no JWT of at most 8192 bytes with iss, aud and exp",
            Self::Algorithm => "a token of another algorithm than RS256, ES256 and EdDSA",
            Self::Issuer => "a token of an unknown issuer",
            Self::Key => "a token whose key is not in the issuer's JWKS",
            Self::Signature => "a token with a wrong signature",
            Self::Expired => "a token that has expired",
            Self::Early => "a token that is not valid yet",
            Self::Audience => "a token for another audience",
            Self::Caller => "a token whose subject and claims are no caller's",
        }
    }
}

// === impl Tokens ===

/// Whether a credential means to be a token: a key has no dots.
pub fn is_token(credential: &[u8]) -> bool {
    credential.contains(&b'.')
}

impl Tokens {
    pub fn new(issuers: impl IntoIterator<Item = (Box<str>, Issuer)>) -> Self {
        Self {
            issuers: issuers.into_iter().collect(),
            number: NUMBERS.fetch_add(1, Relaxed),
        }
    }

    /// Whose a token is. `now` is seconds since 1970.
    ///
    /// # Errors
    /// What is wrong; where it is several things, any of them.
    pub fn check(&self, token: &[u8], now: u64) -> Result<Verified, Wrong> {
        if token.len() > MOST_BYTES {
            return Err(Wrong::Form);
        }
        let mut parts = token.rsplitn(2, |byte| *byte == b'.');
        let (Some(signature), Some(signed)) = (parts.next(), parts.next()) else {
            return Err(Wrong::Form);
        };
        let mut parts = signed.split(|byte| *byte == b'.');
        let (Some(head), Some(claims), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Wrong::Form);
        };
        let head: Head = serde_json::from_slice(&decoded(head)?).map_err(|_| Wrong::Form)?;
        if head.crit.is_some() {
            return Err(Wrong::Form);
        }
        let kind = Kind::from_name(&head.alg).ok_or(Wrong::Algorithm)?;
        let claims = decoded(claims)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| Wrong::Form)?;
        let name = claims.text("iss").ok_or(Wrong::Form)?;
        let issuer = self.issuers.get(name).ok_or(Wrong::Issuer)?;
        let key = issuer.key(kind, head.kid.as_deref()).ok_or(Wrong::Key)?;
        if !key.has_signed(signed, &decoded(signature)?) {
            return Err(Wrong::Signature);
        }
        let verified = issuer.verified(&claims)?;
        verified.at(now)
    }
}

fn decoded(part: &[u8]) -> Result<Vec<u8>, Wrong> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Wrong::Form)
}

// === impl Verified ===

impl Verified {
    /// # Errors
    /// `Expired`, `Early`.
    pub fn at(self, now: u64) -> Result<Self, Wrong> {
        if now >= self.until {
            Err(Wrong::Expired)
        } else if now < self.from {
            Err(Wrong::Early)
        } else {
            Ok(self)
        }
    }
}

// === impl Issuer ===

impl Issuer {
    /// The key that a token says it is signed with; the only one of its kind where it does not say.
    fn key(&self, kind: Kind, id: Option<&str>) -> Option<&Key> {
        let mut keys = self.keys.iter().filter(|key| key.kind() == kind);
        match id {
            Some(id) => keys.find(|key| key.id.as_deref() == Some(id)),
            None => keys.next().filter(|_| keys.next().is_none()),
        }
    }

    fn verified(&self, claims: &Claims) -> Result<Verified, Wrong> {
        let time = |name| claims.time(name).map_err(|NoTime| Wrong::Form);
        let until = time("exp")?.ok_or(Wrong::Form)?;
        let from = time("nbf")?.unwrap_or(0);
        if !claims.has("aud", &self.audience) {
            return Err(Wrong::Audience);
        }
        let by_subject = claims.text("sub").and_then(|it| self.subjects.get(it));
        let fits = |rule: &&Rule| {
            let mut claimed = rule.claims.iter();
            claimed.all(|(name, value)| claims.has(name, value))
        };
        let by_claims = || self.rules.iter().find(fits).map(|rule| &rule.caller);
        let caller = by_subject.or_else(by_claims).ok_or(Wrong::Caller)?;
        Ok(Verified {
            caller: *caller,
            until: until.saturating_add(LEEWAY_S),
            from: from.saturating_sub(LEEWAY_S),
        })
    }
}
