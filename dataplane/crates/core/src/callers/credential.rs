//! What a request shows of who sends it.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use super::Reason;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const X_SIGNATURE: HeaderName = HeaderName::from_static("x-signature");

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
pub fn shown(headers: &HeaderMap) -> Result<Option<Shown<'_>>, Reason> {
    let mut found = None;
    for (name, value) in headers {
        let shown = if *name == X_API_KEY {
            Shown::Key(value.as_bytes())
        } else if *name == X_SIGNATURE {
            Shown::Signature(value.as_bytes())
        } else if *name == AUTHORIZATION {
            Shown::Bearer(bearer(value.as_bytes()).ok_or(Reason::Scheme)?)
        } else {
            continue;
        };
        if found.replace(shown).is_some() {
            return Err(Reason::TwoCredentials);
        }
    }
    Ok(found)
}

/// Leave no credential: it is nobody's business but ours.
pub fn forget(headers: &mut HeaderMap) {
    headers.remove(X_API_KEY);
    headers.remove(X_SIGNATURE);
    headers.remove(AUTHORIZATION);
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
    use http::HeaderValue;

    fn shown_by(fields: &[(&'static str, &'static str)]) -> Result<Option<Vec<u8>>, Reason> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
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
