//! Who calls: the callers of a document, found by what a request shows, what each may do, and how much may be asked
//! for. The request path looks them up without a lock, and allocates nothing.

pub mod allow;
mod bucket;
#[cfg(test)]
mod bucket_tests;
mod claims;
mod compile;
mod counts;
mod credential;
mod document;
pub mod jwks;
pub mod limits;
mod reason;
mod refusals;
pub mod replays;
#[cfg(test)]
mod replays_tests;
mod shares;
pub mod signing;
#[cfg(test)]
mod signing_tests;
pub mod token_cache;
pub mod tokens;
#[cfg(test)]
mod tokens_tests;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::digest::{SHA256, digest};
use ring::hmac;
use rustc_hash::FxHashMap;

use crate::grpc::metadata::Priority;
use crate::headers::Headers;
use allow::Allow;
pub use compile::rule;
pub use counts::Counts;
use credential::Shown;
pub use credential::forget;
pub use document::{CallersConfig, RuleConfig};
use limits::Limit;
pub use reason::{Reason, unauthenticated};
pub use refusals::Refusals;
use replays::Replays;
use signing::{Asked, Signature, SignedBody};
use token_cache::Cache;
use tokens::{Tokens, is_token};

/// What calls without a credential are called, where the document lets them in.
pub const ANONYMOUS: &str = "anonymous";

type Digest = [u8; 32];

/// The callers of one document.
pub struct Callers {
    callers: Vec<Caller>,
    /// By the digest of the key: a key is 32 random bytes, which nobody finds by trying, however fast the digest is.
    keys: FxHashMap<Digest, Key>,
    /// By the id that a signature names.
    secrets: FxHashMap<Box<str>, Secret>,
    tokens: Option<Tokens>,
    /// By a name that a verified client certificate has.
    certificates: FxHashMap<Box<str>, usize>,
    anonymous: Option<usize>,
}

/// One caller.
pub struct Caller {
    pub name: Arc<str>,
    /// Shared by all callers with the same rules.
    pub allow: Arc<Allow>,
    /// How much its calls matter at most.
    pub priority: Option<Priority>,
    pub counts: Arc<Counts>,
    /// How much it may ask for: of all models together, and of single ones.
    pub limit: Option<Arc<Limit>>,
    pub at_models: FxHashMap<Box<str>, Arc<Limit>>,
}

/// What of a request says whose it is.
pub struct Request<'r> {
    pub headers: &'r Headers,
    /// The names of its connection's certificate.
    pub certificate: &'r [String],
    pub asked: Asked<'r>,
}

/// What was seen of credentials before.
pub struct Memory<'m> {
    pub replays: &'m Replays,
    pub tokens: &'m mut Cache,
}

/// Whose a request is.
#[derive(Debug)]
pub struct Found {
    pub index: usize,
    /// What its body must be, where it is signed.
    pub body: Option<SignedBody>,
}

struct Key {
    caller: usize,
    id: Box<str>,
    /// Seconds since 1970.
    expires: Option<u64>,
}

struct Secret {
    caller: usize,
    key: hmac::Key,
    /// Seconds since 1970.
    expires: Option<u64>,
}

// === impl Callers ===

impl Callers {
    /// Whose a request is: by what it shows, else by the names of its connection's certificate.
    ///
    /// # Errors
    /// It is nobody's.
    pub fn find(&self, request: &Request<'_>, memory: Memory<'_>) -> Result<Found, Reason> {
        let by_certificate = self.by_certificate(request.certificate)?;
        let found = match credential::shown(request.headers)? {
            None => {
                let index = by_certificate.or(self.anonymous);
                return index.map(Found::plain).ok_or(Reason::NoCredential);
            }
            Some(Shown::Signature(header)) => self.by_signature(header, &request.asked, memory)?,
            Some(Shown::Bearer(token)) if self.tokens.is_some() && is_token(token) => {
                let tokens = self.tokens.as_ref().ok_or(Reason::NoCredential)?;
                let verified = memory.tokens.check(tokens, token, now());
                Found::plain(verified.map_err(Reason::Token)?.caller)
            }
            Some(Shown::Key(key) | Shown::Bearer(key)) => Found::plain(self.by_key(key)?),
        };
        match by_certificate {
            Some(other) if other != found.index => Err(Reason::TwoCallers),
            _ => Ok(found),
        }
    }

    fn by_signature(
        &self,
        header: &[u8],
        asked: &Asked<'_>,
        memory: Memory<'_>,
    ) -> Result<Found, Reason> {
        let now = now();
        let signature = Signature::read(header).map_err(Reason::Signature)?;
        let secret = self.secrets.get(signature.id);
        let secret = secret.filter(|it| it.expires.is_none_or(|at| at > now));
        let checked = signature.check(secret.map(|it| &it.key), asked, now);
        checked.map_err(Reason::Signature)?;
        let come = (signature.fingerprint(), signature.time);
        let remembered = memory.replays.remember(come.0, come.1, now);
        remembered.map_err(Reason::Signature)?;
        let index = secret.map(|it| it.caller);
        Ok(Found {
            index: index.ok_or(Reason::Signature(signing::Wrong::Mac))?,
            body: Some(signature.body()),
        })
    }

    pub fn get(&self, index: usize) -> &Caller {
        &self.callers[index]
    }

    pub fn all(&self) -> &[Caller] {
        &self.callers
    }

    fn by_key(&self, key: &[u8]) -> Result<usize, Reason> {
        let digest = digest(&SHA256, key);
        let digest: &[u8] = digest.as_ref();
        let Some(key) = self.keys.get(digest) else {
            let first = digest.first_chunk().copied().unwrap_or_default();
            return Err(Reason::UnknownKey(u32::from_be_bytes(first)));
        };
        if key.expires.is_some_and(|at| at <= now()) {
            return Err(Reason::ExpiredKey {
                caller: self.callers[key.caller].name.clone(),
                id: key.id.clone(),
            });
        }
        Ok(key.caller)
    }

    fn by_certificate(&self, names: &[String]) -> Result<Option<usize>, Reason> {
        let mut found = None;
        for name in names {
            match (found, self.certificates.get(name.as_str())) {
                (Some(known), Some(other)) if known != *other => return Err(Reason::TwoCallers),
                (None, other) => found = other.copied(),
                _ => {}
            }
        }
        Ok(found)
    }
}

// === impl Found ===

impl Found {
    fn plain(index: usize) -> Self {
        Self { index, body: None }
    }
}

/// Seconds since 1970. A clock before that lets no key expire.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "callers_tests.rs"]
mod tests;
