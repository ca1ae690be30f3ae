//! `/docs`: one page that lists the paths and tries a call, from `/openapi.json`.

use bytes::Bytes;
use http::StatusCode;

use crate::headers::Headers;
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
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", POLICY),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ];
    Reply {
        status: StatusCode::OK,
        headers: Headers::from_iter(headers),
        body: Bytes::from_static(PAGE.as_bytes()),
    }
}
