//! `/docs`: one page that lists the paths and tries a call, from `/openapi.json`.

use bytes::Bytes;
use http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::rest::web::reply::Reply;

const PAGE: &str = include_str!("page.html");

/// Only the page's own script and style, by their hashes, and only this port: a name that got in as markup could do
/// nothing. A test compares the hashes, and prints them where they differ.
const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; \
    script-src 'sha256-j6IYbz3bfA+OcYl0ttPTmVG2DXW/w8H0R8NqhnaKLjQ='; \
    style-src 'sha256-ZgS1dnWQskUNQhSD0GqmkP14TH4Y8eDwvjKnBxV10Bs='";

pub fn reply() -> Reply {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    Reply {
        status: StatusCode::OK,
        headers: HeaderMap::from_iter(headers),
        body: Bytes::from_static(PAGE.as_bytes()),
    }
}
