//! Which page answers which request of the admin port.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::header::{ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::percent::decoded;
use super::{AdminPages, Ordered, Watching, index, notable};
use crate::admin::metrics::exposition;

pub const TEXT: &str = "text/plain; charset=utf-8";
pub const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

pub type Page = Response<Full<Bytes>>;

/// Answer one request; its body is never read.
pub fn answer<B>(request: &Request<B>, pages: &dyn AdminPages) -> Page {
    let path = request.uri().path();
    let calls = path.strip_prefix("/calls").and_then(|rest| match rest {
        "" if request.uri().query().is_some() => None,
        "" => pages.calls_json(None),
        id => pages.calls_json(Some(id.strip_prefix('/')?)),
    });
    if let Some(answer) = path
        .strip_prefix("/models/")
        .and_then(|it| order(request, it, pages))
    {
        return answer;
    }
    let notable = request.uri().query().filter(|_| path == "/calls");
    let notable = notable.and_then(|query| notable::answer(query, pages));
    let errors = (path == "/errors").then(|| pages.errors_json()).flatten();
    let history = history(path, pages);
    let is_known = matches!(path, "/" | "/metrics" | "/ready" | "/live" | "/status")
        || calls.is_some()
        || notable.is_some()
        || errors.is_some()
        || history.is_some();
    if !is_known {
        return page(
            StatusCode::NOT_FOUND,
            TEXT,
            format!("no such page; there are:\n{}", listed(pages)),
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = page(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "read-only: use GET\n".to_owned(),
        );
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    if let Some(calls) = calls {
        let (status, json) = match calls {
            Ok(json) => (StatusCode::OK, json),
            Err(json) => (StatusCode::NOT_FOUND, json),
        };
        return page(status, JSON, json);
    }
    if let Some(Err(text)) = notable {
        return page(StatusCode::BAD_REQUEST, TEXT, text);
    }
    if let Some(json) = errors.or(notable.and_then(Result::ok)) {
        let empty = page(StatusCode::OK, JSON, String::new());
        return compressible(empty, json, request.headers());
    }
    match history {
        Some(Ok(json)) => {
            let empty = page(StatusCode::OK, JSON, String::new());
            return compressible(empty, json, request.headers());
        }
        Some(Err(text)) => return page(StatusCode::NOT_FOUND, TEXT, text),
        None => {}
    }
    match path {
        "/metrics" => {
            let text = page(StatusCode::OK, exposition::CONTENT_TYPE, String::new());
            compressible(text, pages.metrics(), request.headers())
        }
        "/status" => {
            let json = page(StatusCode::OK, JSON, String::new());
            compressible(json, pages.status_json(), request.headers())
        }
        "/ready" => {
            let (status, mut lines) = match pages.ready() {
                Ok(()) => (StatusCode::OK, vec!["ready".to_owned()]),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, vec![reason]),
            };
            lines.extend(pages.remarks());
            page(status, TEXT, lines.join("\n") + "\n")
        }
        "/live" => page(StatusCode::OK, TEXT, "live\n".to_owned()),
        _ => {
            let state = pages.ready().err().unwrap_or_else(|| "ready".to_owned());
            // What is no JSON is shown as nothing; /status has it as it is.
            let status = serde_json::from_str(&pages.status_json()).unwrap_or_default();
            let html = page(StatusCode::OK, HTML, String::new());
            compressible(html, index::page(&status, &state), request.headers())
        }
    }
}

/// The header that an order must have. A web page cannot send it to another site without asking first, which nobody here
/// answers: so that no page that somebody looks at on this machine gives orders.
pub const ORDER_HEADER: &str = "x-dl-inference";

/// Answer `POST /models/NAME/load` and the like; none for what is no such page.
fn order<B>(request: &Request<B>, rest: &str, pages: &dyn AdminPages) -> Option<Page> {
    let (model, action) = rest.split_once('/')?;
    if *request.method() != Method::POST || !request.headers().contains_key(ORDER_HEADER) {
        let text = format!("POST with the header {ORDER_HEADER}: `dl-inference models` does\n");
        return Some(page(StatusCode::METHOD_NOT_ALLOWED, TEXT, text));
    }
    let model = decoded(model)?;
    Some(match pages.order(action, &model)? {
        Ordered::Given(id) => {
            let text = format!("{{\"order\":{id}}}");
            page(StatusCode::ACCEPTED, JSON, text)
        }
        Ordered::Crowded => {
            let text = "too many orders wait: try again later\n".to_owned();
            page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
        }
        Ordered::Denied => {
            let text = "the admin port can be reached from other machines: set admin_methods to take orders there\n";
            page(StatusCode::FORBIDDEN, TEXT, text.to_owned())
        }
    })
}

/// What `/history` and `/history/NAME` answer; none for what is no such page.
fn history(path: &str, pages: &dyn AdminPages) -> Option<Result<String, String>> {
    let rest = path.strip_prefix("/history")?;
    if rest.is_empty() {
        return pages.history_json(None);
    }
    let Some(model) = decoded(rest.strip_prefix('/')?) else {
        let text = "the model's name is not UTF-8 in percent-encoding\n";
        return Some(Err(text.to_owned()));
    };
    pages.history_json(Some(&model))
}

/// The pages as lines of text.
fn listed(pages: &dyn AdminPages) -> String {
    let has_more = pages.watching() != Watching::Never;
    let more = index::MORE.iter().filter(|_| has_more);
    let lines = index::PAGES.iter().chain(more);
    lines
        .map(|(path, what)| format!("{path:9} {what}\n"))
        .collect()
}

pub fn page(status: StatusCode, content_type: &'static str, body: String) -> Page {
    let mut page = Response::new(Full::from(body));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

/// Put the body into a page, compressed when the caller wants it so.
pub fn compressible(mut page: Page, body: String, request: &HeaderMap) -> Page {
    page.headers_mut()
        .insert(VARY, HeaderValue::from_static("accept-encoding"));
    if accepts_gzip(request)
        && let Ok(compressed) = gzip(body.as_bytes())
    {
        page.headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        *page.body_mut() = Full::from(compressed);
    } else {
        *page.body_mut() = Full::from(body);
    }
    page
}

/// Whether a list such as `gzip;q=1.0, *;q=0` names gzip with a share above 0.
fn accepts_gzip(request: &HeaderMap) -> bool {
    let values = request
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut items = values.flat_map(|value| value.split(','));
    items.any(|item| {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let quality = parameters
            .trim()
            .strip_prefix("q=")
            .map_or(Ok(1.0), str::parse::<f32>);
        name.trim().eq_ignore_ascii_case("gzip") && quality.is_ok_and(|quality| quality > 0.0)
    })
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_only_where_the_caller_accepts_it() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, GZIP ; q=0.5", true),
            ("gzip;q=0", false),
            ("gzip;q=0.0, identity", false),
            ("gzip;q=x", false),
            ("br", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(accepts_gzip(&headers), expected, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
