//! Tokens that were verified: callers send the same one many times, and a signature costs some ten microseconds and more.
//! One worker's, so that nobody waits for it.

use ring::digest::{SHA256, digest};
use rustc_hash::FxHashMap;

use super::tokens::{Tokens, Verified, Wrong};

/// Most tokens that are remembered, by their digests: they are secrets.
pub const MOST: usize = 4096;

#[derive(Debug, Default)]
pub struct Cache {
    verified: FxHashMap<[u8; 32], Verified>,
    /// Those who verified them.
    number: Option<u64>,
}

// === impl Cache ===

impl Cache {
    /// Whose a token is. `now` is seconds since 1970.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&mut self, tokens: &Tokens, token: &[u8], now: u64) -> Result<Verified, Wrong> {
        if self.number.replace(tokens.number) != Some(tokens.number) {
            self.verified.clear();
        }
        let digest = digest(&SHA256, token);
        let key = digest.as_ref().first_chunk().copied().unwrap_or_default();
        if let Some(known) = self.verified.get(&key) {
            return known.at(now);
        }
        let verified = tokens.check(token, now)?;
        if self.verified.len() >= MOST {
            self.verified.retain(|_, known| known.at(now).is_ok());
        }
        if self.verified.len() >= MOST {
            self.verified.clear();
        }
        self.verified.insert(key, verified);
        Ok(verified)
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.verified.len()
    }
}
