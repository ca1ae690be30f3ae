//! Header lists of the wire as maps, and back.

use dl_http2::{Headers, Token};
use http::header::HeaderName;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::net::stream::Head;

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
        // The engine has judged both.
        let (Ok(name), Ok(mut value)) = (
            HeaderName::from_bytes(field.name),
            HeaderValue::from_bytes(field.value),
        ) else {
            continue;
        };
        value.set_sensitive(field.is_sensitive);
        map.append(name, value);
    }
    map
}

/// A list for the wire.
pub fn list(map: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    extend(&mut headers, map);
    headers
}

/// The list of an answer.
pub fn answered(status: StatusCode, map: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    headers.push_known(Token::STATUS, status.as_str().as_bytes());
    extend(&mut headers, map);
    headers
}

/// The list of a request.
pub fn asked(head: &Head) -> Headers {
    let mut headers = Headers::new();
    headers.push_known(Token::METHOD, head.verb.as_str().as_bytes());
    let scheme = head.uri.scheme_str().unwrap_or("http");
    headers.push_known(Token::SCHEME, scheme.as_bytes());
    if let Some(authority) = head.uri.authority() {
        headers.push_known(Token::AUTHORITY, authority.as_str().as_bytes());
    }
    headers.push_known(Token::PATH, head.path().as_bytes());
    extend(&mut headers, &head.headers);
    headers
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
