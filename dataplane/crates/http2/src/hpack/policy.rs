//! Which fields enter the table, by name.

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
    Token::GRPC_TIMEOUT,
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

static POLICIES: [Policy; TOKENS] = policies();

const fn policies() -> [Policy; TOKENS] {
    let mut policies = [Policy::Twice; TOKENS];
    fill(&mut policies, &ONCE, Policy::Once);
    fill(&mut policies, &VOLATILE, Policy::Volatile);
    fill(&mut policies, &SECRET, Policy::Secret);
    policies[Token::COOKIE.place()] = Policy::Cookie;
    policies
}

const fn fill(policies: &mut [Policy; TOKENS], tokens: &[Token], policy: Policy) {
    let mut at = 0;
    while at < tokens.len() {
        policies[tokens[at].place()] = policy;
        at += 1;
    }
}

// === impl Policy ===

impl Policy {
    pub(super) fn of(name: Token) -> Self {
        POLICIES[name.place()]
    }
}
