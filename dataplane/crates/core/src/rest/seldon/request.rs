//! Seldon's JSON, which is protobuf's of a SeldonMessage.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use prost::Message;
use prost_types::value::Kind as Of;
use prost_types::{ListValue, Struct, Value};

use crate::error::Error;
use crate::local::messages::seldon::protos::{
    DefaultData, Meta, SeldonMessage, Tensor, default_data, seldon_message::DataOneof,
};
use crate::rest::tensors::json::{Kind, Reader, bad};

/// The message that a document says.
///
/// # Errors
/// `bad_request`.
pub fn request(body: &[u8]) -> Result<Vec<u8>, Error> {
    let mut message = SeldonMessage::default();
    let mut reader = Reader::new(body);
    reader.object(|reader, key| {
        let data = match key {
            "data" => DataOneof::Data(data(reader)?),
            "binData" => {
                let bytes = BASE64.decode(reader.string()?.as_bytes());
                DataOneof::BinData(bytes.map_err(|error| bad(format!("binData: {error}")))?)
            }
            "strData" => DataOneof::StrData(reader.string()?.into_owned()),
            "jsonData" => DataOneof::JsonData(value(reader)?),
            "meta" => {
                message.meta = Some(meta(reader)?);
                return Ok(());
            }
            "status" => return reader.skip(),
            _ => return Err(unknown(key, "data, binData, strData, jsonData, meta")),
        };
        if message.data_oneof.replace(data).is_some() {
            return Err(bad(format!(
                "{key}: a message has one of data, binData, strData and jsonData"
            )));
        }
        Ok(())
    })?;
    reader.end()?;
    if message.data_oneof.is_none() {
        return Err(bad(
            "a message has one of data, binData, strData and jsonData, here is none".to_owned(),
        ));
    }
    Ok(message.encode_to_vec())
}

fn data(reader: &mut Reader<'_>) -> Result<DefaultData, Error> {
    let mut data = DefaultData::default();
    reader.object(|reader, key| {
        let one = match key {
            "names" => {
                return reader.array(|reader| {
                    data.names.push(reader.string()?.into_owned());
                    Ok(())
                });
            }
            "tensor" => default_data::DataOneof::Tensor(tensor(reader)?),
            "ndarray" => default_data::DataOneof::Ndarray(list(reader)?),
            _ => return Err(unknown(key, "names, tensor, ndarray")),
        };
        if data.data_oneof.replace(one).is_some() {
            return Err(bad(
                "data has one of tensor and ndarray, and not both".to_owned()
            ));
        }
        Ok(())
    })?;
    Ok(data)
}

fn tensor(reader: &mut Reader<'_>) -> Result<Tensor, Error> {
    let mut tensor = Tensor::default();
    reader.object(|reader, key| match key {
        "shape" => reader.array(|reader| {
            let text = reader.number()?;
            let length = text.parse();
            tensor
                .shape
                .push(length.map_err(|_| bad(format!("{text} is no length")))?);
            Ok(())
        }),
        "values" => {
            tensor.values = Vec::new();
            doubles(reader, &mut tensor.values)
        }
        _ => Err(unknown(key, "shape, values")),
    })?;
    let count = tensor.shape.iter().try_fold(1usize, |count, length| {
        count.checked_mul(usize::try_from(*length).ok()?)
    });
    if count != Some(tensor.values.len()) {
        return Err(bad(format!(
            "tensor has {} values, which its shape {:?} has not",
            tensor.values.len(),
            tensor.shape
        )));
    }
    Ok(tensor)
}

/// Numbers, also within arrays: the shape says how they lie.
fn doubles(reader: &mut Reader<'_>, values: &mut Vec<f64>) -> Result<(), Error> {
    match reader.kind()? {
        Kind::Array => return reader.array(|reader| doubles(reader, values)),
        // As protobuf's JSON has them, and this service answers.
        Kind::String => {
            let text = reader.string()?;
            if !matches!(&*text, "NaN" | "Infinity" | "-Infinity") {
                return Err(bad(format!("{text:.40?} is no number of a tensor")));
            }
            values.push(text.parse().unwrap_or(f64::NAN));
        }
        _ => values.push(double(reader.number()?)?),
    }
    Ok(())
}

/// A double. A whole number that is none, as is 2^53 + 1, would become another one without a word.
fn double(text: &str) -> Result<f64, Error> {
    let value: f64 = text
        .parse()
        .map_err(|_| bad(format!("{text:.40} is no number")))?;
    let is_overflow = value.is_infinite() && !text.ends_with("Infinity");
    let is_whole = text.bytes().all(|it| it.is_ascii_digit() || it == b'-');
    #[allow(clippy::cast_possible_truncation)]
    let is_other = is_whole && text.parse().ok() != Some(value as i128);
    if is_overflow || is_other {
        return Err(bad(format!(
            "{text:.40} is no double, and Seldon's protocol has no other numbers: send it as text"
        )));
    }
    Ok(value)
}

fn meta(reader: &mut Reader<'_>) -> Result<Meta, Error> {
    let mut meta = Meta::default();
    reader.object(|reader, key| match key {
        "puid" => {
            meta.puid = reader.string()?.into_owned();
            Ok(())
        }
        "tags" => reader.object(|reader, name| {
            meta.tags.insert(name.to_owned(), value(reader)?);
            Ok(())
        }),
        "routing" => reader.object(|reader, name| {
            let text = reader.number()?;
            let number = text.parse();
            let number = number.map_err(|_| bad(format!("{text} is no INT32")))?;
            meta.routing.insert(name.to_owned(), number);
            Ok(())
        }),
        "requestPath" => reader.object(|reader, name| {
            let text = reader.string()?.into_owned();
            meta.request_path.insert(name.to_owned(), text);
            Ok(())
        }),
        // What a caller says was measured is nobody's business.
        "metrics" => reader.skip(),
        _ => Err(unknown(key, "puid, tags, routing, requestPath, metrics")),
    })?;
    Ok(meta)
}

fn list(reader: &mut Reader<'_>) -> Result<ListValue, Error> {
    let mut values = Vec::new();
    reader.array(|reader| {
        values.push(value(reader)?);
        Ok(())
    })?;
    Ok(ListValue { values })
}

fn value(reader: &mut Reader<'_>) -> Result<Value, Error> {
    let kind = match reader.kind()? {
        Kind::Null => {
            reader.null()?;
            Of::NullValue(0)
        }
        Kind::Bool => Of::BoolValue(reader.bool()?),
        Kind::Number => {
            let text = reader.number()?;
            let number = Some(double(text)?).filter(|it| it.is_finite());
            // Neither protobuf's JSON nor its Value has NaN.
            Of::NumberValue(number.ok_or_else(|| bad(format!("{text} is no number here")))?)
        }
        Kind::String => Of::StringValue(reader.string()?.into_owned()),
        Kind::Array => Of::ListValue(list(reader)?),
        Kind::Object => {
            let mut fields = Struct::default();
            reader.object(|reader, key| {
                fields.fields.insert(key.to_owned(), value(reader)?);
                Ok(())
            })?;
            Of::StructValue(fields)
        }
    };
    Ok(Value { kind: Some(kind) })
}

fn unknown(key: &str, known: &str) -> Error {
    bad(format!("{key:?} is none of {known}"))
}
