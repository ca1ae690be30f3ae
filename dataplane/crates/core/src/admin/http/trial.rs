//! `POST /try`: a call that a person makes from the dashboard. It goes the way of everybody's calls, but through no port.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::pages::{ORDER_HEADER, Page, TEXT, page};
use super::percent::decoded;
use crate::net::server::Server;

/// A call that takes longer is given up: a person looks at the page.
const LIMIT: Duration = Duration::from_secs(60);
/// Of an answer: more is nothing to look at.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// What may be called: the paths of models.
const ROOMS: [&str; 4] = ["/v1/", "/v2/", "/api/", "/seldon/"];
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where calls are tried.
#[derive(Clone)]
pub struct Trials {
    pub server: Arc<Server>,
    /// Of a request's body.
    pub max_bytes: usize,
    /// Whether everybody who reaches the port may call; else only pages of this machine.
    pub is_for_all: bool,
}

/// Whether a request is one to try a call.
pub fn is_one<B>(request: &Request<B>) -> bool {
    request.uri().path() == "/try"
}

/// Make the call and hand on its answer. `trials` is none where the port may only be read.
pub async fn answer<B>(request: Request<B>, trials: Option<Trials>) -> Page
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let answered = tried(request, trials).await;
    answered.unwrap_or_else(|(status, text)| page(status, TEXT, text + "\n"))
}

type Refused = (StatusCode, String);

async fn tried<B>(request: Request<B>, trials: Option<Trials>) -> Result<Page, Refused>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if *request.method() != Method::POST || !request.headers().contains_key(ORDER_HEADER) {
        let text = format!("POST with the header {ORDER_HEADER}: the dashboard does");
        return Err((StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let Some(trials) = trials else {
        let text = "the admin port can be reached from other machines: set admin_methods to try calls there";
        return Err((StatusCode::FORBIDDEN, text.to_owned()));
    };
    if !trials.is_for_all && !is_of_this_machine(request.headers()) {
        let text = "calls are tried by pages of localhost or of a number only: set admin_methods for other names";
        return Err((StatusCode::FORBIDDEN, text.to_owned()));
    }
    let query = request.uri().query().unwrap_or_default();
    let path = query.split('&').find_map(|it| it.strip_prefix("path="));
    let path = path.and_then(decoded).unwrap_or_default();
    if !ROOMS.iter().any(|room| path.starts_with(room)) || path.contains("/../") {
        let text = format!(
            "path is {path:?}; it has to begin with {}",
            ROOMS.join(", ")
        );
        return Err((StatusCode::BAD_REQUEST, text));
    }
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    let body = Limited::new(request.into_body(), trials.max_bytes);
    let calling = async {
        let body = body.collect().await.map_err(|error| {
            let limit = trials.max_bytes;
            let text = format!(
                "the body cannot be read, or has more than max_message_bytes ({limit}): {error}"
            );
            (StatusCode::PAYLOAD_TOO_LARGE, text)
        })?;
        let request = outgoing(&path, content_type, body.to_bytes())?;
        let answered = send(&trials.server, request).await;
        answered.map_err(|error| (StatusCode::BAD_GATEWAY, format!("the call failed: {error}")))
    };
    timeout(LIMIT, calling).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", LIMIT.as_secs());
        Err((StatusCode::GATEWAY_TIMEOUT, text))
    })
}

/// Whether a page asks whose name is this machine's: another site whose name suddenly means this machine does not get
/// to call models.
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|it| it.to_str().ok());
    let authority = host.and_then(|it| it.parse::<Authority>().ok());
    authority.is_some_and(|it| {
        let host = it.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok()
    })
}

fn outgoing(
    path: &str,
    content_type: Option<HeaderValue>,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Refused> {
    let method = if body.is_empty() {
        Method::GET
    } else {
        Method::POST
    };
    let mut request = Request::builder()
        .method(method)
        .uri(encoded(path))
        .header(HOST, "localhost")
        .body(Full::new(body))
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("path {path:?}: {error}")))?;
    if let Some(content_type) = content_type {
        request.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    Ok(request)
}

/// The path with what a request line cannot hold escaped; escapes that are in it stay as they are.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!' | b'$'..=b';' | b'=' | b'?'..=b'Z' | b'_' | b'a'..=b'z' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

async fn send(server: &Server, request: Request<Full<Bytes>>) -> io::Result<Page> {
    let stream = UnixStream::from_std(server.connect()?)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // Ends with the sender, which does not outlive this call.
    tokio::spawn(connection);
    let response: Response<Incoming> = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(io::Error::other)?.to_bytes();
    let mut answered = page(head.status, TEXT, String::new());
    for name in [CONTENT_TYPE, REQUEST_ID] {
        if let Some(value) = head.headers.get(&name) {
            answered.headers_mut().insert(name, value.clone());
        }
    }
    *answered.body_mut() = Full::new(body);
    Ok(answered)
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;
