//! Names of header fields that this crate knows, as one byte each. A name is compared and copied once, when it arrives;
//! afterwards the proxy asks for `Token::TE`, not for two letters.

/// A known name: one of HPACK's static table, or one that gRPC and proxies use.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u8);

/// How many of [`NAMES`] HPACK's static table has: the first ones.
pub(crate) const STATIC_NAMES: usize = 52;

/// Every known name; a token is a place in it. First the static table's, as RFC 7541 appendix A has them, then ours.
#[rustfmt::skip]
static NAMES: [&str; TOKENS] = [
    ":authority", ":method", ":path", ":scheme", ":status", "accept-charset", "accept-encoding",
    "accept-language", "accept-ranges", "accept", "access-control-allow-origin", "age", "allow",
    "authorization", "cache-control", "content-disposition", "content-encoding",
    "content-language", "content-length", "content-location", "content-range", "content-type",
    "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified",
    "link", "location", "max-forwards", "proxy-authenticate", "proxy-authorization", "range",
    "referer", "refresh", "retry-after", "server", "set-cookie", "strict-transport-security",
    "transfer-encoding", "user-agent", "vary", "via", "www-authenticate",
    ":protocol", "te", "connection", "keep-alive", "proxy-connection", "upgrade", "trailer",
    "http2-settings", "priority", "forwarded", "x-forwarded-for", "x-forwarded-host",
    "x-forwarded-proto", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-status",
    "grpc-message", "grpc-status-details-bin", "grpc-message-type", "grpc-retry-pushback-ms",
    "grpc-previous-rpc-attempts", "grpc-trace-bin", "grpc-tags-bin", "endpoint-load-metrics-bin",
    "traceparent", "tracestate", "baggage", "x-request-id", "x-api-key", "x-model",
    "x-model-version", "x-priority", "x-signature", "x-grpc-web", "x-dl-inference-hops", "seldon",
    "inference-header-content-length", "access-attempts", "access-endpoint", "access-error",
    "access-error-number", "access-control-allow-credentials", "access-control-allow-headers",
    "access-control-allow-methods", "access-control-expose-headers", "access-control-max-age",
    "access-control-request-headers", "access-control-request-method", "origin",
];

/// How many known names there are.
pub(crate) const TOKENS: usize = 102;

/// Slots of the hash table of names: a power of two, four times as many as names, so that most are found at once.
const SLOTS: usize = 512;
const NOTHING: u8 = u8::MAX;
static SLOT_OF: [u8; SLOTS] = slots();

/// Where a name's search begins: its length, its ends and its middle tell most of the known names apart.
const fn slot(name: &[u8]) -> usize {
    let length = name.len();
    let (first, middle, last) = (name[0], name[length / 2], name[length - 1]);
    let mixed = (first as u32 | (middle as u32) << 8 | (last as u32) << 16 | (length as u32) << 24)
        .wrapping_mul(0x9E37_79B1); // 2^32 / the golden ratio: Fibonacci hashing
    (mixed >> 23) as usize
}

const fn slots() -> [u8; SLOTS] {
    let mut slots = [NOTHING; SLOTS];
    let mut token = 0;
    while token < TOKENS {
        let mut at = slot(NAMES[token].as_bytes());
        while slots[at] != NOTHING {
            at = (at + 1) % SLOTS;
        }
        slots[at] = token as u8;
        token += 1;
    }
    slots
}

// === impl Token ===

#[rustfmt::skip]
impl Token {
    pub const AUTHORITY: Self = Self::known(":authority");
    pub const METHOD: Self = Self::known(":method");
    pub const PATH: Self = Self::known(":path");
    pub const SCHEME: Self = Self::known(":scheme");
    pub const STATUS: Self = Self::known(":status");
    pub const ACCEPT_CHARSET: Self = Self::known("accept-charset");
    pub const ACCEPT_ENCODING: Self = Self::known("accept-encoding");
    pub const ACCEPT_LANGUAGE: Self = Self::known("accept-language");
    pub const ACCEPT_RANGES: Self = Self::known("accept-ranges");
    pub const ACCEPT: Self = Self::known("accept");
    pub const ACCESS_CONTROL_ALLOW_ORIGIN: Self = Self::known("access-control-allow-origin");
    pub const AGE: Self = Self::known("age");
    pub const ALLOW: Self = Self::known("allow");
    pub const AUTHORIZATION: Self = Self::known("authorization");
    pub const CACHE_CONTROL: Self = Self::known("cache-control");
    pub const CONTENT_DISPOSITION: Self = Self::known("content-disposition");
    pub const CONTENT_ENCODING: Self = Self::known("content-encoding");
    pub const CONTENT_LANGUAGE: Self = Self::known("content-language");
    pub const CONTENT_LENGTH: Self = Self::known("content-length");
    pub const CONTENT_LOCATION: Self = Self::known("content-location");
    pub const CONTENT_RANGE: Self = Self::known("content-range");
    pub const CONTENT_TYPE: Self = Self::known("content-type");
    pub const COOKIE: Self = Self::known("cookie");
    pub const DATE: Self = Self::known("date");
    pub const ETAG: Self = Self::known("etag");
    pub const EXPECT: Self = Self::known("expect");
    pub const EXPIRES: Self = Self::known("expires");
    pub const FROM: Self = Self::known("from");
    pub const HOST: Self = Self::known("host");
    pub const IF_MATCH: Self = Self::known("if-match");
    pub const IF_MODIFIED_SINCE: Self = Self::known("if-modified-since");
    pub const IF_NONE_MATCH: Self = Self::known("if-none-match");
    pub const IF_RANGE: Self = Self::known("if-range");
    pub const IF_UNMODIFIED_SINCE: Self = Self::known("if-unmodified-since");
    pub const LAST_MODIFIED: Self = Self::known("last-modified");
    pub const LINK: Self = Self::known("link");
    pub const LOCATION: Self = Self::known("location");
    pub const MAX_FORWARDS: Self = Self::known("max-forwards");
    pub const PROXY_AUTHENTICATE: Self = Self::known("proxy-authenticate");
    pub const PROXY_AUTHORIZATION: Self = Self::known("proxy-authorization");
    pub const RANGE: Self = Self::known("range");
    pub const REFERER: Self = Self::known("referer");
    pub const REFRESH: Self = Self::known("refresh");
    pub const RETRY_AFTER: Self = Self::known("retry-after");
    pub const SERVER: Self = Self::known("server");
    pub const SET_COOKIE: Self = Self::known("set-cookie");
    pub const STRICT_TRANSPORT_SECURITY: Self = Self::known("strict-transport-security");
    pub const TRANSFER_ENCODING: Self = Self::known("transfer-encoding");
    pub const USER_AGENT: Self = Self::known("user-agent");
    pub const VARY: Self = Self::known("vary");
    pub const VIA: Self = Self::known("via");
    pub const WWW_AUTHENTICATE: Self = Self::known("www-authenticate");
    pub const PROTOCOL: Self = Self::known(":protocol");
    pub const TE: Self = Self::known("te");
    pub const CONNECTION: Self = Self::known("connection");
    pub const KEEP_ALIVE: Self = Self::known("keep-alive");
    pub const PROXY_CONNECTION: Self = Self::known("proxy-connection");
    pub const UPGRADE: Self = Self::known("upgrade");
    pub const TRAILER: Self = Self::known("trailer");
    pub const HTTP2_SETTINGS: Self = Self::known("http2-settings");
    pub const PRIORITY: Self = Self::known("priority");
    pub const FORWARDED: Self = Self::known("forwarded");
    pub const X_FORWARDED_FOR: Self = Self::known("x-forwarded-for");
    pub const X_FORWARDED_HOST: Self = Self::known("x-forwarded-host");
    pub const X_FORWARDED_PROTO: Self = Self::known("x-forwarded-proto");
    pub const GRPC_TIMEOUT: Self = Self::known("grpc-timeout");
    pub const GRPC_ENCODING: Self = Self::known("grpc-encoding");
    pub const GRPC_ACCEPT_ENCODING: Self = Self::known("grpc-accept-encoding");
    pub const GRPC_STATUS: Self = Self::known("grpc-status");
    pub const GRPC_MESSAGE: Self = Self::known("grpc-message");
    pub const GRPC_STATUS_DETAILS_BIN: Self = Self::known("grpc-status-details-bin");
    pub const GRPC_MESSAGE_TYPE: Self = Self::known("grpc-message-type");
    pub const GRPC_RETRY_PUSHBACK_MS: Self = Self::known("grpc-retry-pushback-ms");
    pub const GRPC_PREVIOUS_RPC_ATTEMPTS: Self = Self::known("grpc-previous-rpc-attempts");
    pub const GRPC_TRACE_BIN: Self = Self::known("grpc-trace-bin");
    pub const GRPC_TAGS_BIN: Self = Self::known("grpc-tags-bin");
    pub const ENDPOINT_LOAD_METRICS_BIN: Self = Self::known("endpoint-load-metrics-bin");
    pub const TRACEPARENT: Self = Self::known("traceparent");
    pub const TRACESTATE: Self = Self::known("tracestate");
    pub const BAGGAGE: Self = Self::known("baggage");
    pub const X_REQUEST_ID: Self = Self::known("x-request-id");
    pub const X_API_KEY: Self = Self::known("x-api-key");
    pub const X_MODEL: Self = Self::known("x-model");
    pub const X_MODEL_VERSION: Self = Self::known("x-model-version");
    pub const X_PRIORITY: Self = Self::known("x-priority");
    pub const X_SIGNATURE: Self = Self::known("x-signature");
    pub const X_GRPC_WEB: Self = Self::known("x-grpc-web");
    pub const X_DL_INFERENCE_HOPS: Self = Self::known("x-dl-inference-hops");
    pub const SELDON: Self = Self::known("seldon");
    pub const INFERENCE_HEADER_CONTENT_LENGTH: Self = Self::known("inference-header-content-length");
    pub const ACCESS_ATTEMPTS: Self = Self::known("access-attempts");
    pub const ACCESS_ENDPOINT: Self = Self::known("access-endpoint");
    pub const ACCESS_ERROR: Self = Self::known("access-error");
    pub const ACCESS_ERROR_NUMBER: Self = Self::known("access-error-number");
    pub const ACCESS_CONTROL_ALLOW_CREDENTIALS: Self = Self::known("access-control-allow-credentials");
    pub const ACCESS_CONTROL_ALLOW_HEADERS: Self = Self::known("access-control-allow-headers");
    pub const ACCESS_CONTROL_ALLOW_METHODS: Self = Self::known("access-control-allow-methods");
    pub const ACCESS_CONTROL_EXPOSE_HEADERS: Self = Self::known("access-control-expose-headers");
    pub const ACCESS_CONTROL_MAX_AGE: Self = Self::known("access-control-max-age");
    pub const ACCESS_CONTROL_REQUEST_HEADERS: Self = Self::known("access-control-request-headers");
    pub const ACCESS_CONTROL_REQUEST_METHOD: Self = Self::known("access-control-request-method");
    pub const ORIGIN: Self = Self::known("origin");
}

impl Token {
    /// The token of a name in [`NAMES`]; any other does not compile where a constant is made of it.
    const fn known(name: &str) -> Self {
        let name = name.as_bytes();
        let mut token = 0;
        while token < TOKENS {
            if is_same(NAMES[token].as_bytes(), name) {
                return Self(token as u8);
            }
            token += 1;
        }
        panic!("not in the table of names")
    }

    /// Find the token of a lower-case name.
    pub fn find(name: &[u8]) -> Option<Self> {
        if name.is_empty() {
            return None;
        }
        let mut at = slot(name);
        loop {
            let token = SLOT_OF[at];
            if token == NOTHING {
                return None;
            }
            if NAMES[token as usize].as_bytes() == name {
                return Some(Self(token));
            }
            at = (at + 1) % SLOTS;
        }
    }

    /// The token at a place in the table of names.
    pub(crate) const fn at(place: usize) -> Self {
        assert!(place < TOKENS);
        Self(place as u8)
    }

    /// Its place among all tokens.
    pub const fn place(self) -> usize {
        self.0 as usize
    }

    #[inline]
    pub const fn name(self) -> &'static str {
        NAMES[self.0 as usize]
    }

    /// Every token, by its [place](Self::place).
    pub fn all() -> impl Iterator<Item = Self> {
        (0..TOKENS as u8).map(Self)
    }

    /// Whether it is a pseudo-header field (RFC 9113 section 8.3).
    #[inline]
    pub const fn is_pseudo(self) -> bool {
        self.0 <= Self::STATUS.0 || self.0 == Self::PROTOCOL.0
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

const fn is_same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}
