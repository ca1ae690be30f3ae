//! One line of the access log. No field is longer than its bound, and none is of a message: what callers send may be
//! secret, and as large as they like.

use std::borrow::Cow;
use std::time::SystemTime;

use humantime::format_rfc3339_millis;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::code::Code;
use crate::error::ErrorKind;

/// Bytes of a text of the caller's: as long as a route key may be.
const TEXT_BYTES: usize = 256;

/// One finished call.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// When the call ended; written in UTC with milliseconds.
    #[serde(serialize_with = "rfc_3339")]
    pub time: SystemTime,
    pub request_id: String,
    /// Of the caller's trace, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Who calls, where callers are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Full name without the leading slash; empty for a request over HTTP that became no call.
    pub method: Cow<'static, str>,
    /// Route key; empty when none was found.
    pub model: String,
    pub version: String,
    /// Empty when the call did not get that far.
    pub cluster: String,
    /// The endpoint of the last attempt.
    pub endpoint: String,
    pub attempts: u32,
    /// Name of the gRPC code that the caller got.
    pub code: &'static str,
    /// Kind of error of ours; left out when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    pub duration_ms: f64,
    /// Of it, the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<f64>,
    /// Bytes of the request's and of the answer's body, as gRPC has them.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Address of the caller.
    pub peer: String,
    /// The request over HTTP that the call is made for.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
}

/// What a line says of HTTP.
#[derive(Clone, Debug, Serialize)]
pub struct Http {
    pub http_method: String,
    /// Without its query.
    pub http_path: String,
    /// Left out where the caller went before it had an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
}

// === impl Entry ===

impl Entry {
    /// The line of what became no call.
    pub fn without_call(
        (request_id, peer): (String, String),
        started: Instant,
        code: Code,
        error: Option<ErrorKind>,
    ) -> Self {
        Self {
            time: SystemTime::now(),
            request_id,
            trace_id: None,
            caller: None,
            method: "".into(),
            model: String::new(),
            version: String::new(),
            cluster: String::new(),
            endpoint: String::new(),
            attempts: 0,
            code: code.name(),
            error: error.map(ErrorKind::name),
            duration_ms: started.elapsed().as_secs_f64() * 1e3,
            upstream_ms: None,
            bytes_in: 0,
            bytes_out: 0,
            peer,
            http: None,
        }
    }
}

/// A text of the caller's, cut where it is too long.
pub fn bounded(text: &str) -> String {
    let is_whole = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=text.len().min(TEXT_BYTES)).rev().find(is_whole);
    text[..end.unwrap_or(0)].to_owned()
}

/// As `2026-11-21T08:05:09.042Z`; a clock that is set to a time before 1970 says 1970.
fn rfc_3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_rfc3339_millis(*time.max(&SystemTime::UNIX_EPOCH)))
}
