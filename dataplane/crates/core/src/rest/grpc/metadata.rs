//! Headers of a request as the metadata of its call.

use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::RequestId;
use crate::headers::{Headers, Token};
use crate::rest::web::reply::HEADER_LENGTH;

/// Whether a header says something of the connection or of the body, and nothing of the call.
fn is_dropped(name: Token) -> bool {
    matches!(
        name,
        Token::HOST
            | Token::CONNECTION
            | Token::TRANSFER_ENCODING
            | Token::UPGRADE
            | Token::TRAILER
            | Token::TE
            | Token::EXPECT
            | Token::ACCEPT
            | Token::ACCEPT_ENCODING
            | Token::CONTENT_TYPE
            | Token::CONTENT_LENGTH
            | Token::CONTENT_ENCODING
            | Token::KEEP_ALIVE
            | Token::PROXY_CONNECTION
            | Token::HTTP2_SETTINGS
            | HEADER_LENGTH
    )
}

/// The metadata of the call that a request with these headers stands for.
pub fn of_call(headers: &Headers, request_id: &RequestId) -> Headers {
    let mut metadata = headers.clone();
    metadata.retain(|field| match field.token {
        Some(Token::GRPC_TIMEOUT) => true,
        Some(token) if is_dropped(token) => false,
        _ => !field.name.starts_with(b"grpc-"),
    });
    begin(&mut metadata, request_id);
    metadata
}

/// Leave nothing of who calls: what the call tells is told to others, too.
pub fn forget_caller(metadata: &mut Headers) {
    let request_id = RequestId::of_call(metadata);
    metadata.clear();
    begin(metadata, &request_id);
}

fn begin(metadata: &mut Headers, request_id: &RequestId) {
    metadata.push(Token::CONTENT_TYPE, "application/grpc");
    metadata.push(Token::TE, "trailers");
    request_id.put(metadata);
}

/// Length of the JSON in front of binary data.
///
/// # Errors
/// `bad_request`.
pub fn header_length(headers: &Headers) -> Result<Option<usize>, Error> {
    if !headers.has(HEADER_LENGTH) {
        return Ok(None);
    }
    let length = headers.text(HEADER_LENGTH).and_then(|it| it.parse().ok());
    let length = length.ok_or_else(|| {
        let text = format!("{HEADER_LENGTH} is no number of bytes");
        Error::new(ErrorKind::BadRequest, text)
    })?;
    Ok(Some(length))
}
