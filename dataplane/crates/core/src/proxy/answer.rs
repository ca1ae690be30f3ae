//! What a status of an endpoint's says beyond its code: that the endpoint is full, and when the call may be sent again.

use std::time::Duration;

use crate::code::Code;
use crate::error::ErrorKind;
use crate::grpc::{metadata, status};
use crate::headers::Headers;

/// Parts of the texts with which gRPC's own libraries answer RESOURCE_EXHAUSTED to a message or metadata beyond a
/// limit. "larger than max": C++, Python, Go and JavaScript; "exceeds ": Java, C# and the C core's texts on metadata;
/// "too large": Rust.
const ABOUT_SIZE: [&[u8]; 5] = [
    b"larger than max",
    b"exceeds maximum size",
    b"exceeds the maximum",
    b"size exceeds",
    b"too large",
];

/// What an endpoint wishes about another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// It says nothing.
    Unsaid,
    Never,
    After(Duration),
}

/// When the endpoint that answered so wants the call to be sent again.
pub fn pushback(headers: &Headers) -> Pushback {
    if !headers.has(metadata::RETRY_PUSHBACK) {
        return Pushback::Unsaid;
    }
    let text = headers.text(metadata::RETRY_PUSHBACK);
    text.and_then(|text| text.parse::<u32>().ok())
        .map_or(Pushback::Never, |ms| {
            Pushback::After(Duration::from_millis(ms.into()))
        })
}

/// Whether the endpoint refused the call because it has too many: another may take it.
///
/// RESOURCE_EXHAUSTED is also what every gRPC server answers to a message that is too large, which no other endpoint
/// would take, and what a user's hook may answer for its own reasons.
pub fn is_full(code: Code, headers: &Headers) -> bool {
    if code != Code::ResourceExhausted {
        return false;
    }
    if let Some(kind) = headers.get(metadata::ACCESS_ERROR) {
        return kind == ErrorKind::Shed.name().as_bytes();
    }
    let text = headers.get(status::GRPC_MESSAGE).unwrap_or_default();
    !ABOUT_SIZE
        .iter()
        .any(|part| text.windows(part.len()).any(|window| window == *part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Pushback {
        pushback(&Headers::from_iter([(metadata::RETRY_PUSHBACK, text)]))
    }

    #[test]
    fn a_pushback_that_is_negative_or_no_number_means_never() {
        assert_eq!(pushback(&Headers::new()), Pushback::Unsaid);
        assert_eq!(told("0"), Pushback::After(Duration::ZERO));
        assert_eq!(told("250"), Pushback::After(Duration::from_millis(250)));
        for text in ["-1", "", "soon", "1.5", "99999999999"] {
            assert_eq!(told(text), Pushback::Never, "{text:?}");
        }
    }

    fn exhausted(text: &str, kind: Option<&'static str>) -> bool {
        let mut headers = status::headers(Code::ResourceExhausted, text);
        if let Some(kind) = kind {
            headers.push(metadata::ACCESS_ERROR, kind);
        }
        is_full(Code::ResourceExhausted, &headers)
    }

    #[test]
    fn an_endpoint_that_exhausts_its_resources_is_full_unless_it_is_the_message() {
        for text in ["", "too many requests", "CUDA out of memory", "queue: 100%"] {
            assert!(exhausted(text, None), "{text}");
        }
        for text in [
            "Received message larger than max (5000000 vs. 4194304)",
            "grpc: received message larger than max (5000000 vs. 4194304)",
            "gRPC message exceeds maximum size 4194304: 5000000",
            "Received message exceeds the maximum configured message size.",
            "received initial metadata size exceeds hard limit (20000 vs. 16384)",
            "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes",
        ] {
            assert!(!exhausted(text, None), "{text}");
        }
        assert!(exhausted("full", Some("shed")));
        assert!(!exhausted("full", Some("message_too_large")));
        assert!(!exhausted("full", Some("hook")));
        let headers = status::headers(Code::Unavailable, "full");
        assert!(!is_full(Code::Unavailable, &headers));
    }
}
