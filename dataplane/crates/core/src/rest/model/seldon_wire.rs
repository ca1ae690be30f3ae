//! Tensors as a request of Seldon's over gRPC: one without a name, of doubles, or a list of text or of true and false.

use prost::Message;
use prost_types::value::Kind as Of;
use prost_types::{ListValue, Value};

use crate::error::Error;
use crate::local::messages::seldon::protos::{
    DefaultData, SeldonMessage, Tensor as Doubles, default_data, seldon_message::DataOneof,
};
use crate::rest::tensors::json::bad;
use crate::rest::tensors::{Datatype, Tensor, check_nesting};

/// The method that predictions are.
pub const PREDICT: &str = "/seldon.protos.Seldon/Predict";

/// Whole numbers beyond it are no doubles, not each of them.
const EXACT: u64 = 1 << 53;

/// A call with one tensor.
///
/// # Errors
/// `bad_request`: there are several, or a double is not enough for an element.
pub fn request(model: &str, tensors: Vec<Tensor>) -> Result<Vec<u8>, Error> {
    let names: Vec<String> = tensors.iter().map(|it| it.name.clone()).collect();
    let Ok([tensor]) = <[Tensor; 1]>::try_from(tensors) else {
        return Err(bad(format!(
            "model {model:?} speaks Seldon's protocol, which takes one tensor; the request has {}: {}: send one of them",
            names.len(),
            names.join(", ")
        )));
    };
    let length = |length: &usize| {
        i32::try_from(*length).map_err(|_| {
            let limit = i32::MAX;
            bad(format!(
                "length {length} is over that of a tensor of Seldon's, {limit}"
            ))
        })
    };
    let shape = tensor.shape.iter().map(length);
    let shape = shape.collect::<Result<_, Error>>()?;
    check_nesting(&tensor.shape)?;
    let data = match tensor.datatype {
        Datatype::Bytes => listed(&tensor, &texts(&tensor)?),
        Datatype::Bool => {
            let each = tensor.raw.iter().map(|it| Of::BoolValue(*it != 0));
            listed(&tensor, &each.collect::<Vec<_>>())
        }
        _ => default_data::DataOneof::Tensor(Doubles {
            shape,
            values: doubles(&tensor)?,
        }),
    };
    let message = SeldonMessage {
        data_oneof: Some(DataOneof::Data(DefaultData {
            data_oneof: Some(data),
            ..DefaultData::default()
        })),
        ..SeldonMessage::default()
    };
    Ok(message.encode_to_vec())
}

fn doubles(tensor: &Tensor) -> Result<Vec<f64>, Error> {
    fn each<const N: usize>(raw: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        raw.as_chunks::<N>()
            .0
            .iter()
            .map(|it| number(*it))
            .collect()
    }
    let raw = &tensor.raw[..];
    let wide = |found: Option<String>| match found {
        None => Ok(()),
        Some(number) => Err(bad(format!(
            "input {:?} has {number}, which is no double, and Seldon's protocol has no other numbers: send whole numbers \
             up to 2^53, or text",
            tensor.name
        ))),
    };
    #[allow(clippy::cast_precision_loss)]
    Ok(match tensor.datatype {
        Datatype::Uint8 => each(raw, |it| u8::from_le_bytes(it).into()),
        Datatype::Uint16 => each(raw, |it| u16::from_le_bytes(it).into()),
        Datatype::Uint32 => each(raw, |it| u32::from_le_bytes(it).into()),
        Datatype::Int8 => each(raw, |it| i8::from_le_bytes(it).into()),
        Datatype::Int16 => each(raw, |it| i16::from_le_bytes(it).into()),
        Datatype::Int32 => each(raw, |it| i32::from_le_bytes(it).into()),
        Datatype::Fp16 => each(raw, |it| half::f16::from_le_bytes(it).into()),
        Datatype::Bf16 => each(raw, |it| half::bf16::from_le_bytes(it).into()),
        Datatype::Fp32 => each(raw, |it| f32::from_le_bytes(it).into()),
        Datatype::Fp64 => each(raw, f64::from_le_bytes),
        Datatype::Uint64 => {
            let mut numbers = raw.as_chunks().0.iter().map(|it| u64::from_le_bytes(*it));
            wide(numbers.find(|it| *it > EXACT).map(|it| it.to_string()))?;
            each(raw, |it| u64::from_le_bytes(it) as f64)
        }
        Datatype::Int64 => {
            let mut numbers = raw.as_chunks().0.iter().map(|it| i64::from_le_bytes(*it));
            wide(
                numbers
                    .find(|it| it.unsigned_abs() > EXACT)
                    .map(|it| it.to_string()),
            )?;
            each(raw, |it| i64::from_le_bytes(it) as f64)
        }
        Datatype::Bool | Datatype::Bytes => Vec::new(),
    })
}

fn texts(tensor: &Tensor) -> Result<Vec<Of>, Error> {
    let mut texts = Vec::new();
    let mut rest = &tensor.raw[..];
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let element = tail.split_at_checked(u32::from_le_bytes(*length) as usize);
        let (element, tail) = element.ok_or_else(|| not_whole(tensor))?;
        let text = std::str::from_utf8(element).map_err(|_| {
            bad(format!(
                "input {:?} has bytes that are no UTF-8, and Seldon's lists hold text: send them as binData in Seldon's \
                 form, POST /api/v1.0/predictions",
                tensor.name
            ))
        })?;
        texts.push(Of::StringValue(text.to_owned()));
        rest = tail;
    }
    if rest.is_empty() && Some(texts.len()) == count(&tensor.shape) {
        return Ok(texts);
    }
    Err(not_whole(tensor))
}

fn not_whole(tensor: &Tensor) -> Error {
    bad(format!(
        "input {:?} has not as many whole elements of {} as its shape {:?}",
        tensor.name,
        tensor.datatype.name(),
        tensor.shape
    ))
}

pub fn count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |count, length| count.checked_mul(*length))
}

/// Lists of lists, as a shape has them; its elements are as many.
fn listed(tensor: &Tensor, elements: &[Of]) -> default_data::DataOneof {
    fn nested(shape: &[usize], elements: &mut std::slice::Iter<'_, Of>) -> Value {
        let kind = match shape {
            [] => elements.next().cloned(),
            [length, inner @ ..] => {
                let values = (0..*length).map(|_| nested(inner, elements));
                let values = values.collect();
                Some(Of::ListValue(ListValue { values }))
            }
        };
        Value { kind }
    }
    let mut elements = elements.iter();
    let list = match nested(&tensor.shape, &mut elements) {
        Value {
            kind: Some(Of::ListValue(list)),
        } => list,
        // Seldon's lists have at least one level.
        single => ListValue {
            values: vec![single],
        },
    };
    default_data::DataOneof::Ndarray(list)
}
