//! URIs that say where data are. Of those that hold the data themselves (`data:`, RFC 2397), the data; nothing is fetched.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::error::Error;
use crate::rest::tensors::json::bad;

/// As callers write it, with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes of a scheme that an error repeats.
const SHOWN: usize = 16;

/// What a URI stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub bytes: Vec<u8>,
    /// As the URI says it, with its parameters; empty where it says none.
    pub media_type: String,
}

/// The data that a URI stands for; none where they have to be fetched.
///
/// # Errors
/// `bad_request`: it has another scheme, or breaks the rules of its own.
pub fn read(uri: &str) -> Result<Option<Found>, Error> {
    let (scheme, rest) = uri.split_once(':').unwrap_or_default();
    if scheme.eq_ignore_ascii_case("data") {
        return data(rest).map(Some);
    }
    if ["http", "https"]
        .iter()
        .any(|it| scheme.eq_ignore_ascii_case(it))
    {
        return Ok(None);
    }
    let shown: String = scheme.chars().take(SHOWN).collect();
    Err(bad(format!(
        "the scheme {shown:?} of a uri is none of data, http and https: send data:[TYPE];base64,..."
    )))
}

fn data(rest: &str) -> Result<Found, Error> {
    let (head, data) = rest
        .split_once(',')
        .ok_or_else(|| bad("a data: URI has no comma in front of its data".to_owned()))?;
    let bytes = percent_decoded(data.as_bytes())
        .ok_or_else(|| bad("a data: URI has a % without two hexadecimal digits".to_owned()))?;
    let is_base64 = |head: &&str| {
        let ending = head.len().checked_sub(";base64".len());
        ending
            .and_then(|at| head.get(at..))
            .is_some_and(|it| it.eq_ignore_ascii_case(";base64"))
    };
    let Some(head) = Some(head).filter(is_base64) else {
        let media_type = head.to_owned();
        return Ok(Found { bytes, media_type });
    };
    let bytes = BASE64.decode(&bytes);
    let bytes = bytes.map_err(|error| bad(format!("a data: URI is not base64: {error}")))?;
    let media_type = head[..head.len() - ";base64".len()].to_owned();
    Ok(Found { bytes, media_type })
}

/// Bytes without their `%` escapes (RFC 3986); none where one is broken.
pub fn percent_decoded(escaped: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let digits = digits.filter(|it| it.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_uri_is_its_bytes_and_its_type() {
        let cases: [(&str, &[u8], &str); 9] = [
            ("data:image/png;base64,AAH/", b"\0\x01\xff", "image/png"),
            ("DATA:image/png;BASE64,AAH/", b"\0\x01\xff", "image/png"),
            (
                "data:application/octet-stream;base64,YQ",
                b"a",
                "application/octet-stream",
            ),
            ("data:;base64,YWI%3D", b"ab", ""),
            ("data:,", b"", ""),
            ("data:,a%20b,c", b"a b,c", ""),
            (
                "data:text/plain;charset=utf-8,%C3%A9",
                "\u{e9}".as_bytes(),
                "text/plain;charset=utf-8",
            ),
            ("data:text/plain;base64x,YQ", b"YQ", "text/plain;base64x"),
            ("data:%ff,%FF%00", b"\xff\0", "%ff"),
        ];
        for (uri, bytes, media_type) in cases {
            let found = read(uri).unwrap().unwrap();
            assert_eq!(
                (&found.bytes[..], &found.media_type[..]),
                (bytes, media_type),
                "{uri}"
            );
        }
    }

    #[test]
    fn what_is_elsewhere_is_left_to_be_fetched() {
        for uri in ["http://127.0.0.1/x", "HTTPS://host/x"] {
            assert_eq!(read(uri).unwrap(), None);
        }
    }

    #[test]
    fn what_is_no_data_uri_is_told_why() {
        let cases = [
            ("file:///etc/passwd", "the scheme \"file\""),
            ("qiniu://zone/bucket/key", "the scheme \"qiniu\""),
            ("", "the scheme \"\""),
            ("no colon", "the scheme \"\""),
            ("data:", "has no comma"),
            ("data:image/png;base64", "has no comma"),
            ("data:;base64,&&&&", "is not base64"),
            ("data:;base64,YQ==YQ==", "is not base64"),
            ("data:,%", "a % without"),
            ("data:,%f", "a % without"),
            ("data:,%+f", "a % without"),
            ("data:;base64,%\u{e9}\u{e9}", "a % without"),
        ];
        for (uri, expected) in cases {
            let error = read(uri).unwrap_err().message.into_owned();
            assert!(error.contains(expected), "{uri}: {error}");
        }
        let long = read(&format!("{}:", "x".repeat(1 << 20))).unwrap_err();
        assert!(long.message.len() < 100, "{}", long.message.len());
    }
}
