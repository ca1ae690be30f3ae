//! The static table (RFC 7541 appendix A).

use crate::headers::{STATIC_NAMES, Token};

pub(super) struct Entry {
    pub(super) name: Token,
    pub(super) value: &'static [u8],
}

/// Entries of the static table; the dynamic table's begin behind.
pub(super) const LENGTH: usize = 61;

/// Entries before the names that have one entry each.
const REPEATING: usize = 14;
/// Names of those: `:authority`, `:method`, `:path`, `:scheme`, `:status`.
const REPEATING_NAMES: usize = 5;

/// By index - 1.
pub(super) static ENTRIES: [Entry; LENGTH] = entries();

const fn entries() -> [Entry; LENGTH] {
    let mut all = [const { entry(Token::AUTHORITY, b"") }; LENGTH];
    all[1] = entry(Token::METHOD, b"GET");
    all[2] = entry(Token::METHOD, b"POST");
    all[3] = entry(Token::PATH, b"/");
    all[4] = entry(Token::PATH, b"/index.html");
    all[5] = entry(Token::SCHEME, b"http");
    all[6] = entry(Token::SCHEME, b"https");
    let statuses: [&[u8; 3]; 7] = [b"200", b"204", b"206", b"304", b"400", b"404", b"500"];
    let mut at = 0;
    while at < statuses.len() {
        all[7 + at] = entry(Token::STATUS, statuses[at]);
        at += 1;
    }
    at = REPEATING;
    while at < LENGTH {
        // The table of names has them in the same order.
        all[at] = entry(Token::at(at - REPEATING + REPEATING_NAMES), b"");
        at += 1;
    }
    all[15].value = b"gzip, deflate";
    all
}

const fn entry(name: Token, value: &'static [u8]) -> Entry {
    Entry { name, value }
}

/// The first index of a name, or 0 where the table lacks it, and the number of its entries.
#[inline]
pub(super) const fn find(name: Token) -> (usize, usize) {
    match name.place() {
        0 => (1, 1),
        1 => (2, 2),
        2 => (4, 2),
        3 => (6, 2),
        4 => (8, 7),
        place if place < STATIC_NAMES => (place - REPEATING_NAMES + REPEATING + 1, 1),
        _ => (0, 0),
    }
}
