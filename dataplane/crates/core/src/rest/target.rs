//! What a path of HTTP asks for.

use std::borrow::Cow;

use http::Method;

use super::oip;
use crate::error::{Error, ErrorKind};

/// A call that a request stands for; a model, version or label that it does not name is empty.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    Oip {
        call: oip::Call,
        model: String,
        version: String,
    },
    Tfs {
        call: Tfs,
        model: String,
        version: String,
        label: String,
    },
    /// A prediction of Seldon's.
    Seldon { model: String },
    /// The description of all paths.
    OpenApi,
    /// The page that tries a call.
    Docs,
}

/// Which call of TF Serving's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tfs {
    Status,
    Metadata,
    Predict,
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
    let target = match parts[..] {
        ["v2", ref parts @ ..] => in_oip(parts),
        ["v1", "models", ref parts @ ..] => in_tfs(parts),
        ["api", "v0.1" | "v1.0", "predictions"] | ["predict"] => Some(Target::Seldon {
            model: String::new(),
        }),
        // As Seldon's ingress has it.
        [
            "seldon",
            _namespace,
            model,
            "api",
            "v0.1" | "v1.0",
            "predictions",
        ] => Some(Target::Seldon {
            model: model.to_owned(),
        }),
        ["openapi.json"] => Some(Target::OpenApi),
        ["docs"] => Some(Target::Docs),
        _ => None,
    };
    let target = target.ok_or(Refusal::Unknown)?;
    let expected = target.verb();
    // An answer to HEAD is that to GET, without its body.
    if verb.as_str() == expected || (verb == Method::HEAD && expected == "GET") {
        Ok(target)
    } else {
        Err(Refusal::Verb(expected))
    }
}

fn in_oip(parts: &[&str]) -> Option<Target> {
    let (call, model, version) = match parts {
        [] => (oip::Call::ServerMetadata, "", ""),
        ["health", "live"] => (oip::Call::ServerLive, "", ""),
        ["health", "ready"] => (oip::Call::ServerReady, "", ""),
        ["models", model, rest @ ..] => {
            let (version, rest) = match rest {
                ["versions", version, rest @ ..] => (*version, rest),
                rest => ("", rest),
            };
            let call = match rest {
                [] => oip::Call::ModelMetadata,
                ["ready"] => oip::Call::ModelReady,
                ["infer"] => oip::Call::Infer,
                _ => return None,
            };
            (call, *model, version)
        }
        _ => return None,
    };
    Some(Target::Oip {
        call,
        model: model.to_owned(),
        version: version.to_owned(),
    })
}

/// The verb behind the colon is that of the last part: a model's name may have a colon itself.
fn in_tfs(parts: &[&str]) -> Option<Target> {
    let (parts, call) = match parts {
        [parts @ .., "metadata"] if parts.len() != 2 => (parts.to_vec(), Tfs::Metadata),
        [parts @ .., last] => match last.rsplit_once(':') {
            Some((last, verb)) if verb.eq_ignore_ascii_case("predict") => {
                ([parts, &[last]].concat(), Tfs::Predict)
            }
            Some(_) | None => ([parts, &[last]].concat(), Tfs::Status),
        },
        [] => return None,
    };
    let (model, version, label) = match parts[..] {
        [model] => (model, "", ""),
        [model, "versions", version] => (model, version, ""),
        [model, "labels", label] => (model, "", label),
        _ => return None,
    };
    Some(Target::Tfs {
        call,
        model: model.to_owned(),
        version: version.to_owned(),
        label: label.to_owned(),
    })
}

// === impl Target ===

impl Target {
    fn verb(&self) -> &'static str {
        match self {
            Self::Oip {
                call: oip::Call::Infer,
                ..
            }
            | Self::Tfs {
                call: Tfs::Predict, ..
            }
            | Self::Seldon { .. } => "POST",
            Self::Oip { .. } | Self::Tfs { .. } | Self::OpenApi | Self::Docs => "GET",
        }
    }
}

/// A part of a path without its `%` escapes (RFC 3986).
pub fn decoded(part: &str) -> Result<Cow<'_, str>, Error> {
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
            Ok(Target::Oip {
                call,
                model,
                version,
            }) => format!("{call:?} {model} {version}"),
            Ok(Target::Tfs {
                call,
                model,
                version,
                label,
            }) => format!("{call:?} {model} {version}{label}"),
            Ok(Target::Seldon { model }) => format!("Seldon {model}"),
            Ok(Target::OpenApi) => "OpenApi".to_owned(),
            Ok(Target::Docs) => "Docs".to_owned(),
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
            ("POST", "/v1/models/m:predict", "Predict m "),
            ("POST", "/v1/models/m:PREDICT", "Predict m "),
            ("POST", "/v1/models/a:b:predict", "Predict a:b "),
            ("POST", "/v1/models/m/versions/3:predict", "Predict m 3"),
            (
                "POST",
                "/v1/models/m/labels/stable:predict",
                "Predict m stable",
            ),
            ("GET", "/v1/models/m", "Status m "),
            ("GET", "/v1/models/m/versions/3/metadata", "Metadata m 3"),
            ("GET", "/v1/models/metadata/metadata", "Metadata metadata "),
            ("GET", "/v1/models/m/versions/metadata", "Status m metadata"),
            ("GET", "/v1/models/m:predict", "POST"),
            ("GET", "/v1/models", "unknown"),
            ("POST", "/api/v1.0/predictions", "Seldon "),
            ("POST", "/seldon/team/m/api/v1.0/predictions", "Seldon m"),
            ("GET", "/predict", "POST"),
            ("GET", "/openapi.json", "OpenApi"),
            ("POST", "/openapi.json", "GET"),
            ("GET", "/docs", "Docs"),
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
