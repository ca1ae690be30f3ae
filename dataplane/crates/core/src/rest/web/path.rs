//! The parts of a path.

use std::borrow::Cow;

use super::data_uri::percent_decoded;
use crate::error::{Error, ErrorKind};

/// The parts of a path, without the empty one behind a slash at its end.
///
/// # Errors
/// As [`decoded`].
pub fn parts(path: &str) -> Result<Vec<Cow<'_, str>>, Error> {
    let path = path.strip_prefix('/').unwrap_or_default();
    let mut parts: Vec<_> = path.split('/').map(decoded).collect::<Result<_, _>>()?;
    if parts.last().is_some_and(|last| last.is_empty()) {
        parts.pop();
    }
    Ok(parts)
}

/// A part of a path without its `%` escapes (RFC 3986).
///
/// # Errors
/// `bad_request`: what the escapes say is not UTF-8.
pub fn decoded(part: &str) -> Result<Cow<'_, str>, Error> {
    if !part.contains('%') {
        return Ok(part.into());
    }
    let bytes = percent_decoded(part.as_bytes()).ok_or_else(|| unreadable(part))?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable(part))?;
    Ok(text.into())
}

fn unreadable(part: &str) -> Error {
    let text = format!("{part:?} in the path is not UTF-8 in % escapes");
    Error::new(ErrorKind::BadRequest, text)
}
