//! What a path of HTTP asks for.

use http::Method;

use super::atserving;
use super::grpc::web::Form;
use super::oip::{self, repository};
use super::web::path::parts;
use crate::error::Error;
use crate::net::stream::Head;

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
    Seldon {
        model: String,
    },
    Repository {
        call: repository::Call,
        model: String,
    },
    /// A call of AtServing's.
    Eval {
        model: String,
        version: String,
    },
    /// Several of them.
    EvalBatch,
    /// A call of go-infer's.
    Envelope {
        model: String,
    },
    Embeddings,
    Rerank,
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
    Classify,
    Regress,
}

/// Why a request stands for no call.
#[derive(Debug)]
pub enum Refusal {
    Unknown,
    /// Another verb is expected.
    Verb(&'static str),
    Bad(Error),
}

/// What a request takes of who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: it is about the server's health, or is told that there is nothing.
    Nothing,
    /// A call of gRPC-Web, which takes what its method does.
    Method,
    /// That it is anybody's that is known; the calls that it becomes take more.
    Caller,
    /// The same, and a prediction may ask for what it takes to make one.
    Prediction,
    /// To see every model.
    EveryModel,
}

/// What a request takes of who sends it.
pub fn wanted(head: &Head) -> Wanted {
    if Form::of(&head.headers).is_some() && head.verb == Method::POST {
        return Wanted::Method;
    }
    let Ok(target) = find(&head.verb, head.path_alone()) else {
        return Wanted::Nothing;
    };
    match target {
        Target::Oip { call, .. } => match call {
            oip::Call::ServerLive | oip::Call::ServerReady => Wanted::Nothing,
            oip::Call::Infer => Wanted::Prediction,
            _ => Wanted::Caller,
        },
        Target::Tfs { call, .. } => match call {
            Tfs::Predict | Tfs::Classify | Tfs::Regress => Wanted::Prediction,
            Tfs::Status | Tfs::Metadata => Wanted::Caller,
        },
        Target::Seldon { .. }
        | Target::Eval { .. }
        | Target::EvalBatch
        | Target::Envelope { .. }
        | Target::Embeddings
        | Target::Rerank => Wanted::Prediction,
        Target::Repository { .. } | Target::Docs => Wanted::Caller,
        Target::OpenApi => Wanted::EveryModel,
    }
}

/// Find what a request asks for. `path` has no query.
///
/// # Errors
/// Nothing is there.
pub fn find(verb: &Method, path: &str) -> Result<Target, Refusal> {
    let parts = parts(path).map_err(Refusal::Bad)?;
    let parts: Vec<&str> = parts.iter().map(|it| &**it).collect();
    let target = match parts[..] {
        ["v2", "repository", ref parts @ ..] => in_repository(parts),
        ["v1", "embeddings"] => Some(Target::Embeddings),
        // Its version is that of Cohere's.
        ["rerank"] | ["v1" | "v2", "rerank"] => Some(Target::Rerank),
        ["v2", ref parts @ ..] => in_oip(parts),
        ["v1", "models", ref parts @ ..] => in_tfs(parts),
        ["v1", "batch"] => Some(Target::EvalBatch),
        ["v1", "eval", ref parts @ ..] => {
            atserving::target(parts).map(|(model, version)| Target::Eval { model, version })
        }
        ["api", "v0.1" | "v1.0", "predictions"] | ["predict"] => Some(Target::Seldon {
            model: String::new(),
        }),
        ["api", model] => Some(Target::Envelope {
            model: model.to_owned(),
        }),
        // As Seldon's ingress has it, and its client without a namespace.
        ["seldon", _, model, "api", "v0.1" | "v1.0", "predictions"]
        | ["seldon", model, "api", "v0.1" | "v1.0", "predictions"] => Some(Target::Seldon {
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

fn in_repository(parts: &[&str]) -> Option<Target> {
    let (call, model) = match parts {
        ["index"] => (repository::Call::Index, ""),
        ["models", model, "load"] => (repository::Call::Load, *model),
        ["models", model, "unload"] => (repository::Call::Unload, *model),
        _ => return None,
    };
    Some(Target::Repository {
        call,
        model: model.to_owned(),
    })
}

/// The verb behind the colon is that of the last part: a model's name may have a colon itself.
fn in_tfs(parts: &[&str]) -> Option<Target> {
    let (parts, call) = match parts {
        [parts @ .., "metadata"] if parts.len() != 2 => (parts.to_vec(), Tfs::Metadata),
        [parts @ .., last] => match last.rsplit_once(':') {
            Some((first, verb)) => match Tfs::of_verb(verb) {
                Some(call) => ([parts, &[first]].concat(), call),
                None => ([parts, &[last]].concat(), Tfs::Status),
            },
            None => ([parts, &[last]].concat(), Tfs::Status),
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

// === impl Tfs ===

impl Tfs {
    fn of_verb(verb: &str) -> Option<Self> {
        let verbs = [
            ("predict", Self::Predict),
            ("classify", Self::Classify),
            ("regress", Self::Regress),
        ];
        let found = verbs
            .into_iter()
            .find(|(name, _)| verb.eq_ignore_ascii_case(name));
        found.map(|(_, call)| call)
    }
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
                call: Tfs::Predict | Tfs::Classify | Tfs::Regress,
                ..
            }
            | Self::Seldon { .. }
            | Self::Repository { .. }
            | Self::Eval { .. }
            | Self::EvalBatch
            | Self::Envelope { .. }
            | Self::Embeddings
            | Self::Rerank => "POST",
            Self::Oip { .. } | Self::Tfs { .. } | Self::OpenApi | Self::Docs => "GET",
        }
    }
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
            Ok(Target::Repository { call, model }) => format!("{call:?} {model}"),
            Ok(Target::Eval { model, version }) => format!("Eval {model} {version}"),
            Ok(Target::Envelope { model }) => format!("Envelope {model}"),
            Ok(other @ (Target::EvalBatch | Target::Embeddings | Target::Rerank)) => {
                format!("{other:?}")
            }
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
            ("POST", "/v1/eval/m", "Eval m "),
            (
                "POST",
                "/v1/eval/a%2Fb/202601010000",
                "Eval a/b 202601010000",
            ),
            ("POST", "/v1/eval/m/1/2", "unknown"),
            ("POST", "/v1/eval", "unknown"),
            ("GET", "/v1/eval/m", "POST"),
            ("POST", "/v1/batch", "EvalBatch"),
            ("GET", "/v1/batch", "POST"),
            ("POST", "/api/m", "Envelope m"),
            ("POST", "/api/v1.0/predictions", "Seldon "),
            ("POST", "/api/m/n", "unknown"),
            ("POST", "/api", "unknown"),
            ("POST", "/v1/embeddings", "Embeddings"),
            ("POST", "/v1/rerank", "Rerank"),
            ("POST", "/v2/rerank", "Rerank"),
            ("POST", "/rerank", "Rerank"),
            ("GET", "/rerank", "POST"),
            ("POST", "/v1/models/m:classify", "Classify m "),
            ("POST", "/v1/models/m/versions/3:Regress", "Regress m 3"),
            ("GET", "/v1/models/m:regress", "POST"),
            ("GET", "/v1/models/m:other", "Status m:other "),
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
            ("POST", "/seldon//m/api/v0.1/predictions", "Seldon m"),
            ("POST", "/seldon/m/api/v1.0/predictions", "Seldon m"),
            ("GET", "/predict", "POST"),
            ("POST", "/v2/repository/index", "Index "),
            ("POST", "/v2/repository/models/m/load", "Load m"),
            ("POST", "/v2/repository/models/m/unload", "Unload m"),
            ("GET", "/v2/repository/index", "POST"),
            ("POST", "/v2/repository/models/m", "unknown"),
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
