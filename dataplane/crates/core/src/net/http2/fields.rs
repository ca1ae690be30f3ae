//! Header lists of the wire as heads, and back; and as `http` has them, for what speaks HTTP/1.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::headers::{Headers, Token};
use crate::net::stream::Head;

/// Of a request; none where a part of it is not of HTTP.
pub fn request(mut headers: Headers, (is_cut, is_crowded): (bool, bool)) -> Option<Head> {
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
        is_crowded,
    })
}

/// Of an answer.
pub fn answer(mut headers: Headers) -> Option<(StatusCode, Headers)> {
    let status = StatusCode::from_bytes(headers.get(Token::STATUS)?).ok()?;
    headers.remove_pseudo();
    Some((status, headers))
}

/// Behind a text that is cut.
const CUT: &str = "... (cut)";

/// Let a status fit a list of `most` bytes: its text is cut, and where that is not enough its details go. gRPC's C core says
/// what it takes at most, and refuses at random from half of that on.
pub fn fit(headers: &mut Headers, most: usize) {
    let most = most / 2;
    let Some(length) = headers.get(Token::GRPC_MESSAGE).map(<[u8]>::len) else {
        return;
    };
    let over = |headers: &Headers| (headers.size() + CUT.len()).saturating_sub(most);
    if headers.size() <= most {
        return;
    }
    if length < over(headers) {
        headers.remove(Token::GRPC_STATUS_DETAILS_BIN);
    }
    if headers.size() <= most {
        return;
    }
    let kept = length.saturating_sub(over(headers));
    let text = headers.get(Token::GRPC_MESSAGE).unwrap_or_default();
    let cut = [whole(&text[..kept]), CUT.as_bytes()].concat();
    headers.set(Token::GRPC_MESSAGE, cut);
}

/// A percent-encoded text that was cut, without the part of a character at its end.
fn whole(text: &[u8]) -> &[u8] {
    let text = match text {
        [kept @ .., b'%'] | [kept @ .., b'%', _] => kept,
        text => text,
    };
    // The bytes of a character beyond ASCII are escapes: one that begins it, and up to three of 0x80 to 0xbf.
    let mut begin = text;
    for follow in 0.. {
        let [rest @ .., b'%', high, _] = begin else {
            return text;
        };
        let wanted = match high.to_ascii_lowercase() {
            b'8' | b'9' | b'a' | b'b' => {
                begin = rest;
                continue;
            }
            b'c' | b'd' => 1,
            b'e' => 2,
            b'f' => 3,
            // It is ASCII.
            _ => return text,
        };
        return if follow < wanted { rest } else { text };
    }
    text
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

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
