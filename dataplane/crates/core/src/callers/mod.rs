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
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use ring::digest::{SHA256, digest};
use ring::hmac;
use rustc_hash::FxHashMap;

use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::Priority;
use allow::{Action, Allow};
pub use counts::Counts;
use credential::Shown;
pub use credential::forget;
use document::CallerConfig;
pub use document::{CallersConfig, RuleConfig};
use limits::{Limit, Whose};
pub use refusals::Refusals;
use replays::Replays;
use signing::{Asked, Signature, SignedBody};
use token_cache::Cache;
use tokens::{Issuer, Tokens, is_token};

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
    pub headers: &'r HeaderMap,
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
    Token(tokens::Wrong),
    Signature(signing::Wrong),
    /// A signature of what is answered here, or of a stream.
    Unsignable,
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
            secrets: FxHashMap::default(),
            tokens: tokens_of(config)?,
            certificates: FxHashMap::default(),
            anonymous: None,
        };
        for each in &config.callers {
            let index = new.callers.len();
            let name = each.name.as_str();
            let mut caller = compiling.caller(name, &each.allow, each.priority.as_deref())?;
            compiling.limit(&mut caller, each);
            new.callers.push(caller);
            for secret in &each.signing {
                let bytes = document::bytes(&secret.secret);
                let bytes = bytes.ok_or_else(|| format!("{name}: {secret:?} is not in digits"))?;
                let entry = Secret {
                    caller: index,
                    key: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
                    expires: secret.expires,
                };
                if new
                    .secrets
                    .insert(secret.id.as_str().into(), entry)
                    .is_some()
                {
                    return Err(format!("{name}: {secret:?} appears twice"));
                }
            }
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

/// Who may give out tokens, with whose they are.
fn tokens_of(config: &CallersConfig) -> Result<Option<Tokens>, String> {
    let mut issuers: FxHashMap<Box<str>, Issuer> = FxHashMap::default();
    for each in &config.jwt {
        let keys = each.jwks.keys();
        let issuer = Issuer {
            audience: each.audience.as_str().into(),
            keys: keys.map_err(|error| format!("jwks of {}: {error}", each.issuer))?,
            ..Issuer::default()
        };
        issuers.insert(each.issuer.as_str().into(), issuer);
    }
    for (index, caller) in config.callers.iter().enumerate() {
        for token in &caller.tokens {
            let issuer = issuers.get_mut(token.issuer.as_str());
            let issuer =
                issuer.ok_or_else(|| format!("{}: jwt has no {}", caller.name, token.issuer))?;
            match &token.subject {
                Some(subject) => {
                    let known = issuer.subjects.insert(subject.as_str().into(), index);
                    if known.is_some_and(|known| known != index) {
                        return Err(format!("{}: {subject} is another caller's", caller.name));
                    }
                }
                None => {
                    let claims = token.claims.iter();
                    let claims =
                        claims.map(|(name, value)| (name.as_str().into(), value.as_str().into()));
                    issuer.rules.push(tokens::Rule {
                        claims: claims.collect(),
                        caller: index,
                    });
                }
            }
        }
    }
    Ok((!issuers.is_empty()).then(|| Tokens::new(issuers)))
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
    before: FxHashMap<&'a str, &'a Caller>,
    now: Instant,
    with_own_series: usize,
    allowed: FxHashMap<&'a [RuleConfig], Arc<Allow>>,
}

impl<'a> Compiling<'a> {
    fn new(old: Option<&'a Callers>) -> Self {
        let before = old.into_iter().flat_map(|old| &old.callers);
        let before: FxHashMap<_, _> = before.map(|caller| (&*caller.name, caller)).collect();
        Self {
            with_own_series: before
                .values()
                .filter(|it| it.counts.has_own_series)
                .count(),
            now: Instant::now(),
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
        let counts = self.before.get(name).map(|it| it.counts.clone());
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
            limit: None,
            at_models: FxHashMap::default(),
        })
    }

    /// Put a caller under its limits; what it has taken of those before stays taken.
    fn limit(&self, caller: &mut Caller, config: &CallerConfig) {
        let before = self.before.get(&*caller.name);
        let limit = |model: Option<&str>, given, before: Option<&Arc<Limit>>| {
            let whose = Whose {
                caller: Some((&*caller.name).into()),
                model: model.map(Into::into),
            };
            Arc::new(Limit::new(
                whose,
                given,
                before.map(AsRef::as_ref),
                self.now,
            ))
        };
        let own = config.limits.as_ref();
        let own = own.map(|given| limit(None, given, before.and_then(|it| it.limit.as_ref())));
        let models = config.model_limits.iter();
        let models = models.map(|(model, given)| {
            let before = before.and_then(|it| it.at_models.get(model.as_str()));
            (model.as_str().into(), limit(Some(model), given, before))
        });
        let models = models.collect();
        (caller.limit, caller.at_models) = (own, models);
    }
}

/// The answer to whoever is no caller, whatever was wrong.
pub fn unauthenticated() -> Error {
    let text = "no valid credential: send a key as x-api-key or as authorization: Bearer KEY";
    Error::new(ErrorKind::Unauthenticated, text)
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
            Self::Token(wrong) => f.write_str(wrong.text()),
            Self::Signature(wrong) => write!(f, "a signature: {}", wrong.text()),
            Self::Unsignable => {
                write!(
                    f,
                    "a signature of a stream, or of what is answered without an endpoint"
                )
            }
            Self::TwoCallers => write!(f, "credentials of two callers"),
        }
    }
}

#[cfg(test)]
#[path = "callers_tests.rs"]
mod tests;
