//! What a path of HTTP asks for.

use std::borrow::Cow;

use http::Method;

use super::oip;
use crate::error::{Error, ErrorKind};

/// A call that a request stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    pub call: oip::Call,
    /// Empty where the call names none.
    pub model: String,
    pub version: String,
}

/// Why a request stands for no call.
#[derive(Debug)]
pub enum Refusal {
    Unknown,
    /// Another verb is expected.
    Verb(&'static str),
    Bad(Error),
}

/// Find what a request asks for. `path` has no query.
///
/// # Errors
/// Nothing is there.
pub fn find(verb: &Method, path: &str) -> Result<Target, Refusal> {
    let mut parts = Vec::new();
    for part in path.strip_prefix('/').unwrap_or_default().split('/') {
        parts.push(decoded(part).map_err(Refusal::Bad)?);
    }
    if parts.last().is_some_and(|last| last.is_empty()) {
        parts.pop();
    }
    let parts: Vec<&str> = parts.iter().map(|it| &**it).collect();
    let (call, model, version) = match parts[..] {
        ["v2"] => (oip::Call::ServerMetadata, "", ""),
        ["v2", "health", "live"] => (oip::Call::ServerLive, "", ""),
        ["v2", "health", "ready"] => (oip::Call::ServerReady, "", ""),
        ["v2", "models", model] => (oip::Call::ModelMetadata, model, ""),
        ["v2", "models", model, "ready"] => (oip::Call::ModelReady, model, ""),
        ["v2", "models", model, "infer"] => (oip::Call::Infer, model, ""),
        ["v2", "models", model, "versions", version] => (oip::Call::ModelMetadata, model, version),
        ["v2", "models", model, "versions", version, "ready"] => {
            (oip::Call::ModelReady, model, version)
        }
        ["v2", "models", model, "versions", version, "infer"] => (oip::Call::Infer, model, version),
        _ => return Err(Refusal::Unknown),
    };
    let expected = if call == oip::Call::Infer {
        "POST"
    } else {
        "GET"
    };
    // An answer to HEAD is that to GET, without its body.
    if verb.as_str() != expected && !(verb == Method::HEAD && expected == "GET") {
        return Err(Refusal::Verb(expected));
    }
    Ok(Target {
        call,
        model: model.to_owned(),
        version: version.to_owned(),
    })
}

/// A part of a path without its `%` escapes (RFC 3986).
fn decoded(part: &str) -> Result<Cow<'_, str>, Error> {
    if !part.contains('%') {
        return Ok(part.into());
    }
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let digits = digits.filter(|it| it.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|it| u8::from_str_radix(it, 16).ok());
        bytes.push(byte.ok_or_else(|| unreadable(part))?);
        rest = &tail[2..];
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable(part))?;
    Ok(text.into())
}

fn unreadable(part: &str) -> Error {
    let text = format!("{part:?} in the path is not UTF-8 in % escapes");
    Error::new(ErrorKind::BadRequest, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(verb: &str, path: &str) -> String {
        match find(&verb.parse().unwrap(), path) {
            Ok(Target {
                call,
                model,
                version,
            }) => format!("{call:?} {model} {version}"),
            Err(Refusal::Unknown) => "unknown".to_owned(),
            Err(Refusal::Verb(verb)) => verb.to_owned(),
            Err(Refusal::Bad(error)) => error.message.into_owned(),
        }
    }

    #[test]
    fn a_path_says_which_call_of_which_model() {
        let cases = [
            ("GET", "/v2", "ServerMetadata  "),
            ("GET", "/v2/", "ServerMetadata  "),
            ("HEAD", "/v2/health/live", "ServerLive  "),
            ("GET", "/v2/health/ready", "ServerReady  "),
            ("GET", "/v2/models/m", "ModelMetadata m "),
            ("GET", "/v2/models/m/versions/3/ready", "ModelReady m 3"),
            ("POST", "/v2/models/m/infer", "Infer m "),
            (
                "POST",
                "/v2/models/a%2Fb%20c/versions/1/infer",
                "Infer a/b c 1",
            ),
            ("GET", "/v2/models/m/infer", "POST"),
            ("HEAD", "/v2/models/m/infer", "POST"),
            ("POST", "/v2/models/m", "GET"),
            ("GET", "/", "unknown"),
            ("GET", "/v2/models", "unknown"),
            ("GET", "/v2/models/m/versions/1/2", "unknown"),
            (
                "GET",
                "/v2/models/%f",
                "\"%f\" in the path is not UTF-8 in % escapes",
            ),
            (
                "GET",
                "/v2/models/%ff",
                "\"%ff\" in the path is not UTF-8 in % escapes",
            ),
            (
                "GET",
                "/v2/models/%+1",
                "\"%+1\" in the path is not UTF-8 in % escapes",
            ),
        ];
        for (verb, path, expected) in cases {
            assert_eq!(found(verb, path), expected, "{verb} {path}");
        }
    }
}
