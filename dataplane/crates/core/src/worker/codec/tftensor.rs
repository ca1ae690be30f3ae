//! `tensorflow.TensorProto`, decoded as TensorFlow's make_ndarray does: tensor_content, or typed values of
//! which the last one fills what is missing; too many values are an error.

use super::dtype::{DType, Typed};
use super::protobuf::{Field, Reader, Sink, bad, varints};
use super::tensor::check_shape;
use crate::error::{Error, ErrorKind};

/// A tensor of one of the types of [`DType`], row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct TfTensor {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub data: TfData,
}

/// The elements of a [`TfTensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum TfData {
    /// `dtype.size()` bytes each, little-endian.
    Elements(Vec<u8>),
    /// Of [`DType::String`].
    Strings(Vec<Vec<u8>>),
}

impl TfTensor {
    /// Decode a TensorProto. `max_filled_bytes` bounds what a few values may be repeated to: a shape costs
    /// nothing to send.
    pub(super) fn decode(message: &[u8], max_filled_bytes: usize) -> Result<Self, Error> {
        let head = Head::decode(message)?;
        let (shape, count) = check_shape("tftensor.tensor_shape", &head.dimensions)?;
        let dtype = head.dtype;
        let mut tensor = match (head.content, dtype.typed()) {
            ([], Typed::Strings(number)) => {
                let mut values = strings(message, number)?;
                check_fill(
                    &shape,
                    values.len(),
                    count,
                    filled_strings_bytes(&values, count),
                    max_filled_bytes,
                )?;
                let last = values.last().cloned().unwrap_or_default();
                values.resize(count, last);
                Self {
                    dtype,
                    shape,
                    data: TfData::Strings(values),
                }
            }
            (_, Typed::Strings(_)) => {
                return Err(bad(
                    "tftensor: DT_STRING has no tensor_content, use string_val",
                ));
            }
            ([], typed) => {
                let mut elements = elements(message, dtype, typed)?;
                check_fill(
                    &shape,
                    elements.len() / dtype.size(),
                    count,
                    count * dtype.size(),
                    max_filled_bytes,
                )?;
                fill(&mut elements, dtype.size(), count);
                Self {
                    dtype,
                    shape,
                    data: TfData::Elements(elements),
                }
            }
            (content, _) => Self {
                dtype,
                data: TfData::Elements(check_content(content, dtype, &shape, count)?),
                shape,
            },
        };
        if dtype == DType::BFloat16 {
            tensor.widen();
        }
        Ok(tensor)
    }

    /// Turn bfloat16, which numpy does not have, into float32: the upper half of its bits.
    pub(super) fn widen(&mut self) {
        if let TfData::Elements(elements) = &mut self.data {
            *elements = elements
                .chunks_exact(2)
                .flat_map(|half| [0, 0, half[0], half[1]])
                .collect();
            self.dtype = DType::Float;
        }
    }
}

/// What must be known before values can be read, whatever the order of fields.
struct Head<'a> {
    dtype: DType,
    dimensions: Vec<i64>,
    content: &'a [u8],
}

impl<'a> Head<'a> {
    fn decode(message: &'a [u8]) -> Result<Self, Error> {
        let (mut number_of_type, mut dimensions, mut content) = (0, Vec::new(), &[][..]);
        let mut reader = Reader::new(message);
        while let Some((number, field)) = reader.next()? {
            match (number, field) {
                (1, Field::Varint(value)) => number_of_type = value,
                (2, Field::Bytes(shape)) => decode_shape(shape, &mut dimensions)?,
                (4, Field::Bytes(bytes)) => content = bytes,
                _ => {}
            }
        }
        let dtype = DType::from_number(number_of_type).ok_or_else(|| {
            bad(format!(
                "tftensor.dtype {number_of_type} is not one that can be served"
            ))
        })?;
        Ok(Self {
            dtype,
            dimensions,
            content,
        })
    }
}

fn decode_shape(message: &[u8], dimensions: &mut Vec<i64>) -> Result<(), Error> {
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        if let (2, Field::Bytes(dimension)) = (number, field) {
            let mut size = 0;
            let mut reader = Reader::new(dimension);
            while let Some((number, field)) = reader.next()? {
                if let (1, Field::Varint(value)) = (number, field) {
                    size = value as i64;
                }
            }
            dimensions.push(size);
        }
    }
    Ok(())
}

fn check_content(
    content: &[u8],
    dtype: DType,
    shape: &[usize],
    count: usize,
) -> Result<Vec<u8>, Error> {
    let (needed, found) = (count * dtype.size(), content.len());
    if needed != found {
        let name = dtype.numpy_name();
        return Err(bad(format!(
            "tftensor of shape {shape:?} and {name} needs {needed} bytes of tensor_content, {found} were sent"
        )));
    }
    Ok(owned_elements(content, dtype))
}

/// Raw elements as numpy can have them.
pub(super) fn owned_elements(content: &[u8], dtype: DType) -> Vec<u8> {
    let mut content = content.to_vec();
    if dtype == DType::Bool {
        // a numpy bool of any other byte breaks comparisons
        content
            .iter_mut()
            .for_each(|byte| *byte = u8::from(*byte != 0));
    }
    content
}

fn check_fill(
    shape: &[usize],
    found: usize,
    count: usize,
    bytes: usize,
    max_bytes: usize,
) -> Result<(), Error> {
    if found > count {
        return Err(bad(format!(
            "tftensor of shape {shape:?} needs {count} values, {found} were sent"
        )));
    }
    if found < count && bytes > max_bytes {
        let text = format!(
            "tftensor of shape {shape:?} would be filled up to {bytes} bytes, the limit is {max_bytes}"
        );
        return Err(Error::new(ErrorKind::MessageTooLarge, text));
    }
    Ok(())
}

/// Memory that `values` take after filling up to `count` of them.
fn filled_strings_bytes(values: &[Vec<u8>], count: usize) -> usize {
    let each = values.last().map_or(0, Vec::len) + size_of::<Vec<u8>>();
    count.saturating_mul(each)
}

fn fill(elements: &mut Vec<u8>, size: usize, count: usize) {
    let Some(last) = elements
        .len()
        .checked_sub(size)
        .map(|start| elements[start..].to_vec())
    else {
        elements.resize(count * size, 0);
        return;
    };
    while elements.len() < count * size {
        elements.extend_from_slice(&last);
    }
}

fn strings(message: &[u8], wanted: u32) -> Result<Vec<Vec<u8>>, Error> {
    let mut values = Vec::new();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match field {
            Field::Bytes(bytes) if number == wanted => values.push(bytes.to_vec()),
            _ => {}
        }
    }
    Ok(values)
}

/// Read the typed values of a numeric type, whole elements only: half a complex number is dropped.
fn elements(message: &[u8], dtype: DType, typed: Typed) -> Result<Vec<u8>, Error> {
    let mut elements = Vec::new();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match (typed, field) {
            (Typed::Varint(wanted), field) if number == wanted => {
                varints(field, |value| {
                    elements.extend_from_slice(&value.to_le_bytes()[..dtype.size()])
                })?;
            }
            (Typed::Bool(wanted), field) if number == wanted => {
                varints(field, |value| elements.push(u8::from(value != 0)))?
            }
            (Typed::Fixed32(wanted), Field::Fixed32(bytes)) if number == wanted => {
                elements.extend_from_slice(&bytes)
            }
            (Typed::Fixed64(wanted), Field::Fixed64(bytes)) if number == wanted => {
                elements.extend_from_slice(&bytes)
            }
            (Typed::Fixed32(wanted), Field::Bytes(packed)) if number == wanted => {
                extend_packed(&mut elements, packed, 4)?
            }
            (Typed::Fixed64(wanted), Field::Bytes(packed)) if number == wanted => {
                extend_packed(&mut elements, packed, 8)?
            }
            _ => {}
        }
    }
    elements.truncate(elements.len() / dtype.size() * dtype.size());
    Ok(elements)
}

pub(super) fn extend_packed(
    elements: &mut Vec<u8>,
    packed: &[u8],
    size: usize,
) -> Result<(), Error> {
    if !packed.len().is_multiple_of(size) {
        return Err(bad(format!(
            "packed values: {} bytes are not whole values of {size} bytes",
            packed.len()
        )));
    }
    elements.extend_from_slice(packed);
    Ok(())
}

/// The elements of a tensor to encode.
#[derive(Clone, Copy, Debug)]
pub enum TfDataRef<'a> {
    /// `dtype.size()` bytes each, little-endian.
    Elements(&'a [u8]),
    Strings(&'a [Vec<u8>]),
}

/// A tensor to encode. Whoever makes one has checked that shape and length agree.
#[derive(Clone, Copy, Debug)]
pub struct TensorRef<'a> {
    pub dtype: DType,
    pub shape: &'a [usize],
    pub data: TfDataRef<'a>,
}

/// What of a tensor goes into tensor_content, as make_tensor_proto decides: everything where the type has it
/// and there are two values or more, else nothing.
pub(super) fn content<'a>(tensor: &TensorRef<'a>) -> &'a [u8] {
    let dtype = tensor.dtype;
    match tensor.data {
        TfDataRef::Elements(elements) if dtype.has_content() && elements.len() > dtype.size() => {
            elements
        }
        _ => &[],
    }
}

/// tensor_content is the message's tail.
pub(super) fn encode_tftensor(tensor: &TensorRef<'_>, sink: &mut impl Sink) {
    let TensorRef { dtype, shape, data } = *tensor;
    match (data, content(tensor)) {
        (TfDataRef::Strings(values), _) => {
            values
                .iter()
                .rev()
                .for_each(|value| sink.bytes_field(8, value));
        }
        (TfDataRef::Elements([]), _) => {}
        (TfDataRef::Elements(elements), []) => encode_typed(dtype, elements, sink),
        (_, content) => sink.message(4, |sink| sink.tail(content.len())),
    }
    sink.message(2, |sink| {
        for &size in shape.iter().rev() {
            sink.message(2, |sink| {
                if size != 0 {
                    sink.varint_field(1, size as u64);
                }
            });
        }
    });
    sink.varint_field(1, dtype.number());
}

fn encode_typed(dtype: DType, elements: &[u8], sink: &mut impl Sink) {
    match dtype.typed() {
        Typed::Fixed32(number) | Typed::Fixed64(number) | Typed::Strings(number) => {
            sink.bytes_field(number, elements)
        }
        Typed::Varint(number) | Typed::Bool(number) => sink.message(number, |sink| {
            for element in elements.chunks_exact(dtype.size()).rev() {
                sink.varint(widened(element, dtype.is_signed()));
            }
        }),
    }
}

/// A little-endian element as the 64 bits that protobuf's varint carries.
pub(super) fn widened(element: &[u8], is_signed: bool) -> u64 {
    let is_negative = is_signed && element.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut bytes = [if is_negative { 0xff } else { 0 }; 8];
    bytes[..element.len()].copy_from_slice(element);
    u64::from_le_bytes(bytes)
}
