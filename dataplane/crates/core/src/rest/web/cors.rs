//! Cross-origin requests of web pages (the Fetch standard, "HTTP-responses"): which of them a page may send and read.
//! Off unless the configuration names origins. Credentials are never allowed, so that `*` is safe to answer.

use http::Method;

use crate::config::Origins;
use crate::headers::{Headers, Token};
use crate::net::stream::Head;

const ANY: &str = "*";
const METHODS: &str = "GET, HEAD, POST";
/// What is understood here, whatever a page asks for; `docs/http.md` lists them, too.
const HEADERS: &str = "accept, authorization, content-encoding, content-type, grpc-timeout, inference-header-content-length, seldon, \
     traceparent, tracestate, x-api-key, x-grpc-web, x-model, x-model-version, x-priority, x-request-id, x-user-agent";
/// Seconds that a browser may go by an answer to a preflight.
const MAX_AGE: &str = "600";

/// Whether a request asks, for a page, what it may send.
pub fn is_preflight(head: &Head) -> bool {
    head.verb == Method::OPTIONS
        && head.headers.has(Token::ORIGIN)
        && head.headers.has(Token::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What the answer to a request has to say to a browser.
pub fn headers(origins: &Origins, head: &Head) -> Headers {
    let mut headers = Headers::new();
    if origins.is_empty() {
        return headers;
    }
    let is_open = origins.iter().any(|it| it == "*");
    if !is_open {
        // Also of answers without an origin: a cache must not give them to a page.
        headers.push(Token::VARY, Token::ORIGIN.name());
    }
    let Some(origin) = head.headers.get(Token::ORIGIN) else {
        return headers;
    };
    let is_allowed = origins.iter().any(|it| it.as_bytes() == origin);
    if !is_open && !is_allowed {
        return headers;
    }
    let allowed = if is_open { ANY.as_bytes() } else { origin };
    headers.push(Token::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    if is_preflight(head) {
        headers.push(Token::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.push(Token::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        headers.push(Token::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    } else {
        // Metadata of a model's own, too.
        headers.push(Token::ACCESS_CONTROL_EXPOSE_HEADERS, ANY);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(allowed: &[&str], verb: Method, asked: &[(&str, &str)]) -> String {
        let origins = Origins::from(
            allowed
                .iter()
                .map(|it| (*it).to_owned())
                .collect::<Vec<_>>(),
        );
        let head = Head {
            verb,
            path: "/".into(),
            headers: asked.iter().copied().collect(),
            is_cut: false,
            is_crowded: false,
        };
        let headers = headers(&origins, &head);
        let lines = headers.iter().map(|field| {
            let name = std::str::from_utf8(field.name).unwrap();
            let name = name.trim_start_matches("access-control-");
            format!("{name}: {}", field.text().unwrap())
        });
        let mut lines: Vec<_> = lines.collect();
        lines.sort();
        lines.join(" | ")
    }

    #[test]
    fn a_page_may_read_answers_where_its_origin_is_allowed() {
        let page = [("origin", "https://a.example")];
        let get = |allowed: &[&str]| answered(allowed, Method::GET, &page);
        assert_eq!(get(&[]), "");
        assert_eq!(get(&["*"]), "allow-origin: * | expose-headers: *");
        let all = "allow-origin: https://a.example | expose-headers: * | vary: origin";
        assert_eq!(get(&["https://b.example", "https://a.example"]), all);
        for other in [
            "https://a.example:8443",
            "http://a.example",
            "https://a.example.b",
            "null",
        ] {
            assert_eq!(get(&[other]), "vary: origin");
        }
        assert_eq!(answered(&["*"], Method::GET, &[]), "");
        assert_eq!(answered(&["https://a"], Method::GET, &[]), "vary: origin");
    }

    #[test]
    fn a_preflight_is_told_what_the_page_may_send() {
        let asked = [
            ("origin", "https://a"),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "content-type,x-model,x-other",
            ),
        ];
        let options = |allowed: &[&str]| answered(allowed, Method::OPTIONS, &asked);
        assert_eq!(options(&[]), "");
        assert_eq!(options(&["https://b"]), "vary: origin");
        let rest = "allow-methods: GET, HEAD, POST | allow-origin: * | max-age: 600";
        let known = HEADERS;
        assert_eq!(options(&["*"]), format!("allow-headers: {known} | {rest}"));
        assert!(known.contains("x-model,") && !known.contains("x-other"));
        assert!(options(&["https://a"]).contains("allow-origin: https://a"));
    }
}
