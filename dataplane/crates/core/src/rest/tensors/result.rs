//! What a model answered, for the forms of HTTP whose answers have one result and no tensors.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::rest::tensors::json::{Kind, Reader};
use crate::rest::tensors::{Datatype, NotFinite, Strings, Tensor, Writer, string};

/// Arrays that are written at most for a tensor without elements.
const MAX_EMPTY: usize = 1 << 16;

/// A model's result.
#[derive(Debug)]
pub enum Said {
    /// Text of one value.
    Json(Vec<u8>),
    Bytes(Bytes),
}

// === impl Said ===

impl Said {
    /// The result that some outputs are. A single element of BYTES that is named `jsonData`, `strData` or `binData` is the
    /// JSON, text or bytes that it holds; other outputs are an object of arrays, by their names.
    ///
    /// # Errors
    /// `bad_upstream_response`.
    pub fn of(outputs: &[Tensor]) -> Result<Self, Error> {
        if let [output] = outputs
            && let Some(element) = single(output)?
        {
            match output.name.as_str() {
                "jsonData" => return json(&element).map(Self::Json),
                "binData" => return Ok(Self::Bytes(element)),
                "strData" => {
                    if let Ok(text) = std::str::from_utf8(&element) {
                        let mut json = Vec::new();
                        string(&mut json, text);
                        return Ok(Self::Json(json));
                    }
                    return Ok(Self::Bytes(element));
                }
                _ => {}
            }
        }
        let mut json = b"{".to_vec();
        for output in outputs {
            if json.len() > 1 {
                json.push(b',');
            }
            string(&mut json, &output.name);
            json.push(b':');
            nested(&mut json, output)?;
        }
        json.push(b'}');
        Ok(Self::Json(json))
    }

    /// As JSON; bytes are a `data:` URI.
    pub fn into_json(self) -> Vec<u8> {
        match self {
            Self::Json(json) => json,
            Self::Bytes(bytes) => {
                let mut json = b"\"data:application/octet-stream;base64,".to_vec();
                json.extend_from_slice(BASE64.encode(&bytes).as_bytes());
                json.push(b'"');
                json
            }
        }
    }
}

/// The element of an output that is one element of BYTES.
///
/// # Errors
/// `bad_upstream_response`.
pub fn single(output: &Tensor) -> Result<Option<Bytes>, Error> {
    if output.datatype != Datatype::Bytes {
        return Ok(None);
    }
    let mut elements = output.bytes()?;
    Ok(elements.pop().filter(|_| elements.is_empty()))
}

/// A document of a model's as every reader of JSON takes it: NaN and infinities, which it has no words for, are null.
fn json(document: &[u8]) -> Result<Vec<u8>, Error> {
    let mut json = Vec::with_capacity(document.len());
    let mut reader = Reader::new(document);
    let copied = copy(&mut reader, &mut json).and_then(|()| reader.end());
    copied.map_err(|error| {
        wrong(format!(
            "the model's jsonData is not JSON: {}",
            error.message
        ))
    })?;
    Ok(json)
}

fn copy(reader: &mut Reader<'_>, json: &mut Vec<u8>) -> Result<(), Error> {
    match reader.kind()? {
        Kind::Object => {
            json.push(b'{');
            let mut is_first = true;
            reader.object(|reader, key| {
                if !std::mem::replace(&mut is_first, false) {
                    json.push(b',');
                }
                string(json, key);
                json.push(b':');
                copy(reader, json)
            })?;
            json.push(b'}');
        }
        Kind::Array => {
            json.push(b'[');
            let mut is_first = true;
            reader.array(|reader| {
                if !std::mem::replace(&mut is_first, false) {
                    json.push(b',');
                }
                copy(reader, json)
            })?;
            json.push(b']');
        }
        Kind::String => string(json, &reader.string()?),
        Kind::Number => {
            let text = reader.number()?;
            let is_finite = text.parse().is_ok_and(f64::is_finite);
            json.extend_from_slice(if is_finite { text } else { "null" }.as_bytes());
        }
        Kind::Bool | Kind::Null => {
            let place = reader.place();
            reader.skip()?;
            json.extend_from_slice(reader.text_from(place));
        }
    }
    Ok(())
}

/// Write an output as arrays of arrays, by its shape.
fn nested(json: &mut Vec<u8>, output: &Tensor) -> Result<(), Error> {
    check_shape(output)?;
    let is_text = output.datatype != Datatype::Bytes
        || (output.bytes()?.iter()).all(|element| std::str::from_utf8(element).is_ok());
    let strings = if is_text {
        Strings::Text
    } else {
        Strings::Base64
    };
    let mut writer = Writer::new(output.datatype, &output.raw, NotFinite::Null, strings);
    writer.nested(json, &output.shape)
}

/// Check that an output has as many elements as its shape says, and that it is no long list of nothing.
///
/// # Errors
/// `bad_upstream_response`.
pub fn check_shape(output: &Tensor) -> Result<(), Error> {
    let count = product(output.shape.iter().copied());
    let have = match output.datatype.size() {
        0 => Some(output.bytes()?.len()),
        size if output.raw.len().is_multiple_of(size) => Some(output.raw.len() / size),
        _ => None,
    };
    let arrays = product(output.shape.iter().map(|length| *length.max(&1)));
    let is_fine = count.is_some() && count == have;
    if is_fine && (have != Some(0) || arrays.is_some_and(|arrays| arrays <= MAX_EMPTY)) {
        return Ok(());
    }
    Err(wrong(format!(
        "output {:?} of {} has not as many elements as its shape {:?} says",
        output.name,
        output.datatype.name(),
        output.shape
    )))
}

fn product(mut lengths: impl Iterator<Item = usize>) -> Option<usize> {
    lengths.try_fold(1usize, |count, length| count.checked_mul(length))
}

fn wrong(text: String) -> Error {
    Error::new(ErrorKind::BadUpstreamResponse, text)
}

#[cfg(test)]
#[path = "result_tests.rs"]
mod tests;
