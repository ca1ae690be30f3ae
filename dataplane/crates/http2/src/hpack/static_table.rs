//! The static table (RFC 7541 appendix A).

use crate::headers::{FIELD_OVERHEAD, STATIC_NAMES, Token};

pub(super) struct Entry {
    pub(super) name: Token,
    pub(super) value: &'static [u8],
    /// What it counts.
    pub(super) size: u32,
}

/// Entries of the static table; the dynamic table's begin behind.
pub(super) const LENGTH: usize = 61;

/// Entries before the names that have one entry each.
const REPEATING: usize = 14;
/// Names of those: `:authority`, `:method`, `:path`, `:scheme`, `:status`.
const REPEATING_NAMES: usize = 5;

/// First indices of the names with values.
const METHOD: usize = 2;
const PATH: usize = 4;
const SCHEME: usize = 6;
const STATUS: usize = 8;
const ACCEPT_ENCODING: usize = 16;

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
    all[ACCEPT_ENCODING - 1] = entry(Token::ACCEPT_ENCODING, b"gzip, deflate");
    all
}

const fn entry(name: Token, value: &'static [u8]) -> Entry {
    let size = (name.name().len() + value.len() + FIELD_OVERHEAD) as u32;
    Entry { name, value, size }
}

/// The first index of a name, or 0 where the table lacks it.
pub(super) const fn find_name(name: Token) -> usize {
    match name.place() {
        0 => 1,
        1 => METHOD,
        2 => PATH,
        3 => SCHEME,
        4 => STATUS,
        place if place < STATIC_NAMES => place - REPEATING_NAMES + REPEATING + 1,
        _ => 0,
    }
}

/// The index of a field whose name's first is `first`. Written out, as each value is one comparison then.
#[inline]
pub(super) fn find(first: usize, value: &[u8]) -> Option<usize> {
    let more = match (first, value) {
        (METHOD, b"GET") | (PATH, b"/") | (SCHEME, b"http") | (STATUS, b"200") => 0,
        (METHOD, b"POST") | (PATH, b"/index.html") | (SCHEME, b"https") | (STATUS, b"204") => 1,
        (STATUS, b"206") => 2,
        (STATUS, b"304") => 3,
        (STATUS, b"400") => 4,
        (STATUS, b"404") => 5,
        (STATUS, b"500") => 6,
        (ACCEPT_ENCODING, b"gzip, deflate") => 0,
        (METHOD | PATH | SCHEME | STATUS | ACCEPT_ENCODING, _) => return None,
        (_, b"") => 0,
        _ => return None,
    };
    Some(first + more)
}
