//! Who calls: the callers of a document, found by what a request shows, what each may do, and how much may be asked
//! for. The request path looks them up without a lock, and allocates nothing.

pub mod allow;
mod bucket;
#[cfg(test)]
mod bucket_tests;
mod claims;
mod counts;
mod credential;
mod document;
pub mod jwks;
pub mod limits;
mod refusals;
pub mod replays;
#[cfg(test)]
mod replays_tests;
pub mod signing;
#[cfg(test)]
mod signing_tests;
pub mod token_cache;
pub mod tokens;
#[cfg(test)]
mod tokens_tests;

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use ring::digest::{SHA256, digest};
use rustc_hash::FxHashMap;

use crate::grpc::metadata::Priority;
use allow::{Action, Allow};
pub use counts::Counts;
pub use credential::forget;
pub use document::{CallersConfig, RuleConfig};
pub use refusals::Refusals;

/// What calls without a credential are called, where the document lets them in.
pub const ANONYMOUS: &str = "anonymous";

type Digest = [u8; 32];

/// The callers of one document.
pub struct Callers {
    callers: Vec<Caller>,
    /// By the digest of the key: a key is 32 random bytes, which nobody finds by trying, however fast the digest is.
    keys: FxHashMap<Digest, Key>,
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
}

struct Key {
    caller: usize,
    id: Box<str>,
    /// Seconds since 1970.
    expires: Option<u64>,
}

/// Why a request is nobody's; for the log, never for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    NoCredential,
    /// Two headers, or one of them twice.
    TwoCredentials,
    /// `authorization` with another scheme than Bearer, or with nothing behind it.
    Scheme,
    /// With the first bytes of its digest, as the document has it.
    UnknownKey(u32),
    ExpiredKey {
        caller: Arc<str>,
        id: Box<str>,
    },
    /// The certificate is one caller's and the key another's, or the certificate has names of two.
    TwoCallers,
}

// === impl Callers ===

impl Callers {
    /// `old` is what held before: a caller that stays goes on with its counts.
    ///
    /// # Errors
    /// Names what is wrong; nothing has changed then.
    pub fn new(config: &CallersConfig, old: Option<&Self>) -> Result<Self, String> {
        let mut compiling = Compiling::new(old);
        let mut new = Self {
            callers: Vec::with_capacity(config.callers.len() + 1),
            keys: FxHashMap::default(),
            certificates: FxHashMap::default(),
            anonymous: None,
        };
        for each in &config.callers {
            let index = new.callers.len();
            let name = each.name.as_str();
            new.callers
                .push(compiling.caller(name, &each.allow, each.priority.as_deref())?);
            for key in &each.keys {
                let entry = Key {
                    caller: index,
                    id: key.id.as_str().into(),
                    expires: key.expires,
                };
                let digest = document::digest(&key.sha256)
                    .ok_or_else(|| format!("{name}: key {}: sha256 is not 64 digits", key.id))?;
                if new.keys.insert(digest, entry).is_some() {
                    return Err(format!("{name}: key {} appears twice", key.id));
                }
            }
            for certificate in &each.certificates {
                let known = new.certificates.insert(certificate.as_str().into(), index);
                if known.is_some_and(|known| known != index) {
                    return Err(format!(
                        "{name}: certificate {certificate} is another caller's"
                    ));
                }
            }
        }
        if let Some(anonymous) = &config.anonymous {
            new.anonymous = Some(new.callers.len());
            let priority = anonymous.priority.as_deref();
            new.callers
                .push(compiling.caller(ANONYMOUS, &anonymous.allow, priority)?);
        }
        Ok(new)
    }

    /// Whose a request is: by its key, else by the names of its connection's certificate.
    ///
    /// # Errors
    /// It is nobody's.
    pub fn find(&self, headers: &HeaderMap, certificate: &[String]) -> Result<usize, Reason> {
        let by_certificate = self.by_certificate(certificate)?;
        let Some(key) = credential::key(headers)? else {
            return by_certificate
                .or(self.anonymous)
                .ok_or(Reason::NoCredential);
        };
        let by_key = self.by_key(key)?;
        match by_certificate {
            Some(other) if other != by_key => Err(Reason::TwoCallers),
            _ => Ok(by_key),
        }
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

/// The rule of a caller's, by its position, that lets it do something with a model; for who asks before a call does.
///
/// # Errors
/// The document is wrong, or there is no such caller or method.
pub fn rule(
    config: &CallersConfig,
    caller: &str,
    (model, version): (&str, Option<&str>),
    method: &str,
) -> Result<Option<usize>, String> {
    let callers = Callers::new(config, None)?;
    let mut all = callers.callers.iter();
    let found = all.find(|each| &*each.name == caller);
    let caller = found.ok_or_else(|| format!("there is no caller {caller:?}"))?;
    let action = Action::from_name(method);
    let action = action.ok_or_else(|| format!("there is no method {method:?}"))?;
    let (names, versions) = ([Some(model), None], [version, None]);
    Ok(caller.allow.rule(names, versions, action.into()))
}

/// What callers have in common, while a document is read.
struct Compiling<'a> {
    before: FxHashMap<&'a str, &'a Arc<Counts>>,
    with_own_series: usize,
    allowed: FxHashMap<&'a [RuleConfig], Arc<Allow>>,
}

impl<'a> Compiling<'a> {
    fn new(old: Option<&'a Callers>) -> Self {
        let before = old.into_iter().flat_map(|old| &old.callers);
        let before: FxHashMap<_, _> = before
            .map(|caller| (&*caller.name, &caller.counts))
            .collect();
        Self {
            with_own_series: before.values().filter(|it| it.has_own_series).count(),
            before,
            allowed: FxHashMap::default(),
        }
    }

    fn caller(
        &mut self,
        name: &str,
        rules: &'a [RuleConfig],
        priority: Option<&str>,
    ) -> Result<Caller, String> {
        let allow = match self.allowed.get(rules) {
            Some(allow) => allow.clone(),
            None => Arc::new(Allow::new(rules).map_err(|error| format!("{name}: {error}"))?),
        };
        self.allowed.entry(rules).or_insert_with(|| allow.clone());
        let priority = priority.map(|given| {
            Priority::from_name(given).ok_or_else(|| format!("{name}: no priority {given:?}"))
        });
        let counts = self.before.get(name).copied().cloned();
        let counts = counts.unwrap_or_else(|| {
            let counts = Counts::new(self.with_own_series);
            self.with_own_series += usize::from(counts.has_own_series);
            Arc::new(counts)
        });
        Ok(Caller {
            name: name.into(),
            allow,
            priority: priority.transpose()?,
            counts,
        })
    }
}

/// Seconds since 1970. A clock before that lets no key expire.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredential => write!(f, "no credential"),
            Self::TwoCredentials => write!(f, "several credentials in one request"),
            Self::Scheme => write!(f, "an authorization that is not `Bearer KEY`"),
            Self::UnknownKey(first) => {
                write!(f, "an unknown key (its sha256 begins with {first:08x})")
            }
            Self::ExpiredKey { caller, id } => write!(f, "key {id} of {caller}, which has expired"),
            Self::TwoCallers => write!(f, "credentials of two callers"),
        }
    }
}

#[cfg(test)]
#[path = "callers_tests.rs"]
mod tests;
