//! Seldon's JSON, which is protobuf's of a SeldonMessage.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use prost::Message;
use prost_types::value::Kind as Of;
use prost_types::{ListValue, Struct, Value};

use super::elements::{Datatype, NotFinite, Strings, Writer, string};
use super::json::{Kind, Reader, bad};
use super::reply::Reply;
use crate::error::{Error, ErrorKind};
use crate::local::messages::seldon::protos::{
    DefaultData, Meta, SeldonMessage, Status, Tensor, default_data, metric::MetricType,
    seldon_message::DataOneof, status::StatusFlag,
};

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

/// The answer that a message says.
///
/// # Errors
/// `bad_upstream_response`; `bad_request` where JSON cannot say it.
pub fn reply(message: Bytes) -> Result<Reply, Error> {
    let message = SeldonMessage::decode(message).map_err(|error| {
        let text = format!("the answer does not parse: {error}");
        Error::new(ErrorKind::BadUpstreamResponse, text)
    })?;
    let mut fields = Fields::default();
    if let Some(status) = &message.status {
        fields.add("status", |json| {
            json.extend_from_slice(status_json(status).to_string().as_bytes());
            Ok(())
        })?;
    }
    if let Some(meta) = &message.meta {
        fields.add("meta", |json| {
            json.extend_from_slice(meta_json(meta).to_string().as_bytes());
            Ok(())
        })?;
    }
    match &message.data_oneof {
        Some(DataOneof::Data(data)) => fields.add("data", |json| write_data(json, data))?,
        Some(DataOneof::BinData(bytes)) => fields.add("binData", |json| {
            string(json, &BASE64.encode(bytes));
            Ok(())
        })?,
        Some(DataOneof::StrData(text)) => fields.add("strData", |json| {
            string(json, text);
            Ok(())
        })?,
        Some(DataOneof::JsonData(value)) => fields.add("jsonData", |json| {
            json.extend_from_slice(value_json(value).to_string().as_bytes());
            Ok(())
        })?,
        Some(DataOneof::CustomData(any)) => {
            let text = format!(
                "the answer is a message of {}: call over gRPC",
                any.type_url
            );
            return Err(Error::new(ErrorKind::BadRequest, text));
        }
        None => {}
    }
    Ok(Reply::of(fields.finish().into()))
}

/// An object as it is written.
struct Fields {
    json: Vec<u8>,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            json: b"{".to_vec(),
        }
    }
}

impl Fields {
    fn add(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        string(&mut self.json, name);
        self.json.push(b':');
        write(&mut self.json)
    }

    fn finish(mut self) -> Vec<u8> {
        self.json.push(b'}');
        self.json
    }
}

fn write_data(json: &mut Vec<u8>, data: &DefaultData) -> Result<(), Error> {
    let mut fields = Fields::default();
    // Also where there are none, as the wrapper does.
    fields.add("names", |json| {
        json.extend_from_slice(serde_json::json!(data.names).to_string().as_bytes());
        Ok(())
    })?;
    match &data.data_oneof {
        Some(default_data::DataOneof::Tensor(tensor)) => fields.add("tensor", |json| {
            json.extend_from_slice(b"{\"shape\":");
            json.extend_from_slice(serde_json::json!(tensor.shape).to_string().as_bytes());
            json.extend_from_slice(b",\"values\":[");
            let raw: Vec<u8> = tensor
                .values
                .iter()
                .flat_map(|it| it.to_le_bytes())
                .collect();
            let strings = Strings::Text;
            Writer::new(Datatype::Fp64, &raw, NotFinite::Quoted, strings).rest(json)?;
            json.extend_from_slice(b"]}");
            Ok(())
        })?,
        Some(default_data::DataOneof::Ndarray(list)) => fields.add("ndarray", |json| {
            json.extend_from_slice(list_json(list).to_string().as_bytes());
            Ok(())
        })?,
        Some(default_data::DataOneof::Tftensor(_)) => {
            let text = "the answer is a tftensor: call over gRPC, or ask with tensor or ndarray";
            return Err(Error::new(ErrorKind::BadRequest, text));
        }
        None => {}
    }
    json.extend_from_slice(&fields.finish());
    Ok(())
}

fn status_json(status: &Status) -> serde_json::Value {
    let flag = StatusFlag::try_from(status.status).unwrap_or_default();
    serde_json::json!({
        "code": status.code, "info": status.info, "reason": status.reason, "status": flag.as_str_name(),
    })
}

fn meta_json(meta: &Meta) -> serde_json::Value {
    let mut json = serde_json::Map::new();
    if !meta.puid.is_empty() {
        json.insert("puid".to_owned(), meta.puid.as_str().into());
    }
    if !meta.tags.is_empty() {
        let tags = meta
            .tags
            .iter()
            .map(|(name, tag)| (name.clone(), value_json(tag)));
        json.insert("tags".to_owned(), serde_json::Value::Object(tags.collect()));
    }
    if !meta.routing.is_empty() {
        json.insert("routing".to_owned(), serde_json::json!(meta.routing));
    }
    if !meta.request_path.is_empty() {
        json.insert(
            "requestPath".to_owned(),
            serde_json::json!(meta.request_path),
        );
    }
    if !meta.metrics.is_empty() {
        let metrics = meta.metrics.iter().map(|metric| {
            let kind = MetricType::try_from(metric.r#type).unwrap_or_default();
            serde_json::json!({
                "key": metric.key, "type": kind.as_str_name(), "value": metric.value, "tags": metric.tags,
            })
        });
        json.insert("metrics".to_owned(), metrics.collect());
    }
    serde_json::Value::Object(json)
}

fn list_json(list: &ListValue) -> serde_json::Value {
    list.values.iter().map(value_json).collect()
}

/// A whole number is written without a fraction, as protobuf's JSON does.
fn value_json(value: &Value) -> serde_json::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match &value.kind {
        None | Some(Of::NullValue(_)) => serde_json::Value::Null,
        Some(Of::BoolValue(is_true)) => (*is_true).into(),
        Some(Of::StringValue(text)) => text.as_str().into(),
        #[allow(clippy::cast_possible_truncation)]
        Some(Of::NumberValue(number)) if number.fract() == 0.0 && number.abs() < EXACT => {
            (*number as i64).into()
        }
        Some(Of::NumberValue(number)) if number.is_finite() => (*number).into(),
        Some(Of::NumberValue(number)) if number.is_nan() => "NaN".into(),
        Some(Of::NumberValue(number)) if *number > 0.0 => "Infinity".into(),
        Some(Of::NumberValue(_)) => "-Infinity".into(),
        Some(Of::ListValue(list)) => list_json(list),
        Some(Of::StructValue(fields)) => {
            let fields = fields.fields.iter();
            let fields = fields.map(|(name, value)| (name.clone(), value_json(value)));
            serde_json::Value::Object(fields.collect())
        }
    }
}
