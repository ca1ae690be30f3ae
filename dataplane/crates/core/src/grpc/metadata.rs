//! Which metadata crosses the proxy, each way. Maps are changed in place: they are moved from one side to
//! the other, never copied.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::deadline::GRPC_TIMEOUT;

/// How the messages of a direction are compressed.
pub const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// How the messages of the other direction may be compressed.
pub const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// How long to wait before the call is sent again, ms. gRFC A6, "Pushback": what is negative or no number means never.
pub const RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// Attempts made before this one.
pub const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
/// A call's id: the caller's, or made here; sent upstream, in trailers, log and INTERNAL messages.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The route key, where the caller gives it as metadata.
pub const X_MODEL: HeaderName = HeaderName::from_static("x-model");
/// The version or label, where the caller gives it as metadata.
pub const X_MODEL_VERSION: HeaderName = HeaderName::from_static("x-model-version");
/// A deployment's name, as seldon-core's client sends it to its gateways.
pub const SELDON: HeaderName = HeaderName::from_static("seldon");
/// How much a call matters: `high`, `low`, or anything else.
pub const X_PRIORITY: HeaderName = HeaderName::from_static("x-priority");
/// Trailer: what went wrong, in the words of the error table.
pub const ACCESS_ERROR: HeaderName = HeaderName::from_static("access-error");
/// Trailer: the number that a model's own code gives an error.
pub const ACCESS_ERROR_NUMBER: HeaderName = HeaderName::from_static("access-error-number");
/// Trailer: how many attempts the call took.
pub const ACCESS_ATTEMPTS: HeaderName = HeaderName::from_static("access-attempts");
/// Trailer: the endpoint that answered.
pub const ACCESS_ENDPOINT: HeaderName = HeaderName::from_static("access-endpoint");

const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Up to so many fields comparing each name costs less than the hash of one.
const FEW: usize = 12;

/// The first value of a field that few calls have: [`HeaderMap::get`], but that it costs next to nothing where the field
/// is not among a few.
pub fn rare<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    if headers.len() <= FEW && !headers.keys().any(|each| each == name) {
        return None;
    }
    headers.get(name)
}

/// Let metadata that ask for a label ask for the version that it stands for: the endpoint need not know the label.
pub fn set_version(headers: &mut HeaderMap, version: &str) {
    if let Some(asked) = headers.get_mut(X_MODEL_VERSION)
        // A version is text that has been compared with what callers send.
        && let Ok(version) = HeaderValue::from_str(version)
    {
        *asked = version;
    }
}

/// Turn a caller's request headers into those for an endpoint.
///
/// Hop-by-hop fields, the caller's `access-*` (they are ours to say) and its `grpc-timeout` go; whoever
/// calls this puts the time left in its place. `te: trailers` is there afterwards, as gRPC demands.
pub fn to_upstream(headers: &mut HeaderMap) {
    remove_where(headers, |name| {
        is_ours_or_hop_by_hop(name) || *name == header::HOST
    });
    headers.remove(&GRPC_TIMEOUT);
    if headers.get(header::TE) != Some(&TRAILERS) {
        headers.insert(header::TE, TRAILERS);
    }
}

/// Turn an endpoint's response headers or trailers into those for the caller.
///
/// Of its `access-*` only `access-error` and `access-error-number` stay: they say what the status is about, a user's
/// hook for one.
pub fn to_downstream(headers: &mut HeaderMap) {
    remove_where(headers, |name| {
        let is_of_error = *name == ACCESS_ERROR || *name == ACCESS_ERROR_NUMBER;
        (is_ours_or_hop_by_hop(name) && !is_of_error) || *name == header::TE
    });
}

/// Whether a model server says that a user's hook raised, which is not the endpoint's fault.
pub fn hook_failed(headers: &HeaderMap) -> bool {
    rare(headers, &ACCESS_ERROR).is_some_and(|value| value == "hook")
}

/// Attempts that the caller says were made before this call; 0 where it says nothing, or no number.
pub fn previous_attempts(headers: &HeaderMap) -> u32 {
    let value = rare(headers, &PREVIOUS_ATTEMPTS);
    let text = value.and_then(|value| value.to_str().ok());
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
pub fn priority(headers: &HeaderMap) -> Priority {
    match rare(headers, &X_PRIORITY).map(HeaderValue::as_bytes) {
        Some(b"high") => Priority::High,
        Some(b"low") => Priority::Low,
        _ => Priority::Normal,
    }
}

/// Whether the caller says that others matter more.
pub fn is_low_priority(headers: &HeaderMap) -> bool {
    priority(headers) == Priority::Low
}

/// Let a call matter as much as `given` says, or less where its caller says so.
pub fn limit_priority(headers: &mut HeaderMap, given: Priority) {
    let is_asked = rare(headers, &X_PRIORITY).is_some();
    if !is_asked || priority(headers) < given {
        headers.insert(X_PRIORITY, HeaderValue::from_static(given.name()));
    }
}

/// The caller's request id, if it is one: 1 to 64 of `A-Z a-z 0-9 . _ -`.
///
/// Anything else would end up in logs and headers as it is, so it is not taken over.
pub fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let value = rare(headers, &X_REQUEST_ID)?;
    let text = value.as_bytes();
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    ((1..=64).contains(&text.len()) && text.iter().all(allowed)).then_some(value)
}

/// Make a request id: 16 hexadecimal digits, unique enough to find a call in a log, not a secret.
///
/// The value is marked sensitive: it never repeats, and HPACK would otherwise push each one into the
/// connection's dynamic table, evicting the entries that do repeat. Do the same to a caller's id.
pub fn make_request_id() -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut random = fastrand::u64(..);
    let mut text = [0_u8; 16];
    for digit in text.iter_mut().rev() {
        *digit = HEX[(random & 15) as usize];
        random >>= 4;
    }
    // Hexadecimal digits are a valid header value.
    let mut value =
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"));
    value.set_sensitive(true);
    value
}

/// `access-*`, and the fields that RFC 9110 (7.6.1) ties to one connection. The engine refuses most of the latter
/// itself; a map may still come from elsewhere.
fn is_ours_or_hop_by_hop(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.as_bytes().first() {
        Some(b'a') => name.starts_with("access-") && !name.starts_with("access-control-"),
        Some(b'c') => name == "connection",
        Some(b'k') => name == "keep-alive",
        Some(b'p') => name.starts_with("proxy-"),
        Some(b't') => name == "transfer-encoding",
        Some(b'u') => name == "upgrade",
        _ => false,
    }
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    // Does not allocate in the usual case, where there is nothing to remove.
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in rows {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
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
        let mut request = map(&hop_by_hop);
        request.insert(header::HOST, HeaderValue::from_static("a"));
        request.insert(GRPC_TIMEOUT, HeaderValue::from_static("1S"));
        to_upstream(&mut request);
        assert_eq!(request, map(&[("te", "trailers")]));

        let mut response = map(&hop_by_hop);
        to_downstream(&mut response);
        let hook = [
            ("access-error", "hook"),
            ("access-error", "again"),
            ("access-error-number", "-7"),
        ];
        assert_eq!(response, map(&hook));
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
        let mut request = map(&kept);
        to_upstream(&mut request);
        assert_eq!(request, map(&kept));

        let mut response = map(&kept[1..]);
        to_downstream(&mut response);
        assert_eq!(response, map(&kept[1..]));
    }

    #[test]
    fn a_rare_field_is_found_among_few_and_among_many() {
        let mut headers = map(&[("te", "trailers"), ("x-model", "a"), ("x-model", "b")]);
        for more in 0..2 * FEW {
            for name in [X_MODEL, header::TE, X_PRIORITY] {
                assert_eq!(rare(&headers, &name), headers.get(&name), "{more} more");
            }
            let name = HeaderName::try_from(format!("x-{more}")).expect("a name");
            headers.insert(name, HeaderValue::from_static("c"));
        }
    }

    #[test]
    fn a_hook_error_is_seen() {
        assert!(hook_failed(&map(&[("access-error", "hook")])));
        assert!(!hook_failed(&map(&[("access-error", "internal")])));
        assert!(!hook_failed(&HeaderMap::new()));
    }

    #[test]
    fn a_call_is_of_low_priority_only_where_it_says_exactly_that() {
        assert!(is_low_priority(&map(&[("x-priority", "low")])));
        for other in ["", "LOW", "lowest", "high"] {
            assert!(!is_low_priority(&map(&[("x-priority", other)])), "{other}");
        }
        assert!(!is_low_priority(&HeaderMap::new()));
    }

    #[test]
    fn a_call_is_of_high_priority_only_where_it_says_exactly_that() {
        assert_eq!(priority(&map(&[("x-priority", "high")])), Priority::High);
        assert_eq!(priority(&map(&[("x-priority", "High")])), Priority::Normal);
        assert_eq!(priority(&HeaderMap::new()), Priority::Normal);
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
                HeaderMap::new()
            } else {
                map(&[("x-priority", asked)])
            };
            limit_priority(&mut headers, given);
            assert_eq!(headers["x-priority"], is, "{asked} {given:?}");
        }
    }

    #[test]
    fn only_a_harmless_request_id_is_taken_over() {
        let long = "a".repeat(64);
        for good in ["a", "A-z_0.9", &long] {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_str(good).unwrap());
            assert_eq!(request_id(&headers).unwrap(), good);
        }
        let long = "a".repeat(65);
        for bad in ["", "a b", "a\"", "a/b", "a,b", &long] {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_str(bad).unwrap());
            assert_eq!(request_id(&headers), None, "{bad:?}");
        }
    }

    #[test]
    fn made_request_ids_are_valid_different_and_sensitive() {
        let ids: std::collections::HashSet<HeaderValue> =
            (0..1000).map(|_| make_request_id()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert!(id.is_sensitive());
            assert_eq!(id.len(), 16);
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, id);
            assert!(request_id(&headers).is_some());
        }
    }
}
