//! The elements of one input: `InferTensorContents`, or an entry of raw_input_contents. Nothing is filled up,
//! cut off or wrapped around: what does not fit the shape and the datatype is refused.

use super::super::dtype::DType;
use super::super::protobuf::{Field, Reader, bad, varints};
use super::super::tftensor::{TfData, extend_packed, owned_elements, widened};
use crate::error::{Error, ErrorKind};

/// What the elements have to be.
pub(super) struct Place<'a> {
    /// For error texts.
    pub label: &'a str,
    pub dtype: DType,
    pub shape: &'a [usize],
    /// Elements of the shape.
    pub count: usize,
    pub max_strings_bytes: usize,
}

/// Where `InferTensorContents` keeps a datatype's values, and their form on the wire.
#[derive(Clone, Copy)]
enum Typed {
    /// Varints of (field, bytes of the field's own type); sign-extended where the datatype is signed.
    Varint(u32, usize),
    /// Little-endian values.
    Fixed(u32),
    Strings(u32),
}

/// Decode one entry of raw_input_contents: row-major, little-endian; BYTES with their lengths in front.
pub(super) fn decode_raw(raw: &[u8], place: &Place<'_>) -> Result<TfData, Error> {
    if place.dtype == DType::String {
        return decode_strings(raw, place).map(TfData::Strings);
    }
    let (needed, found) = (place.count * place.dtype.size(), raw.len());
    if needed != found {
        return Err(place.wrong(&format!(
            "needs {needed} bytes of raw_input_contents, {found} were sent"
        )));
    }
    Ok(TfData::Elements(owned_elements(raw, place.dtype)))
}

fn decode_strings(mut raw: &[u8], place: &Place<'_>) -> Result<Vec<Vec<u8>>, Error> {
    place.check_strings()?;
    let mut strings = Vec::new();
    while let Some((length, rest)) = raw.split_first_chunk::<4>() {
        // On a machine of 32 bits or more a u32 is a usize.
        let length = u32::from_le_bytes(*length) as usize;
        let Some((string, rest)) = rest.split_at_checked(length) else {
            let (index, left) = (strings.len(), rest.len());
            return Err(place.wrong(&format!(
                "has a length of {length} in front of element {index}, but {left} bytes left"
            )));
        };
        if strings.len() == place.count {
            break;
        }
        strings.push(string.to_vec());
        raw = rest;
    }
    if !raw.is_empty() || strings.len() != place.count {
        let (needed, found, left) = (place.count, strings.len(), raw.len());
        return Err(place.wrong(&format!(
            "needs {needed} elements, each behind its length in 4 bytes: {found} were sent, with {left} bytes over"
        )));
    }
    Ok(strings)
}

/// Decode `InferTensorContents`.
pub(super) fn decode_typed(contents: &[u8], place: &Place<'_>) -> Result<TfData, Error> {
    let Some((typed, field)) = typed(place.dtype) else {
        return Err(place.wrong("has no typed contents: send it in raw_input_contents"));
    };
    let data = match typed {
        Typed::Strings(number) => {
            place.check_strings()?;
            TfData::Strings(typed_strings(contents, number, place.count)?)
        }
        Typed::Fixed(number) => TfData::Elements(fixed(contents, number, place.dtype.size())?),
        Typed::Varint(number, width) => {
            TfData::Elements(integers(contents, number, width, field, place)?)
        }
    };
    let (needed, found) = (place.count, count(&data, place.dtype));
    if needed != found {
        return Err(place.wrong(&format!(
            "needs {needed} values in {field}, {found} were sent"
        )));
    }
    Ok(data)
}

fn typed(dtype: DType) -> Option<(Typed, &'static str)> {
    Some(match dtype {
        DType::Bool => (Typed::Varint(1, 1), "bool_contents"),
        DType::Int8 | DType::Int16 | DType::Int32 => (Typed::Varint(2, 4), "int_contents"),
        DType::Int64 => (Typed::Varint(3, 8), "int64_contents"),
        DType::Uint8 | DType::Uint16 | DType::Uint32 => (Typed::Varint(4, 4), "uint_contents"),
        DType::Uint64 => (Typed::Varint(5, 8), "uint64_contents"),
        DType::Float => (Typed::Fixed(6), "fp32_contents"),
        DType::Double => (Typed::Fixed(7), "fp64_contents"),
        DType::String => (Typed::Strings(8), "bytes_contents"),
        DType::Half | DType::BFloat16 | DType::Complex64 | DType::Complex128 => return None,
    })
}

fn count(data: &TfData, dtype: DType) -> usize {
    match data {
        TfData::Elements(elements) => elements.len() / dtype.size(),
        TfData::Strings(strings) => strings.len(),
    }
}

/// At most one string more than there may be: enough to tell that there are too many.
fn typed_strings(contents: &[u8], wanted: u32, most: usize) -> Result<Vec<Vec<u8>>, Error> {
    let mut strings = Vec::new();
    let mut reader = Reader::new(contents);
    while let Some((number, field)) = reader.next()? {
        match field {
            Field::Bytes(bytes) if number == wanted && strings.len() <= most => {
                strings.push(bytes.to_vec())
            }
            _ => {}
        }
    }
    Ok(strings)
}

fn fixed(contents: &[u8], wanted: u32, size: usize) -> Result<Vec<u8>, Error> {
    let mut elements = Vec::new();
    let mut reader = Reader::new(contents);
    while let Some((number, field)) = reader.next()? {
        match field {
            Field::Bytes(packed) if number == wanted => extend_packed(&mut elements, packed, size)?,
            Field::Fixed32(bytes) if number == wanted && size == 4 => elements.extend(bytes),
            Field::Fixed64(bytes) if number == wanted && size == 8 => elements.extend(bytes),
            _ => {}
        }
    }
    Ok(elements)
}

/// Varints of a field whose own type has `width` bytes, as elements that may be narrower.
fn integers(
    contents: &[u8],
    wanted: u32,
    width: usize,
    name: &str,
    place: &Place<'_>,
) -> Result<Vec<u8>, Error> {
    let (dtype, size) = (place.dtype, place.dtype.size());
    let mut elements = Vec::new();
    let mut misfit = None;
    let mut reader = Reader::new(contents);
    while let Some((number, field)) = reader.next()? {
        if number != wanted {
            continue;
        }
        varints(field, |value| {
            if dtype == DType::Bool {
                return elements.push(u8::from(value != 0));
            }
            let bytes = value.to_le_bytes();
            // Protobuf cuts a varint to the field's type; only what the field can hold was said.
            let said = widened(&bytes[..width], dtype.is_signed());
            if widened(&bytes[..size], dtype.is_signed()) != said {
                misfit.get_or_insert(said);
            }
            elements.extend_from_slice(&bytes[..size]);
        })?;
    }
    match misfit {
        None => Ok(elements),
        Some(value) if dtype.is_signed() => {
            Err(place.wrong(&format!("cannot hold {} of {name}", value as i64)))
        }
        Some(value) => Err(place.wrong(&format!("cannot hold {value} of {name}"))),
    }
}

// === impl Place ===

impl Place<'_> {
    fn wrong(&self, fault: &str) -> Error {
        let datatype = self.dtype.oip_name().unwrap_or_default();
        let (label, shape) = (self.label, self.shape);
        bad(format!("{label} of shape {shape:?} and {datatype} {fault}"))
    }

    fn check_strings(&self) -> Result<(), Error> {
        let (bytes, limit) = (
            self.count.saturating_mul(size_of::<Vec<u8>>()),
            self.max_strings_bytes,
        );
        if bytes > limit {
            let text = format!(
                "{}: {} BYTES elements would take {bytes} bytes of memory, the limit is {limit}",
                self.label, self.count
            );
            return Err(Error::new(ErrorKind::MessageTooLarge, text));
        }
        Ok(())
    }
}
