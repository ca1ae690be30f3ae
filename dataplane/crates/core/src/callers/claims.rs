//! What a token says, before it is known whether it is right.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

/// Most claims of one token.
const MOST: usize = 100;

/// The claims by name, each once: whoever reads another one of two than we do reads another token.
#[derive(Debug)]
pub struct Claims(Vec<(String, Value)>);

/// A claim that should be a time is none.
#[derive(Debug)]
pub struct NoTime;

// === impl Claims ===

impl Claims {
    /// A claim that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// A time, seconds since 1970, which may have a fraction; none where there is none.
    ///
    /// # Errors
    /// It is there and no time.
    pub fn time(&self, name: &str) -> Result<Option<u64>, NoTime> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let seconds = value.as_f64().filter(|it| (0.0..1e12).contains(it));
        seconds.map(|it| Some(it as u64)).ok_or(NoTime)
    }

    /// Whether a claim is this text, or a list that has it.
    pub fn has(&self, name: &str, wanted: &str) -> bool {
        match self.get(name) {
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(wanted)),
            Some(one) => one.as_str() == Some(wanted),
            None => false,
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let mut all = self.0.iter();
        all.find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Each)
    }
}

struct Each;

impl<'de> Visitor<'de> for Each {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Claims, M::Error> {
        let mut claims = Claims(Vec::new());
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            // Each is compared with all others, before anybody knows whose it is.
            if claims.get(&name).is_some() || claims.0.len() == MOST {
                return Err(M::Error::custom(
                    "a claim appears twice, or there are too many",
                ));
            }
            claims.0.push((name, value));
        }
        Ok(claims)
    }
}
