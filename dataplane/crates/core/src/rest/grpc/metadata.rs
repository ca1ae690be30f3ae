//! Headers of a request as the metadata of its call.

use http::header::{self, CONTENT_TYPE, HeaderName, TE};
use http::{HeaderMap, HeaderValue};

use crate::error::{Error, ErrorKind};
use crate::grpc::deadline::GRPC_TIMEOUT;
use crate::grpc::metadata::X_REQUEST_ID;
use crate::rest::web::reply::HEADER_LENGTH;

/// Headers that say something of the connection or of the body, and nothing of the call.
const DROPPED: [HeaderName; 16] = [
    header::HOST,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TRAILER,
    header::TE,
    header::EXPECT,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    HEADER_LENGTH,
];

/// The metadata of the call that a request with these headers stands for.
pub fn of_call(headers: &HeaderMap, request_id: &HeaderValue) -> HeaderMap {
    let mut metadata = HeaderMap::with_capacity(headers.len() + 3);
    for (name, value) in headers {
        let is_grpc = name.as_str().starts_with("grpc-") && name != GRPC_TIMEOUT;
        if !is_grpc && !DROPPED.contains(name) {
            metadata.append(name, value.clone());
        }
    }
    metadata.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(TE, HeaderValue::from_static("trailers"));
    metadata.insert(X_REQUEST_ID, request_id.clone());
    metadata
}

/// Leave nothing of who calls: what the call tells is told to others, too.
pub fn forget_caller(metadata: &mut HeaderMap) {
    let request_id = metadata.remove(X_REQUEST_ID);
    metadata.clear();
    metadata.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(TE, HeaderValue::from_static("trailers"));
    metadata.extend(request_id.map(|id| (X_REQUEST_ID, id)));
}

/// Length of the JSON in front of binary data.
///
/// # Errors
/// `bad_request`.
pub fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Error> {
    let Some(value) = headers.get(HEADER_LENGTH) else {
        return Ok(None);
    };
    let length = value.to_str().ok().and_then(|it| it.parse().ok());
    let length = length.ok_or_else(|| {
        let text = format!("{HEADER_LENGTH} is no number of bytes");
        Error::new(ErrorKind::BadRequest, text)
    })?;
    Ok(Some(length))
}
