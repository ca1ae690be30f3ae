//! The tensor of an answer of Seldon's over gRPC.

use bytes::Bytes;
use prost::Message;
use prost_types::ListValue;
use prost_types::value::Kind as Of;

use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::local::messages::seldon::protos::{
    SeldonMessage, Status, Tensor as Doubles, default_data, seldon_message::DataOneof,
    status::StatusFlag,
};
use crate::rest::model::seldon_wire::count;
use crate::rest::model::tfs_wire;
use crate::rest::tensors::json::bad;
use crate::rest::tensors::{Datatype, Tensor};
use crate::rest::web::reply::Failed;

/// What it is called, which has no name there.
const OUTPUT: &str = "output";

/// The tensor of an answer.
///
/// # Errors
/// What the answer says failed; `bad_upstream_response`; `bad_request` where it holds no tensor.
pub fn outputs(message: Bytes) -> Result<Vec<Tensor>, Failed> {
    let message = SeldonMessage::decode(message).map_err(|error| broken(&error.to_string()))?;
    if let Some(status) = &message.status
        && status.status == i32::from(StatusFlag::Failure)
    {
        return Err(failure(status));
    }
    let tensor = match message.data_oneof {
        Some(DataOneof::Data(data)) => match data.data_oneof {
            Some(default_data::DataOneof::Tensor(tensor)) => of_doubles(&tensor)?,
            Some(default_data::DataOneof::Ndarray(list)) => of_list(&list)?,
            Some(default_data::DataOneof::Tftensor(proto)) => {
                tfs_wire::tensor(OUTPUT.to_owned(), proto)?
            }
            None => return Err(broken("data without a tensor").into()),
        },
        Some(DataOneof::StrData(text)) => of_bytes(vec![1], &[text.as_bytes()])?,
        Some(DataOneof::BinData(bytes)) => of_bytes(vec![1], &[&bytes])?,
        Some(DataOneof::JsonData(_) | DataOneof::CustomData(_)) => {
            let text = "the model answers with jsonData or customData, which is no tensor: call it in Seldon's form, POST \
                        /api/v1.0/predictions";
            return Err(bad(text.to_owned()).into());
        }
        None => return Err(broken("no data").into()),
    };
    Ok(vec![tensor])
}

fn failure(status: &Status) -> Failed {
    Failed {
        code: Code::Internal,
        kind: None,
        number: None,
        retry_after: None,
        text: format!("the model failed: {} {}", status.info, status.reason)
            .trim()
            .to_owned(),
    }
}

fn broken(what: &str) -> Error {
    let text = format!("the answer in Seldon's protocol cannot be read: {what}");
    Error::new(ErrorKind::BadUpstreamResponse, text)
}

fn of_doubles(tensor: &Doubles) -> Result<Tensor, Error> {
    let shape = tensor.shape.iter().map(|it| usize::try_from(*it).ok());
    let shape: Option<Vec<usize>> = shape.collect();
    let shape = shape.filter(|shape| count(shape) == Some(tensor.values.len()));
    let shape = shape.ok_or_else(|| {
        broken(&format!(
            "shape {:?} for {} values",
            tensor.shape,
            tensor.values.len()
        ))
    })?;
    let raw: Vec<u8> = tensor
        .values
        .iter()
        .flat_map(|it| it.to_le_bytes())
        .collect();
    Ok(of(Datatype::Fp64, shape, raw))
}

fn of_bytes(shape: Vec<usize>, elements: &[&[u8]]) -> Result<Tensor, Error> {
    let mut raw = Vec::new();
    for element in elements {
        let length = u32::try_from(element.len()).map_err(|_| broken("text over 4 GiB"))?;
        raw.extend_from_slice(&length.to_le_bytes());
        raw.extend_from_slice(element);
    }
    Ok(of(Datatype::Bytes, shape, raw))
}

fn of(datatype: Datatype, shape: Vec<usize>, raw: Vec<u8>) -> Tensor {
    Tensor {
        name: OUTPUT.to_owned(),
        datatype,
        shape,
        raw: raw.into(),
    }
}

/// Lists of one length on each level, of elements of one kind.
fn of_list(list: &ListValue) -> Result<Tensor, Error> {
    let mut shape = Vec::new();
    let mut first = Some(list);
    while let Some(list) = first {
        shape.push(list.values.len());
        first = match list.values.first().and_then(|it| it.kind.as_ref()) {
            Some(Of::ListValue(inner)) => Some(inner),
            _ => None,
        };
    }
    let mut elements = Vec::new();
    flatten(list, &shape, &mut elements)?;
    let numbers = elements.iter().map(|it| match it {
        Of::NumberValue(number) => Some(number.to_le_bytes()),
        _ => None,
    });
    if let Some(raw) = numbers.collect::<Option<Vec<_>>>() {
        return Ok(of(Datatype::Fp64, shape, raw.concat()));
    }
    let flags = elements.iter().map(|it| match it {
        Of::BoolValue(is_true) => Some(u8::from(*is_true)),
        _ => None,
    });
    if let Some(raw) = flags.collect::<Option<Vec<_>>>() {
        return Ok(of(Datatype::Bool, shape, raw));
    }
    let texts = elements.iter().map(|it| match it {
        Of::StringValue(text) => Some(text.as_bytes()),
        _ => None,
    });
    match texts.collect::<Option<Vec<_>>>() {
        Some(texts) => of_bytes(shape, &texts),
        None => Err(no_tensor("elements of several kinds, or null")),
    }
}

fn flatten<'a>(
    list: &'a ListValue,
    shape: &[usize],
    elements: &mut Vec<&'a Of>,
) -> Result<(), Error> {
    let [length, inner @ ..] = shape else {
        return Err(no_tensor("lists beside elements"));
    };
    if list.values.len() != *length {
        return Err(no_tensor("lists of several lengths"));
    }
    for value in &list.values {
        match &value.kind {
            Some(Of::ListValue(list)) => flatten(list, inner, elements)?,
            Some(kind) if inner.is_empty() => elements.push(kind),
            _ => return Err(no_tensor("lists beside elements, or null")),
        }
    }
    Ok(())
}

fn no_tensor(what: &str) -> Error {
    bad(format!(
        "the model answers with an ndarray of {what}, which is no tensor: call it in Seldon's form, POST \
         /api/v1.0/predictions"
    ))
}
