//! Answers over HTTP: a body with its headers, or a problem (RFC 9457).

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::code::Code;
use crate::error::{Error, ErrorKind};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Length of the JSON in front of binary data.
pub const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A call that failed, as its gRPC status told it.
#[derive(Debug)]
pub struct Failed {
    pub code: Code,
    /// Where an error of our table is behind it.
    pub kind: Option<ErrorKind>,
    pub text: String,
}

// === impl Reply ===

impl Reply {
    /// A body of JSON.
    pub fn of(body: Bytes) -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, JSON)]),
            body,
        }
    }

    pub fn json(value: &serde_json::Value) -> Self {
        Self::of(value.to_string().into())
    }

    /// JSON with binary data behind it.
    pub fn binary(body: Bytes, header_length: usize) -> Self {
        let headers = [
            (CONTENT_TYPE, OCTETS),
            (HEADER_LENGTH, HeaderValue::from(header_length)),
        ];
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter(headers),
            body,
        }
    }

    /// An error as RFC 9457 has it; `error` is where clients of the Open Inference Protocol and TF Serving look.
    pub fn problem(failed: &Failed, request_id: &HeaderValue) -> Self {
        let status = status_of(failed);
        let mut problem = serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": failed.text,
            "error": failed.text,
            "code": failed.code.name(),
            "request_id": request_id.to_str().unwrap_or_default(),
        });
        if let Some(kind) = failed.kind {
            problem["kind"] = kind.name().into();
            problem["remedy"] = kind.row().remedy.into();
        }
        Self {
            status,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, PROBLEM)]),
            body: problem.to_string().into(),
        }
    }

    /// Its headers, with the body's length.
    pub fn finish_headers(&mut self) {
        let length = HeaderValue::from(self.body.len());
        self.headers.insert(CONTENT_LENGTH, length);
    }
}

// === impl Failed ===

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            code: error.kind.code(),
            kind: Some(error.kind),
            text: error.message.into_owned(),
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
            text: String::new(),
        })
    };
    let codes = Code::ALL.into_iter().filter(|code| *code != Code::Ok);
    let codes = codes.map(|code| of(code, None));
    let kinds = crate::error::TABLE.iter().map(|row| row.kind);
    let kinds = kinds.map(|kind| of(kind.code(), Some(kind)));
    codes.chain(kinds).collect()
}
