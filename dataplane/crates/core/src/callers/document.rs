//! The document of callers as the control plane hands it over. Python reads and checks the file
//! (`access/callers/`); here every field is required, and an unknown one is refused.

use serde::Deserialize;

use super::Digest;
use super::allow::Action;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallersConfig {
    pub callers: Vec<CallerConfig>,
    /// What calls without a credential may do; none are let in when null.
    pub anonymous: Option<AnonymousConfig>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerConfig {
    pub name: String,
    pub keys: Vec<KeyConfig>,
    /// Names that its client certificate may have.
    pub certificates: Vec<String>,
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
    let mut digest = Digest::default();
    if !text.is_ascii() || text.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(digest)
}
