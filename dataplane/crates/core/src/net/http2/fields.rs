//! Header lists of the wire as heads, and back; and as `http` has them, for what speaks HTTP/1.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::headers::{Headers, Token};
use crate::net::stream::Head;

/// Of a request; none where a part of it is not of HTTP.
pub fn request(mut headers: Headers, is_cut: bool) -> Option<Head> {
    let verb = Method::from_bytes(headers.get(Token::METHOD)?).ok()?;
    // Nothing here depends on the authority, of which clients have many kinds.
    let path = headers.get(Token::PATH).unwrap_or_default();
    let path = std::str::from_utf8(path).ok()?.into();
    headers.remove_pseudo();
    Some(Head {
        verb,
        path,
        headers,
        is_cut,
    })
}

/// Of an answer.
pub fn answer(mut headers: Headers) -> Option<(StatusCode, Headers)> {
    let status = StatusCode::from_bytes(headers.get(Token::STATUS)?).ok()?;
    headers.remove_pseudo();
    Some((status, headers))
}

/// Of `http`'s map.
pub fn from_map(map: &HeaderMap) -> Headers {
    let mut headers = Headers::with_capacity(map.len(), 32 * map.len());
    for (name, value) in map {
        let (name, is_sensitive) = (name.as_str(), value.is_sensitive());
        if is_sensitive {
            headers.push_sensitive(name, value);
        } else {
            headers.push(name, value);
        }
    }
    headers
}

/// As `http`'s map; a field that it does not take is left out.
pub fn to_map(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    for field in headers.iter() {
        let name = HeaderName::from_bytes(field.name);
        if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_bytes(field.value)) {
            value.set_sensitive(field.is_sensitive);
            map.append(name, value);
        }
    }
    map
}
