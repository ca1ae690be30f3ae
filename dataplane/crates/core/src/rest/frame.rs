//! What an error looks like in each form of HTTP.

use super::{atserving, goinfer, openai};
use crate::grpc::metadata::RequestId;
use crate::rest::web::reply::{Failed, Reply};

/// The form that a caller speaks, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A problem (RFC 9457).
    Problem,
    AtServing,
    GoInfer,
    OpenAi,
}

// === impl Frame ===

impl Frame {
    pub fn of(path: &str) -> Self {
        let path = path.trim_end_matches('/');
        let is_of = |root: &str| {
            let rest = path.strip_prefix(root);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if is_of("/v1/eval") || is_of("/v1/batch") {
            return Self::AtServing;
        }
        if matches!(
            path,
            "/v1/embeddings" | "/rerank" | "/v1/rerank" | "/v2/rerank"
        ) {
            return Self::OpenAi;
        }
        let is_one = |rest: &str| !rest.is_empty() && !rest.contains('/');
        if path.strip_prefix("/api/").is_some_and(is_one) {
            return Self::GoInfer;
        }
        Self::Problem
    }

    /// The answer to a request that failed.
    pub fn reply(self, failed: &Failed, request_id: &RequestId) -> Reply {
        let mut reply = match self {
            Self::Problem => Reply::problem(failed, request_id),
            Self::AtServing => {
                let (status, problem) = atserving::problem(failed, request_id);
                Reply::of_problem(status, &problem)
            }
            // Who calls is not known: the request could not be read.
            Self::GoInfer => goinfer::problem(failed, "", request_id),
            Self::OpenAi => openai::problem(failed, request_id),
        };
        reply.set_retry_after(failed);
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_which_form_its_caller_reads() {
        for (path, frame) in [
            ("/v1/eval/m", Frame::AtServing),
            ("/v1/eval/m/3", Frame::AtServing),
            ("/v1/batch", Frame::AtServing),
            ("/v1/batch/", Frame::AtServing),
            ("/v1/batches", Frame::Problem),
            ("/v1/embeddings", Frame::OpenAi),
            ("/v2/rerank", Frame::OpenAi),
            ("/api/m", Frame::GoInfer),
            ("/api/", Frame::Problem),
            ("/api/v1.0/predictions", Frame::Problem),
            ("/v2/models/m/infer", Frame::Problem),
            ("/", Frame::Problem),
        ] {
            assert_eq!(Frame::of(path), frame, "{path}");
        }
    }
}
