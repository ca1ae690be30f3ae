//! The dashboard: a page for operators whose files are in the program, and the documents that the control plane shows
//! it. Where there is no dashboard, `/` is a plain page.

use http::header::{ALLOW, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, StatusCode};

use super::AdminPages;
use super::pages::{HTML, Page, TEXT, compressible, page};
use super::percent::decoded;

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Nothing but these files runs or is loaded, whatever a model is called.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Said of a model of which the control plane shows nothing there.
const NOTHING: [(&str, &str); 2] = [
    ("/samples/", "{\"samples\": []}"),
    (
        "/releases/",
        "{\"begins\": \"none\", \"problem\": null, \"revisions\": []}",
    ),
];

/// Path, type and content of each file.
const FILES: [(&str, &str, &str); 15] = [
    ("/", HTML, include_str!("dashboard/index.html")),
    (
        "/dashboard/style.css",
        CSS,
        include_str!("dashboard/style.css"),
    ),
    ("/dashboard/app.js", JS, include_str!("dashboard/app.js")),
    ("/dashboard/live.js", JS, include_str!("dashboard/live.js")),
    (
        "/dashboard/parts.js",
        JS,
        include_str!("dashboard/parts.js"),
    ),
    (
        "/dashboard/chart.js",
        JS,
        include_str!("dashboard/chart.js"),
    ),
    (
        "/dashboard/table.js",
        JS,
        include_str!("dashboard/table.js"),
    ),
    (
        "/dashboard/problems.js",
        JS,
        include_str!("dashboard/problems.js"),
    ),
    (
        "/dashboard/overview.js",
        JS,
        include_str!("dashboard/overview.js"),
    ),
    (
        "/dashboard/model.js",
        JS,
        include_str!("dashboard/model.js"),
    ),
    (
        "/dashboard/releases.js",
        JS,
        include_str!("dashboard/releases.js"),
    ),
    (
        "/dashboard/calls.js",
        JS,
        include_str!("dashboard/calls.js"),
    ),
    (
        "/dashboard/sources.js",
        JS,
        include_str!("dashboard/sources.js"),
    ),
    (
        "/dashboard/config.js",
        JS,
        include_str!("dashboard/config.js"),
    ),
    ("/dashboard/try.js", JS, include_str!("dashboard/try.js")),
];

/// Answer a request for a file or a document of the dashboard; none for what is neither.
pub fn answer<B>(request: &Request<B>, pages: &dyn AdminPages) -> Option<Page> {
    if !pages.has_dashboard() {
        return None;
    }
    let path = request.uri().path();
    let file = FILES.iter().find(|(at, ..)| *at == path);
    let (content_type, text) = match file {
        Some((_, content_type, text)) => (*content_type, (*text).to_owned()),
        None => {
            let path = decoded(path)?;
            let nothing = || {
                let found = NOTHING.iter().find(|(place, _)| path.starts_with(place));
                found.map(|(_, document)| (*document).into())
            };
            let document = pages.document(&path).or_else(nothing)?;
            ("application/json", document.to_string())
        }
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "read-only: use GET\n".to_owned();
        let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
        let headers = refused.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(refused);
    }
    let mut found = page(StatusCode::OK, content_type, String::new());
    let headers = found.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Some(compressible(found, text, request.headers()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_at_most_100_kilobytes_in_all_and_name_no_other_place() {
        let all: usize = FILES.iter().map(|(_, _, text)| text.len()).sum();
        assert!(all <= 100_000, "{all} bytes");
        for (path, _, text) in FILES {
            let places = text.replace("http://www.w3.org/2000/svg", "");
            for part in [
                "http:",
                "https:",
                "innerHTML",
                "eval(",
                "style=",
                "onclick=",
            ] {
                assert!(!places.contains(part), "{path} has {part}");
            }
        }
    }
}
