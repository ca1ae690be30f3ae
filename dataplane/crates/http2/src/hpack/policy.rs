//! Which fields enter the table, by name.

use super::static_table;
use crate::headers::{TOKENS, Token};

/// Cookies below this length could be guessed byte by byte from the size of blocks (as nghttp2 has it).
pub(super) const SHORT_COOKIE: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Policy {
    /// The few values come again: enters at once.
    Once,
    /// Enters when it is seen for the second time.
    Twice,
    /// Differs each time: only the name enters, with the first value.
    Volatile,
    /// A time: from a second on it comes again, a shorter one differs each time.
    Timeout,
    /// Must not enter a table, here or at any later hop.
    Secret,
    /// Secret where it is short.
    Cookie,
}

const ONCE: [Token; 11] = [
    Token::METHOD,
    Token::SCHEME,
    Token::AUTHORITY,
    Token::STATUS,
    Token::CONTENT_TYPE,
    Token::USER_AGENT,
    Token::TE,
    Token::GRPC_ENCODING,
    Token::GRPC_ACCEPT_ENCODING,
    Token::GRPC_STATUS,
    Token::SERVER,
];
const VOLATILE: [Token; 8] = [
    Token::ENDPOINT_LOAD_METRICS_BIN,
    Token::CONTENT_LENGTH,
    Token::X_REQUEST_ID,
    Token::TRACEPARENT,
    Token::GRPC_TRACE_BIN,
    Token::X_SIGNATURE,
    Token::ETAG,
    Token::INFERENCE_HEADER_CONTENT_LENGTH,
];
const SECRET: [Token; 3] = [
    Token::AUTHORIZATION,
    Token::PROXY_AUTHORIZATION,
    Token::X_API_KEY,
];

/// What the sender knows of a name.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(super) policy: Policy,
    /// The first index in the static table; 0 where it lacks the name.
    pub(super) first: u8,
}

/// The rule of a name without a token.
pub(super) const OTHER: Rule = Rule {
    policy: Policy::Twice,
    first: 0,
};

static RULES: [Rule; TOKENS] = rules();

const fn rules() -> [Rule; TOKENS] {
    let mut rules = [OTHER; TOKENS];
    let mut place = 0;
    while place < TOKENS {
        rules[place].first = static_table::find_name(Token::at(place)) as u8;
        place += 1;
    }
    fill(&mut rules, &ONCE, Policy::Once);
    fill(&mut rules, &VOLATILE, Policy::Volatile);
    fill(&mut rules, &SECRET, Policy::Secret);
    fill(&mut rules, &[Token::COOKIE], Policy::Cookie);
    fill(&mut rules, &[Token::GRPC_TIMEOUT], Policy::Timeout);
    rules
}

const fn fill(rules: &mut [Rule; TOKENS], tokens: &[Token], policy: Policy) {
    let mut at = 0;
    while at < tokens.len() {
        rules[tokens[at].place()].policy = policy;
        at += 1;
    }
}

/// Whether a `grpc-timeout` is one of a second or more, as far as its form says.
pub(super) fn is_coarse(timeout: &[u8]) -> bool {
    match timeout.last() {
        Some(b'm') => timeout.len() >= "1000m".len(),
        Some(b'S' | b'M' | b'H') => true,
        _ => false,
    }
}

// === impl Rule ===

impl Rule {
    #[inline]
    pub(super) fn of(name: Option<Token>) -> Self {
        name.map_or(OTHER, |name| RULES[name.place()])
    }
}
