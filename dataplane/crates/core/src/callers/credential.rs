//! What a request shows of who sends it.

use super::Reason;
use crate::headers::{Headers, Token};

/// What a request shows of who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown<'h> {
    Key(&'h [u8]),
    /// Behind `Bearer`: a key, or a token of somebody who may give them out.
    Bearer(&'h [u8]),
    Signature(&'h [u8]),
}

/// The credential that a request shows, if it shows one.
///
/// # Errors
/// It shows several, or what is none: whoever reads another one of them than we do would take it for another caller's.
pub fn shown(headers: &Headers) -> Result<Option<Shown<'_>>, Reason> {
    let mut found = None;
    for field in headers.iter() {
        let shown = match field.token {
            Some(Token::X_API_KEY) => Shown::Key(field.value),
            Some(Token::X_SIGNATURE) => Shown::Signature(field.value),
            Some(Token::AUTHORIZATION) => Shown::Bearer(bearer(field.value).ok_or(Reason::Scheme)?),
            _ => continue,
        };
        if found.replace(shown).is_some() {
            return Err(Reason::TwoCredentials);
        }
    }
    Ok(found)
}

/// Leave no credential: it is nobody's business but ours.
pub fn forget(headers: &mut Headers) {
    headers.remove(Token::X_API_KEY);
    headers.remove(Token::X_SIGNATURE);
    headers.remove(Token::AUTHORIZATION);
}

/// What is behind the scheme (RFC 6750), whose case does not count.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked("Bearer ".len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_by(fields: &[(&str, &str)]) -> Result<Option<Vec<u8>>, Reason> {
        let headers = fields.iter().copied().collect();
        let shown = shown(&headers)?;
        Ok(shown.map(|(Shown::Key(it) | Shown::Bearer(it) | Shown::Signature(it))| it.to_vec()))
    }

    #[test]
    fn a_request_shows_one_key_in_one_of_two_headers() {
        for (fields, expected) in [
            (&[][..], Ok(None)),
            (&[("x-caller", "alice"), ("x-api-keys", "k")], Ok(None)),
            (&[("x-api-key", "k")], Ok(Some(b"k".to_vec()))),
            (&[("x-api-key", "")], Ok(Some(Vec::new()))),
            (&[("authorization", "Bearer k")], Ok(Some(b"k".to_vec()))),
            (&[("authorization", "bEARER   k ")], Ok(Some(b"k".to_vec()))),
            (&[("authorization", "Bearer ")], Err(Reason::Scheme)),
            (&[("authorization", "Bearerk")], Err(Reason::Scheme)),
            (&[("authorization", "Basic a2s6")], Err(Reason::Scheme)),
            (&[("authorization", "")], Err(Reason::Scheme)),
            (
                &[("x-api-key", "k"), ("x-api-key", "k")],
                Err(Reason::TwoCredentials),
            ),
            (
                &[("x-api-key", "k"), ("authorization", "Bearer k")],
                Err(Reason::TwoCredentials),
            ),
            (
                &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
                Err(Reason::TwoCredentials),
            ),
            (&[("x-signature", "id=a")], Ok(Some(b"id=a".to_vec()))),
            (
                &[("x-signature", "id=a"), ("x-api-key", "k")],
                Err(Reason::TwoCredentials),
            ),
        ] {
            assert_eq!(shown_by(fields), expected, "{fields:?}");
        }
    }
}
