//! Sets of known names, as bits: whether a list has any of many is one look.

use super::{TOKENS, Token};

/// A set of tokens.
#[derive(Clone, Copy, Default)]
pub struct Tokens([u64; TOKENS.div_ceil(64)]);

// === impl Tokens ===

impl Tokens {
    pub const fn of(tokens: &[Token]) -> Self {
        Self([0; TOKENS.div_ceil(64)]).and(tokens)
    }

    /// The same and these.
    pub const fn and(mut self, tokens: &[Token]) -> Self {
        let mut at = 0;
        while at < tokens.len() {
            self.add(tokens[at]);
            at += 1;
        }
        self
    }

    #[inline]
    const fn bit(token: Token) -> (usize, u64) {
        (token.place() / 64, 1 << (token.place() % 64))
    }

    #[inline]
    pub(super) const fn add(&mut self, token: Token) {
        let (word, bit) = Self::bit(token);
        self.0[word] |= bit;
    }

    pub(super) fn add_all(&mut self, other: Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    #[inline]
    pub(super) fn meets(self, other: Self) -> bool {
        self.0.iter().zip(other.0).any(|(one, two)| one & two != 0)
    }

    #[inline]
    pub const fn has(self, token: Token) -> bool {
        let (word, bit) = Self::bit(token);
        self.0[word] & bit != 0
    }

    pub(super) fn remove(&mut self, token: Token) {
        let (word, bit) = Self::bit(token);
        self.0[word] &= !bit;
    }
}
