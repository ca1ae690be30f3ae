//! Seldon's JSON of an answer, which is protobuf's of a SeldonMessage.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use prost::Message;
use prost_types::value::Kind as Of;
use prost_types::{ListValue, Value};

use crate::error::{Error, ErrorKind};
use crate::local::messages::seldon::protos::{
    DefaultData, Meta, SeldonMessage, Status, default_data, metric::MetricType,
    seldon_message::DataOneof, status::StatusFlag,
};
use crate::rest::tensors::{Datatype, NotFinite, Strings, Writer, string};
use crate::rest::web::reply::Reply;

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
