//! Callers from a document. What stays of those before goes on: their counts, and what they have taken of their limits.

use std::sync::Arc;
use std::time::Instant;

use ring::hmac;
use rustc_hash::FxHashMap;

use super::allow::{Action, Allow};
use super::document::{self, CallerConfig, CallersConfig, RuleConfig};
use super::limits::{Limit, Whose};
use super::tokens::{self, Issuer, Tokens};
use super::{ANONYMOUS, Caller, Callers, Counts, Key, Secret};
use crate::grpc::metadata::Priority;

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
