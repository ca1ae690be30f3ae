//! What a call says of itself before its first message.

use std::time::Duration;

use http::Method;

use crate::config::Limits;
use crate::error::{Error, ErrorKind};
use crate::grpc::deadline;
use crate::headers::{Headers, Token};
use crate::net::stream::Head;

/// Check that it is a gRPC call, with metadata of at most so many bytes and fields.
///
/// # Errors
/// `bad_request`, `unknown_method`, `message_too_large`, `shed`.
pub fn check(head: &Head, limits: &Limits) -> Result<(), Error> {
    check_size(head, Most::of(limits))?;
    let (fields, max_fields) = (head.headers.len(), limits.max_metadata_fields);
    if fields > max_fields {
        let text = format!("{fields} metadata fields, limit {max_fields} (max_metadata_fields)");
        return Err(Error::new(ErrorKind::BadRequest, text));
    }
    let content_type = head.headers.get(Token::CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|it| it.starts_with(b"application/grpc"));
    if !is_grpc {
        let text = "a gRPC call has the content-type application/grpc";
        return Err(Error::new(ErrorKind::BadRequest, text));
    }
    if head.verb != Method::POST {
        let text = format!("a gRPC call is a POST, not {}", head.verb);
        return Err(Error::new(ErrorKind::UnknownMethod, text));
    }
    Ok(())
}

/// How much metadata there may be, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    of_call: u32,
    of_connection: usize,
}

impl Most {
    pub fn of(limits: &Limits) -> Self {
        Self {
            of_call: limits.max_metadata_bytes,
            of_connection: limits.max_connection_bytes,
        }
    }
}

/// Check that all of the metadata is there, and that its connection has not too much of them.
///
/// # Errors
/// `message_too_large`, `shed`.
pub fn check_size(head: &Head, most: Most) -> Result<(), Error> {
    if head.is_cut {
        let limit = most.of_call;
        let text = format!(
            "the call's metadata is larger than {limit} bytes, each field counted with 32 more \
             (limits.max_metadata_bytes): send less, or raise the limit"
        );
        return Err(Error::new(ErrorKind::MessageTooLarge, text));
    }
    if head.is_crowded {
        let limit = most.of_connection;
        let text = format!(
            "the calls of this connection have more metadata than half of {limit} bytes, each field counted with 32 \
             more (limits.max_connection_bytes): wait for answers, use more connections, or raise the limit"
        );
        return Err(Error::new(ErrorKind::Shed, text));
    }
    Ok(())
}

/// The timeout that the caller asks for.
///
/// # Errors
/// `bad_request`.
pub fn timeout(headers: &Headers) -> Result<Option<Duration>, Error> {
    let value = headers.get(deadline::GRPC_TIMEOUT);
    value.map(deadline::parse_timeout).transpose()
}

/// A path for an error's text: as long as a path may be, and no longer.
pub fn shortened(path: &str) -> String {
    path.chars().take(256).collect()
}
