//! What a caller may do: rules, compiled so that a call costs one look-up and a walk over the few patterns.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustc_hash::FxHashMap;
use serde::Deserialize;

use super::RuleConfig;

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Most patterns of one caller: each call is compared with all of them.
const MAX_PATTERNS: usize = 64;

/// What a method does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Predict,
    Metadata,
    /// It changes an endpoint, or loads and unloads models.
    Admin,
}

/// A set of them, one of which has to be allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(u8);

/// The rules of one caller.
#[derive(Debug, Default)]
pub struct Allow {
    /// No other set of rules of this process has it; from 1.
    pub number: u64,
    rules: Vec<Rule>,
    /// One of them is about single versions.
    has_versions: bool,
    /// The rules with a model's whole name.
    exact: FxHashMap<Box<str>, Vec<usize>>,
    /// The rules with `*` in a name.
    patterns: Vec<(Box<str>, usize)>,
}

#[derive(Debug)]
struct Rule {
    actions: Actions,
    /// None: any, and calls that ask for none.
    versions: Option<Vec<Box<str>>>,
}

// === impl Allow ===

impl Allow {
    /// # Errors
    /// There are too many patterns.
    pub fn new(rules: &[RuleConfig]) -> Result<Self, String> {
        let mut new = Self {
            number: NUMBERS.fetch_add(1, Relaxed),
            ..Self::default()
        };
        for (index, rule) in rules.iter().enumerate() {
            let versions = rule.versions.as_ref();
            new.has_versions |= versions.is_some();
            new.rules.push(Rule {
                actions: rule
                    .methods
                    .iter()
                    .fold(Actions::default(), |all, each| all.or(*each)),
                versions: versions.map(|it| it.iter().map(|each| each.as_str().into()).collect()),
            });
            for name in &rule.models {
                if name.contains('*') {
                    new.patterns.push((name.as_str().into(), index));
                } else {
                    new.exact
                        .entry(name.as_str().into())
                        .or_default()
                        .push(index);
                }
            }
        }
        match new.patterns.len() {
            ..=MAX_PATTERNS => Ok(new),
            count => Err(format!(
                "{count} model names with `*` in the rules of one caller, at most {MAX_PATTERNS} are possible"
            )),
        }
    }

    /// The rule that allows a call, the first in the document. `names` are the model's own and what that is another name
    /// of, `versions` the version or label asked for and what it stands for.
    pub fn rule(
        &self,
        names: [Option<&str>; 2],
        versions: [Option<&str>; 2],
        actions: Actions,
    ) -> Option<usize> {
        let of_names = names.iter().flatten().flat_map(|name| self.rules_of(name));
        let allowing = of_names.filter(|index| {
            let rule = &self.rules[*index];
            let mut given = rule.versions.iter().flatten();
            rule.actions.meets(actions)
                && (rule.versions.is_none() || given.any(|it| versions.contains(&Some(&**it))))
        });
        allowing.min()
    }

    /// Whether it takes the version that a call asks for to tell if it is allowed. The model may go by another name yet.
    pub fn needs_version(&self, name: &str, actions: Actions) -> bool {
        self.has_versions
            && self
                .rule([Some(name), None], [None, None], actions)
                .is_none()
    }

    /// Whether the caller has anything to do with a model.
    pub fn sees(&self, name: &str) -> bool {
        self.rules_of(name).next().is_some()
    }

    /// The rule that allows something for every model there is or may be, in every version.
    pub fn rule_for_all(&self, actions: Actions) -> Option<usize> {
        let mut all = self.patterns.iter().filter(|(name, _)| &**name == "*");
        let found = all.find(|(_, index)| {
            let rule = &self.rules[*index];
            rule.versions.is_none() && rule.actions.meets(actions)
        });
        found.map(|(_, index)| *index)
    }

    fn rules_of(&self, name: &str) -> impl Iterator<Item = usize> {
        let exact = self.exact.get(name).into_iter().flatten().copied();
        let matching = self
            .patterns
            .iter()
            .filter(move |(pattern, _)| matches(pattern.as_bytes(), name.as_bytes()));
        exact.chain(matching.map(|(_, index)| *index))
    }
}

// === impl Action, Actions ===

impl Action {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Metadata => "metadata",
            Self::Admin => "admin",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Predict, Self::Metadata, Self::Admin];
        all.into_iter().find(|action| action.name() == name)
    }
}

impl From<Action> for Actions {
    fn from(action: Action) -> Self {
        Self::default().or(action)
    }
}

impl Actions {
    pub const fn or(self, action: Action) -> Self {
        Self(self.0 | 1 << action as u8)
    }

    const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Whether a name is of a pattern, in which `*` stands for any text, none included. Bytes are compared as they are: case
/// and accents count.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    // Behind the last star, and where what it stands for ends so far.
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, of));
            }
            Some(byte) if *byte == name[of] => (at, of) = (at + 1, of + 1),
            _ => {
                let Some((behind, end)) = star else {
                    return false;
                };
                star = Some((behind, end + 1));
                (at, of) = (behind, end + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
#[path = "allow_tests.rs"]
mod tests;
