//! What a header list must be (RFC 9113#8): judged once, when it comes.

use crate::headers::{Field, Headers, TOKENS, Token, Tokens};

/// What a list of fields begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Request,
    Response,
    Trailers,
}

/// What the rest of the connection wants to know of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Of an answer; 0 otherwise.
    pub status: u16,
    pub content_length: Option<u64>,
}

/// The list is malformed (RFC 9113#8.1.1), with why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// # Errors
/// Something that is wrong with the list. What is missing is no fault in one that was cut.
pub fn judge(headers: &Headers, list: List, is_cut: bool) -> Result<Judged, Malformed> {
    let mut judged = Judged::default();
    let (mut method, mut scheme, mut path, mut authority) = (None, false, None, false);
    let mut is_regular = false;
    for (place, token) in headers.tokens().enumerate() {
        if token.is_some_and(|token| IS_PLAIN[token.place()]) {
            is_regular = true;
            continue;
        }
        let Field { name, value, .. } = headers.at(place);
        let once = |is_there: bool| match is_there {
            true => Err(Malformed("a pseudo-header field twice")),
            false => Ok(()),
        };
        if name.first() == Some(&b':') {
            if is_regular {
                return Err(Malformed("a pseudo-header field after others"));
            }
            match (list, token) {
                (List::Request, Some(Token::METHOD)) => once(method.replace(value).is_some())?,
                (List::Request, Some(Token::SCHEME)) => {
                    once(std::mem::replace(&mut scheme, true))?;
                }
                (List::Request, Some(Token::PATH)) => once(path.replace(value).is_some())?,
                (List::Request, Some(Token::AUTHORITY)) => {
                    once(std::mem::replace(&mut authority, true))?;
                }
                (List::Response, Some(Token::STATUS)) => {
                    once(judged.status != 0)?;
                    judged.status = status(value).ok_or(Malformed("a status that is none"))?;
                }
                _ => return Err(Malformed("a pseudo-header field that has no place here")),
            }
            continue;
        }
        is_regular = true;
        match token {
            // Names that are known are right.
            None if !is_name(name) => return Err(Malformed("a field name that is none")),
            Some(token) if OF_CONNECTION.has(token) => {
                return Err(Malformed("a field of HTTP/1 connections"));
            }
            Some(Token::TE) if !value.eq_ignore_ascii_case(b"trailers") => {
                return Err(Malformed("te that is not trailers"));
            }
            Some(Token::CONTENT_LENGTH) if list != List::Trailers => {
                let length = number(value).ok_or(Malformed("a bad content-length"))?;
                if judged
                    .content_length
                    .replace(length)
                    .is_some_and(|it| it != length)
                {
                    return Err(Malformed("two values of content-length"));
                }
            }
            _ => {}
        }
    }
    // All at once, as they lie together; names with control characters are none.
    if !is_value(headers.bytes()) && !headers.iter().all(|field| is_value(field.value)) {
        return Err(Malformed("a field value with control characters"));
    }
    if is_cut {
        return Ok(judged);
    }
    match list {
        List::Request if method == Some(b"CONNECT".as_slice()) => match (scheme, path, authority) {
            (false, None, true) => Ok(judged),
            _ => Err(Malformed("CONNECT with a path or without an authority")),
        },
        List::Request if method.is_none_or(<[u8]>::is_empty) => Err(Malformed("no method")),
        List::Request if !scheme => Err(Malformed("no scheme")),
        List::Request if path.is_none_or(<[u8]>::is_empty) => Err(Malformed("no path")),
        List::Response if judged.status == 0 => Err(Malformed("no status")),
        _ => Ok(judged),
    }
}

fn status(value: &[u8]) -> Option<u16> {
    match value {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            let digit = |it: &u8| u16::from(it - b'0');
            Some(digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        _ => None,
    }
}

fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        value
            .iter()
            .fold(0, |sum, it| sum * 10 + u64::from(it - b'0')),
    )
}

/// A token (RFC 9110#5.6.2) without upper case.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|it| NAME[usize::from(*it)])
}

/// No control characters but the tab. White space around it, which RFC 9113#8.2.1 forbids, passes: gRPC's servers send their
/// messages as they are.
pub fn is_value(value: &[u8]) -> bool {
    let (pieces, rest) = value.as_chunks::<PIECE>();
    if !pieces.iter().all(is_piece_of_value) {
        return false;
    }
    match value.last_chunk::<PIECE>() {
        // The last ones again, with what is left.
        Some(last) => rest.is_empty() || is_piece_of_value(last),
        None => {
            let mut piece = [b' '; PIECE];
            piece[..rest.len()].copy_from_slice(rest);
            is_piece_of_value(&piece)
        }
    }
}

/// Bytes that are looked at together.
const PIECE: usize = 16;

/// Without a way out in its midst, so that it takes a few instructions.
#[inline]
fn is_piece_of_value(piece: &[u8; PIECE]) -> bool {
    let wrong = piece.iter().fold(0, |wrong, byte| {
        wrong | (u8::from(*byte < b' ') & u8::from(*byte != b'\t')) | u8::from(*byte == 0x7f)
    });
    wrong == 0
}

/// Fields that HTTP/1 ties to a connection.
const OF_CONNECTION: Tokens = Tokens::of(&[
    Token::CONNECTION,
    Token::KEEP_ALIVE,
    Token::PROXY_CONNECTION,
    Token::TRANSFER_ENCODING,
    Token::UPGRADE,
]);

/// Names of which nothing is asked.
static IS_PLAIN: [bool; TOKENS] = {
    let asked = OF_CONNECTION.and(&[Token::TE, Token::CONTENT_LENGTH]);
    let mut table = [true; TOKENS];
    let mut place = 0;
    while place < TOKENS {
        let token = Token::at(place);
        table[place] = !token.is_pseudo() && !asked.has(token);
        place += 1;
    }
    table
};

const NAME: [bool; 256] = {
    let mut table = [false; 256];
    let legal = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
    let mut index = 0;
    while index < legal.len() {
        table[legal[index] as usize] = true;
        index += 1;
    }
    table
};

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
