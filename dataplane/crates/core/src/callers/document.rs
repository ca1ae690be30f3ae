//! The document of callers as the control plane hands it over. Python reads and checks the file
//! (`access/callers/`); here every field is required, and an unknown one is refused.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Digest;
use super::allow::Action;
use super::jwks::Jwks;
use crate::config::CallLimits;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallersConfig {
    pub callers: Vec<CallerConfig>,
    /// What calls without a credential may do; none are let in when null.
    pub anonymous: Option<AnonymousConfig>,
    /// Who may give out tokens.
    pub jwt: Vec<IssuerConfig>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerConfig {
    pub name: String,
    pub keys: Vec<KeyConfig>,
    /// Names that its client certificate may have.
    pub certificates: Vec<String>,
    /// Secrets for signed requests; their ids are those of no other caller.
    pub signing: Vec<SecretConfig>,
    /// Tokens that are its own.
    pub tokens: Vec<TokenConfig>,
    pub limits: Option<CallLimits>,
    /// At single models.
    pub model_limits: BTreeMap<String, CallLimits>,
    pub allow: Vec<RuleConfig>,
    /// `high`, `normal` or `low`.
    pub priority: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnonymousConfig {
    pub allow: Vec<RuleConfig>,
    pub priority: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    pub id: String,
    /// In hexadecimal digits.
    pub sha256: String,
    /// Seconds since 1970; never when null.
    pub expires: Option<u64>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretConfig {
    pub id: String,
    /// In hexadecimal digits.
    pub secret: String,
    /// Seconds since 1970; never when null.
    pub expires: Option<u64>,
}

/// Tokens of one subject, or with all of these claims.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    pub issuer: String,
    pub subject: Option<String>,
    pub claims: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    pub issuer: String,
    pub audience: String,
    pub jwks: Jwks,
}

impl std::fmt::Debug for SecretConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "secret {}", self.id)
    }
}

/// What is allowed: each of the methods, on each of the models.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Names; `*` stands for any text.
    pub models: Vec<String>,
    /// Versions and labels that may be asked for; null: any, and none.
    pub versions: Option<Vec<String>>,
    pub methods: Vec<Action>,
}

/// The bytes of a digest; none where the text is none.
pub fn digest(text: &str) -> Option<Digest> {
    bytes(text)?.try_into().ok()
}

/// The bytes of hexadecimal digits.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| Some((digit(*high)? * 16 + digit(*low)?) as u8);
    pairs.iter().map(byte).collect()
}
