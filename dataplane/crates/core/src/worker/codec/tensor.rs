//! Seldon's `Tensor`: a shape and doubles. Shapes of both tensor kinds are checked here.

use super::protobuf::{Field, Reader, Sink, bad, varints};
use crate::error::Error;

/// Most dimensions that every numpy from 1.26 on can hold.
const MAX_RANK: usize = 32;

/// Doubles in row-major order; `values.len()` is the product of `shape`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Tensor {
    /// Decode a `seldon.protos.Tensor` by the rules of seldon-core's wrapper: a shape is required, and of
    /// too many values the last ones count.
    pub(super) fn decode(message: &[u8]) -> Result<Self, Error> {
        let mut dimensions = Vec::new();
        let mut values = Vec::new();
        let mut reader = Reader::new(message);
        while let Some((number, field)) = reader.next()? {
            match (number, field) {
                // int32: a negative number is sign-extended to ten bytes, and only the low half counts
                (1, field) => varints(field, |value| dimensions.push(i64::from(value as i32)))?,
                (2, Field::Bytes(packed)) => extend_doubles(&mut values, packed)?,
                (2, Field::Fixed64(bytes)) => values.push(f64::from_le_bytes(bytes)),
                _ => {}
            }
        }
        if dimensions.is_empty() {
            return Err(bad("tensor.shape is empty: set it, [n] for n values"));
        }
        let (shape, count) = check_shape("tensor.shape", &dimensions)?;
        if values.len() < count {
            let found = values.len();
            return Err(bad(format!(
                "tensor.shape {shape:?} needs {count} values, {found} were sent"
            )));
        }
        values.drain(..values.len() - count);
        Ok(Self { shape, values })
    }
}

fn extend_doubles(values: &mut Vec<f64>, packed: &[u8]) -> Result<(), Error> {
    let (doubles, rest) = packed.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(bad(format!(
            "tensor.values: {} bytes are not whole doubles",
            packed.len()
        )));
    }
    values.extend(doubles.iter().map(|bytes| f64::from_le_bytes(*bytes)));
    Ok(())
}

/// Check dimensions and return them with the number of elements they make.
pub(super) fn check_shape(place: &str, dimensions: &[i64]) -> Result<(Vec<usize>, usize), Error> {
    if dimensions.len() > MAX_RANK {
        let rank = dimensions.len();
        return Err(bad(format!(
            "{place} has {rank} dimensions, at most {MAX_RANK} are possible"
        )));
    }
    let mut shape = Vec::with_capacity(dimensions.len());
    // zeros are left out of the product, as numpy refuses [0, 2^40, 2^40] too
    let mut product = 1_usize;
    let mut is_empty = false;
    for &dimension in dimensions {
        let size = usize::try_from(dimension)
            .map_err(|_| bad(format!("{place} {dimensions:?} has a negative size")))?;
        is_empty |= size == 0;
        product = product
            .checked_mul(size.max(1))
            .filter(|&product| product <= isize::MAX as usize / 16)
            .ok_or_else(|| bad(format!("{place} {dimensions:?} has too many elements")))?;
        shape.push(size);
    }
    Ok((shape, if is_empty { 0 } else { product }))
}

/// The values are the message's tail.
pub(super) fn encode_tensor(shape: &[usize], values: &[f64], sink: &mut impl Sink) {
    if !values.is_empty() {
        sink.message(2, |sink| sink.tail(size_of_val(values)));
    }
    if !shape.is_empty() {
        sink.message(1, |sink| {
            shape
                .iter()
                .rev()
                .for_each(|&size| sink.varint(size as u64))
        });
    }
}

/// Append doubles as the wire has them, at the speed of a copy.
pub(super) fn append_doubles(target: &mut Vec<u8>, values: &[f64]) {
    // Through a buffer that stays in the first cache: growing by eight bytes at a time is much slower.
    let mut buffer = [0; 4096];
    for values in values.chunks(buffer.len() / 8) {
        let bytes = &mut buffer[..values.len() * 8];
        for (bytes, value) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
        target.extend_from_slice(bytes);
    }
}
