//! Header lists of the wire as maps, and back.

use std::cell::Cell;
use std::sync::LazyLock;

use dl_http2::{Headers, Token};
use http::header::HeaderName;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::net::stream::Head;

/// The names that the engine knows, as `http` has them; none of the protocol's own.
static NAMES: LazyLock<Vec<Option<HeaderName>>> = LazyLock::new(|| {
    let name = |token: Token| HeaderName::from_bytes(token.name().as_bytes()).ok();
    Token::all().map(name).collect()
});

/// Of a request; none where a part of it is not of HTTP.
pub fn request(headers: &Headers, is_cut: bool) -> Option<Head> {
    let verb = Method::from_bytes(headers.get(Token::METHOD)?).ok()?;
    // Nothing here depends on the authority, of which clients have many kinds.
    let uri = match headers.get(Token::PATH) {
        Some(path) => Uri::from(PathAndQuery::try_from(path).ok()?),
        None => Uri::default(),
    };
    let headers = fields(headers);
    Some(Head {
        verb,
        uri,
        headers,
        is_cut,
    })
}

/// Of an answer.
pub fn answer(headers: &Headers) -> Option<(StatusCode, HeaderMap)> {
    let status = StatusCode::from_bytes(headers.get(Token::STATUS)?).ok()?;
    Some((status, fields(headers)))
}

/// All fields but those of the protocol.
pub fn fields(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    for field in headers.iter() {
        if field.name.first() == Some(&b':') {
            continue;
        }
        let name = match field.token {
            Some(token) => NAMES[token.place()].clone(),
            None => HeaderName::from_bytes(field.name).ok(),
        };
        // The engine has judged both.
        let (Some(name), Ok(mut value)) = (name, HeaderValue::from_bytes(field.value)) else {
            continue;
        };
        value.set_sensitive(field.is_sensitive);
        map.append(name, value);
    }
    map
}

thread_local! {
    // The list that is sent next on this thread.
    static SPARE: Cell<Headers> = Cell::new(Headers::new());
}

/// Most memory of a list that is kept for the next one, bytes.
const MOST_KEPT: usize = 16 * 1024;

/// Use a list that `fill` fills.
fn with_list<R>(fill: impl FnOnce(&mut Headers), then: impl FnOnce(&Headers) -> R) -> R {
    let mut list = SPARE.take();
    list.clear();
    fill(&mut list);
    let result = then(&list);
    if list.memory() <= MOST_KEPT {
        SPARE.set(list);
    }
    result
}

/// As trailers of the wire.
pub fn trailers<R>(map: &HeaderMap, then: impl FnOnce(&Headers) -> R) -> R {
    with_list(|list| extend(list, map), then)
}

/// As the head of an answer.
pub fn answered<R>((status, map): (StatusCode, &HeaderMap), then: impl FnOnce(&Headers) -> R) -> R {
    let fill = |list: &mut Headers| {
        list.push_known(Token::STATUS, status.as_str().as_bytes());
        extend(list, map);
    };
    with_list(fill, then)
}

/// As the head of a request.
pub fn asked<R>(head: &Head, then: impl FnOnce(&Headers) -> R) -> R {
    let fill = |list: &mut Headers| {
        list.push_known(Token::METHOD, head.verb.as_str().as_bytes());
        let scheme = head.uri.scheme_str().unwrap_or("http");
        list.push_known(Token::SCHEME, scheme.as_bytes());
        if let Some(authority) = head.uri.authority() {
            list.push_known(Token::AUTHORITY, authority.as_str().as_bytes());
        }
        list.push_known(Token::PATH, head.path().as_bytes());
        extend(list, &head.headers);
    };
    with_list(fill, then)
}

fn extend(headers: &mut Headers, map: &HeaderMap) {
    for (name, value) in map {
        let (name, value, is_sensitive) = (name.as_str(), value.as_bytes(), value.is_sensitive());
        if is_sensitive {
            headers.push_sensitive(name.as_bytes(), value);
        } else {
            headers.push(name.as_bytes(), value);
        }
    }
}
