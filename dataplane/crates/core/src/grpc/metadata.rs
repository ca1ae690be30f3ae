//! Which metadata crosses the proxy, each way. Lists are changed in place: they are moved from one side to
//! the other, never copied.

use crate::headers::{Field, Headers, Token, Tokens, is_value};

/// How the messages of a direction are compressed.
pub const GRPC_ENCODING: Token = Token::GRPC_ENCODING;
/// How the messages of the other direction may be compressed.
pub const GRPC_ACCEPT_ENCODING: Token = Token::GRPC_ACCEPT_ENCODING;
/// How long to wait before the call is sent again, ms. gRFC A6, "Pushback": what is negative or no number means never.
pub const RETRY_PUSHBACK: Token = Token::GRPC_RETRY_PUSHBACK_MS;
/// Attempts made before this one.
pub const PREVIOUS_ATTEMPTS: Token = Token::GRPC_PREVIOUS_RPC_ATTEMPTS;
/// A call's id: the caller's, or made here; sent upstream, in trailers, log and INTERNAL messages.
pub const X_REQUEST_ID: Token = Token::X_REQUEST_ID;
/// The route key, where the caller gives it as metadata.
pub const X_MODEL: Token = Token::X_MODEL;
/// The version or label, where the caller gives it as metadata.
pub const X_MODEL_VERSION: Token = Token::X_MODEL_VERSION;
/// A deployment's name, as seldon-core's client sends it to its gateways.
pub const SELDON: Token = Token::SELDON;
/// How much a call matters: `high`, `low`, or anything else.
pub const X_PRIORITY: Token = Token::X_PRIORITY;
/// Trailer: what went wrong, in the words of the error table.
pub const ACCESS_ERROR: Token = Token::ACCESS_ERROR;
/// Trailer: the number that a model's own code gives an error.
pub const ACCESS_ERROR_NUMBER: Token = Token::ACCESS_ERROR_NUMBER;
/// Trailer: how many attempts the call took.
pub const ACCESS_ATTEMPTS: Token = Token::ACCESS_ATTEMPTS;
/// Trailer: the endpoint that answered.
pub const ACCESS_ENDPOINT: Token = Token::ACCESS_ENDPOINT;

/// `access-*`, and the fields that RFC 9110 (7.6.1) ties to one connection. The engine refuses most of the latter
/// itself; a list may still come from elsewhere.
const OURS_OR_HOP_BY_HOP: Tokens = Tokens::of(&[
    Token::CONNECTION,
    Token::KEEP_ALIVE,
    Token::TRANSFER_ENCODING,
    Token::UPGRADE,
    Token::PROXY_AUTHENTICATE,
    Token::PROXY_AUTHORIZATION,
    Token::PROXY_CONNECTION,
    ACCESS_ERROR,
    ACCESS_ERROR_NUMBER,
    ACCESS_ATTEMPTS,
    ACCESS_ENDPOINT,
]);
/// Most lists have none of these, and pass without a look at each field.
const NOT_UPSTREAM: Tokens = OURS_OR_HOP_BY_HOP.and(&[Token::HOST, Token::GRPC_TIMEOUT]);
const NOT_DOWNSTREAM: Tokens = OURS_OR_HOP_BY_HOP.and(&[Token::TE]);

/// Let metadata that ask for a label ask for the version that it stands for: the endpoint need not know the label.
pub fn set_version(headers: &mut Headers, version: &str) {
    // A version is text that has been compared with what callers send.
    if headers.has(X_MODEL_VERSION) && is_value(version.as_bytes()) {
        headers.set(X_MODEL_VERSION, version);
    }
}

/// Turn a caller's request headers into those for an endpoint.
///
/// Hop-by-hop fields, the caller's `access-*` (they are ours to say) and its `grpc-timeout` go; whoever
/// calls this puts the time left in its place. `te: trailers` is there afterwards, as gRPC demands.
pub fn to_upstream(headers: &mut Headers) {
    let mut has_te = false;
    if headers.is_free_of(NOT_UPSTREAM) {
        let mut values = headers.get_all(Token::TE);
        if values.next() == Some(b"trailers") && values.next().is_none() {
            return;
        }
    }
    headers.retain(|field| match field.token {
        Some(Token::TE) => {
            let is_right = !has_te && field.value == b"trailers";
            has_te |= is_right;
            is_right
        }
        Some(Token::HOST | Token::GRPC_TIMEOUT) => false,
        _ => !is_ours_or_hop_by_hop(field),
    });
    if !has_te {
        headers.push(Token::TE, "trailers");
    }
}

/// Turn an endpoint's response headers or trailers into those for the caller.
///
/// Of its `access-*` only `access-error` and `access-error-number` stay: they say what the status is about, a user's
/// hook for one.
pub fn to_downstream(headers: &mut Headers) {
    if headers.is_free_of(NOT_DOWNSTREAM) {
        return;
    }
    headers.retain(|field| match field.token {
        Some(ACCESS_ERROR | ACCESS_ERROR_NUMBER) => true,
        Some(Token::TE) => false,
        _ => !is_ours_or_hop_by_hop(field),
    });
}

/// Whether a model server says that a user's hook raised, which is not the endpoint's fault.
pub fn hook_failed(headers: &Headers) -> bool {
    headers.get(ACCESS_ERROR) == Some(b"hook")
}

/// Attempts that the caller says were made before this call; 0 where it says nothing, or no number.
pub fn previous_attempts(headers: &Headers) -> u32 {
    let text = headers.text(PREVIOUS_ATTEMPTS);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// How much a call matters beside others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    High,
    #[default]
    Normal,
    Low,
}

impl Priority {
    pub const COUNT: usize = 3;

    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::High, Self::Normal, Self::Low];
        all.into_iter().find(|priority| priority.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// What the caller says of it; anything but `high` and `low` is normal.
pub fn priority(headers: &Headers) -> Priority {
    match headers.get(X_PRIORITY) {
        Some(b"high") => Priority::High,
        Some(b"low") => Priority::Low,
        _ => Priority::Normal,
    }
}

/// Whether the caller says that others matter more.
pub fn is_low_priority(headers: &Headers) -> bool {
    priority(headers) == Priority::Low
}

/// Let a call matter as much as `given` says, or less where its caller says so.
pub fn limit_priority(headers: &mut Headers, given: Priority) {
    if !headers.has(X_PRIORITY) || priority(headers) < given {
        headers.set(X_PRIORITY, given.name());
    }
}

/// A call's id: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    text: [u8; MOST_ID],
    length: u8,
}

/// Longest id, bytes.
const MOST_ID: usize = 64;

impl RequestId {
    /// The caller's, if that is one. Anything else would end up in logs and headers as it is, so it is not taken over.
    pub fn find(headers: &Headers) -> Option<Self> {
        let value = headers.get(X_REQUEST_ID)?;
        let allowed =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        ((1..=MOST_ID).contains(&value.len()) && value.iter().all(allowed)).then(|| Self::of(value))
    }

    /// The caller's, or a new one.
    pub fn of_call(headers: &Headers) -> Self {
        Self::find(headers).unwrap_or_else(Self::make)
    }

    /// A new one: 16 hexadecimal digits, unique enough to find a call in a log, not a secret.
    pub fn make() -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut random = fastrand::u64(..);
        let mut text = [0_u8; 16];
        for digit in text.iter_mut().rev() {
            *digit = HEX[(random & 15) as usize];
            random >>= 4;
        }
        Self::of(&text)
    }

    /// Of at most [`MOST_ID`] bytes of ASCII.
    fn of(value: &[u8]) -> Self {
        let mut text = [0; MOST_ID];
        text[..value.len()].copy_from_slice(value);
        let length = value.len() as u8;
        Self { text, length }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Let a list have this id alone.
    pub fn put(&self, headers: &mut Headers) {
        headers.set(X_REQUEST_ID, self.as_bytes());
    }
}

fn is_ours_or_hop_by_hop(field: Field<'_>) -> bool {
    match field.token {
        // The other known ones are `access-control-*`, for one.
        Some(token) => OURS_OR_HOP_BY_HOP.has(token),
        None => match field.name.first() {
            Some(b'a') => {
                field.name.starts_with(b"access-") && !field.name.starts_with(b"access-control-")
            }
            Some(b'p') => field.name.starts_with(b"proxy-"),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rows: &[(&str, &str)]) -> Headers {
        rows.iter().copied().collect()
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let hop_by_hop = [
            ("connection", "x"),
            ("keep-alive", "5"),
            ("proxy-authorization", "x"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("access-error", "hook"),
            ("access-error", "again"),
            ("access-error-number", "-7"),
            ("access-attempts", "7"),
        ];
        let mut request = list(&hop_by_hop);
        request.push(Token::HOST, "a");
        request.push(Token::GRPC_TIMEOUT, "1S");
        to_upstream(&mut request);
        assert_eq!(request, list(&[("te", "trailers")]));

        let mut response = list(&hop_by_hop);
        to_downstream(&mut response);
        let hook = [
            ("access-error", "hook"),
            ("access-error", "again"),
            ("access-error-number", "-7"),
        ];
        assert_eq!(response, list(&hook));
    }

    #[test]
    fn each_field_that_does_not_pass_is_taken_out_where_it_is_the_only_one() {
        let names = [
            ("connection", true),
            ("proxy-of-others", true),
            ("access-of-others", true),
            ("access-attempts", true),
            ("upgrade", true),
            ("access-error", false),
            ("access-control-allow-origin", false),
            ("x-of-others", false),
        ];
        for (name, goes) in names {
            let mut response = list(&[("content-type", "application/grpc"), (name, "a")]);
            to_downstream(&mut response);
            assert_eq!(response.has(name), !goes, "{name}");
        }
        for name in ["host", "grpc-timeout", "access-error", "keep-alive"] {
            let mut request = list(&[("te", "trailers"), (name, "a")]);
            to_upstream(&mut request);
            assert_eq!(request, list(&[("te", "trailers")]), "{name}");
        }
        for te in [
            &[][..],
            &["gzip"],
            &["trailers", "trailers"],
            &["gzip", "trailers"],
        ] {
            let mut request: Headers = te.iter().map(|value| (Token::TE, value)).collect();
            to_upstream(&mut request);
            assert_eq!(request, list(&[("te", "trailers")]), "{te:?}");
        }
        let mut response = list(&[("te", "trailers")]);
        to_downstream(&mut response);
        assert!(response.is_empty());
    }

    #[test]
    fn everything_else_passes_with_all_its_values() {
        let kept = [
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "grpc-java"),
            ("grpc-encoding", "gzip"),
            ("grpc-accept-encoding", "gzip"),
            ("grpc-new-thing", "1"),
            ("grpc-status-details-bin", "AAA"),
            ("trace-bin", "AAA"),
            ("trace-bin", "BBB"),
            ("x-model", "m"),
            ("x-model-version", "3"),
            ("authorization", "Bearer x"),
        ];
        let mut request = list(&kept);
        to_upstream(&mut request);
        assert_eq!(request, list(&kept));

        let mut response = list(&kept[1..]);
        to_downstream(&mut response);
        assert_eq!(response, list(&kept[1..]));
    }

    #[test]
    fn a_hook_error_is_seen() {
        assert!(hook_failed(&list(&[("access-error", "hook")])));
        assert!(!hook_failed(&list(&[("access-error", "internal")])));
        assert!(!hook_failed(&Headers::new()));
    }

    #[test]
    fn a_call_is_of_low_priority_only_where_it_says_exactly_that() {
        assert!(is_low_priority(&list(&[("x-priority", "low")])));
        for other in ["", "LOW", "lowest", "high"] {
            assert!(!is_low_priority(&list(&[("x-priority", other)])), "{other}");
        }
        assert!(!is_low_priority(&Headers::new()));
    }

    #[test]
    fn a_call_is_of_high_priority_only_where_it_says_exactly_that() {
        assert_eq!(priority(&list(&[("x-priority", "high")])), Priority::High);
        assert_eq!(priority(&list(&[("x-priority", "High")])), Priority::Normal);
        assert_eq!(priority(&Headers::new()), Priority::Normal);
    }

    #[test]
    fn a_caller_may_want_a_lower_priority_than_the_one_that_is_given_and_not_a_higher_one() {
        for (asked, given, is) in [
            ("", Priority::Low, "low"),
            ("high", Priority::Low, "low"),
            ("low", Priority::High, "low"),
            ("high", Priority::High, "high"),
            ("urgent", Priority::High, "urgent"),
            ("", Priority::High, "high"),
            ("high", Priority::Normal, "normal"),
        ] {
            let mut headers = if asked.is_empty() {
                Headers::new()
            } else {
                list(&[("x-priority", asked)])
            };
            limit_priority(&mut headers, given);
            assert_eq!(headers.text(X_PRIORITY), Some(is), "{asked} {given:?}");
        }
    }

    #[test]
    fn only_a_harmless_request_id_is_taken_over() {
        let long = "a".repeat(64);
        for good in ["a", "A-z_0.9", &long] {
            let found = RequestId::find(&list(&[("x-request-id", good)]));
            assert_eq!(found.expect("a good one").as_str(), good);
        }
        let long = "a".repeat(65);
        for bad in ["", "a b", "a\"", "a/b", "a,b", &long] {
            let found = RequestId::find(&list(&[("x-request-id", bad)]));
            assert_eq!(found, None, "{bad:?}");
        }
    }

    #[test]
    fn made_request_ids_are_valid_and_different() {
        let ids: std::collections::HashSet<RequestId> =
            (0..1000).map(|_| RequestId::make()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert_eq!(id.as_str().len(), 16);
            let mut headers = list(&[("x-request-id", "another")]);
            id.put(&mut headers);
            assert_eq!(RequestId::find(&headers), Some(id));
            assert_eq!(headers.len(), 1);
        }
    }
}
