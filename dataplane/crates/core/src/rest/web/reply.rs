//! Answers over HTTP: a body with its headers, or a problem (RFC 9457).

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::RequestId;
use crate::headers::{Headers, Token};
use crate::rest::web::coding::{self, Coding};

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const OCTETS: &str = "application/octet-stream";
/// Length of the JSON in front of binary data.
pub const HEADER_LENGTH: Token = Token::INFERENCE_HEADER_CONTENT_LENGTH;

/// How the libraries of gRPC say that a server has no such method: Python, Java; Go; generated Python; Node; .NET. The
/// one of C++, with TF Serving and Triton, says nothing.
const NO_METHOD: [&str; 7] = [
    "method not found",
    "unknown service",
    "unknown method",
    "method not implemented",
    "does not implement the method",
    "method is unimplemented",
    "service is unimplemented",
];

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: Headers,
    pub body: Bytes,
}

/// A call that failed, as its gRPC status told it.
#[derive(Debug)]
pub struct Failed {
    pub code: Code,
    /// Where an error of our table is behind it.
    pub kind: Option<ErrorKind>,
    pub text: String,
    /// A model's own number of the error.
    pub number: Option<i32>,
    /// When the call may be made again, where that is known.
    pub retry_after: Option<Duration>,
}

// === impl Reply ===

impl Reply {
    /// A body of JSON.
    pub fn of(body: Bytes) -> Self {
        Self {
            status: StatusCode::OK,
            headers: Headers::from_iter([(Token::CONTENT_TYPE, JSON)]),
            body,
        }
    }

    pub fn json(value: &serde_json::Value) -> Self {
        Self::of(value.to_string().into())
    }

    /// JSON with binary data behind it.
    pub fn binary(body: Bytes, header_length: usize) -> Self {
        let mut reply = Self::bytes(body);
        let length = itoa::Buffer::new().format(header_length).to_owned();
        reply.headers.push(HEADER_LENGTH, length);
        reply
    }

    /// The answer to OPTIONS.
    pub fn options(verbs: &'static str) -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            headers: Headers::from_iter([(Token::ALLOW, verbs)]),
            body: Bytes::new(),
        }
    }

    /// An error as RFC 9457 has it; `error` is where clients of the Open Inference Protocol and TF Serving look.
    pub fn problem(failed: &Failed, request_id: &RequestId) -> Self {
        let (status, problem) = failed.problem(request_id);
        Self::of_problem(status, &problem)
    }

    pub fn of_problem(status: StatusCode, problem: &serde_json::Value) -> Self {
        let mut headers = Headers::from_iter([(Token::CONTENT_TYPE, PROBLEM)]);
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            // As RFC 9110#15.5.16 asks for.
            headers.push(Token::ACCEPT_ENCODING, coding::ACCEPTED);
        }
        Self {
            status,
            headers,
            body: problem.to_string().into(),
        }
    }

    /// A body of bytes.
    pub fn bytes(body: Bytes) -> Self {
        Self {
            status: StatusCode::OK,
            headers: Headers::from_iter([(Token::CONTENT_TYPE, OCTETS)]),
            body,
        }
    }

    /// The answer as its caller wants it: `coding` is the one that it takes, if any.
    pub async fn compress(&mut self, coding: Option<Coding>) {
        if !coding::is_worth_it(&self.body) {
            return;
        }
        self.headers
            .push(Token::VARY, Token::ACCEPT_ENCODING.name());
        if let Some(coding) = coding
            && let Some(compressed) = coding.compress(&self.body).await
        {
            self.body = compressed;
            self.headers.set(Token::CONTENT_ENCODING, coding.name());
        }
    }

    /// Say when the call may be made again, in whole seconds (RFC 9110#10.2.3).
    pub fn set_retry_after(&mut self, failed: &Failed) {
        if let Some(wait) = failed.retry_after {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            self.headers
                .set(Token::RETRY_AFTER, itoa::Buffer::new().format(seconds));
        }
    }

    /// Its headers, with the body's length.
    pub fn finish_headers(&mut self) {
        if self.status == StatusCode::NO_CONTENT {
            // RFC 9110#8.6: it has none.
            return;
        }
        let length = self.body.len();
        self.headers
            .set(Token::CONTENT_LENGTH, itoa::Buffer::new().format(length));
    }
}

// === impl Failed ===

impl Failed {
    /// Whether the server has no such method, as it speaks another protocol. A model may answer the same code for
    /// reasons of its own: that is its answer.
    pub fn lacks_method(&self) -> bool {
        if self.code != Code::Unimplemented {
            return false;
        }
        match self.kind {
            Some(kind) => kind == ErrorKind::UnknownMethod,
            None => {
                let text = self.text.to_ascii_lowercase();
                text.is_empty() || NO_METHOD.iter().any(|phrase| text.contains(phrase))
            }
        }
    }

    /// Status and members of a problem (RFC 9457).
    pub fn problem(&self, request_id: &RequestId) -> (StatusCode, serde_json::Value) {
        let status = status_of(self);
        let mut problem = serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": self.text,
            "error": self.text,
            "code": self.code.name(),
            "request_id": request_id.as_str(),
        });
        if let Some(kind) = self.kind {
            problem["kind"] = kind.name().into();
            problem["remedy"] = kind.row().remedy.into();
        }
        (status, problem)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            code: error.kind.code(),
            kind: Some(error.kind),
            text: error.message.into_owned(),
            number: None,
            retry_after: error.retry_after,
        }
    }
}

/// The status that says the same as a code of gRPC, as TF Serving maps them; what is about HTTP itself has its own.
fn status_of(failed: &Failed) -> StatusCode {
    match failed.kind {
        Some(ErrorKind::MessageTooLarge) => return StatusCode::PAYLOAD_TOO_LARGE,
        Some(ErrorKind::UnsupportedEncoding) => return StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Some(ErrorKind::UnknownMethod) => return StatusCode::NOT_FOUND,
        Some(ErrorKind::BadUpstreamResponse) => return StatusCode::BAD_GATEWAY,
        _ => {}
    }
    let number = match failed.code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Cancelled => 499,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    };
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Every status that a problem may have.
#[cfg(test)]
pub fn statuses() -> Vec<StatusCode> {
    let of = |code, kind| {
        status_of(&Failed {
            code,
            kind,
            number: None,
            retry_after: None,
            text: String::new(),
        })
    };
    let codes = Code::ALL.into_iter().filter(|code| *code != Code::Ok);
    let codes = codes.map(|code| of(code, None));
    let kinds = crate::error::TABLE.iter().map(|row| row.kind);
    let kinds = kinds.map(|kind| of(kind.code(), Some(kind)));
    codes.chain(kinds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_is_not_there_is_told_from_a_model_that_does_not_do_something() {
        let lacks = |code, kind, text: &str| {
            let failed = Failed {
                code,
                kind,
                number: None,
                retry_after: None,
                text: text.to_owned(),
            };
            failed.lacks_method()
        };
        let code = Code::Unimplemented;
        for text in [
            "",
            "Method not found!",
            "unknown service tensorflow.serving.PredictionService",
            "Method not implemented!",
        ] {
            assert!(lacks(code, None, text), "{text}");
            assert!(!lacks(Code::NotFound, None, text));
        }
        assert!(lacks(code, Some(ErrorKind::UnknownMethod), "x"));
        assert!(!lacks(code, Some(ErrorKind::UnsupportedEncoding), ""));
        let decoupled = "ModelInfer RPC doesn't support models with decoupled transaction policy";
        assert!(!lacks(code, None, decoupled));
    }
}
