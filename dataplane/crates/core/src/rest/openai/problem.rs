//! Errors as the clients of these forms read them.

use http::StatusCode;

use crate::error::ErrorKind;
use crate::grpc::metadata::RequestId;
use crate::rest::web::reply::{Failed, Reply};

/// An error as OpenAI's clients read it, and as Cohere's do (`message`).
pub fn problem(failed: &Failed, request_id: &RequestId) -> Reply {
    let (status, problem) = failed.problem(request_id);
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "authentication_error",
        it if it.is_client_error() => "invalid_request_error",
        _ => "server_error",
    };
    let code = match failed.kind {
        Some(ErrorKind::NoRoute) => "model_not_found",
        Some(kind) => kind.name(),
        None => failed.code.name(),
    };
    let mut json = serde_json::json!({
        "error": {"message": failed.text, "type": kind, "param": null, "code": code},
        "message": failed.text,
        "request_id": problem["request_id"],
    });
    for name in ["kind", "remedy"] {
        if let Some(value) = problem.get(name) {
            json[name] = value.clone();
        }
    }
    let mut reply = Reply::json(&json);
    reply.status = status;
    reply
}
