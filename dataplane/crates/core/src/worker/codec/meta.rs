//! Seldon's `Meta`: what hooks see of it, and what of it an answer brings back.

use super::protobuf::{Field, Reader, text};
use super::value::{Value, decode_entry};
use crate::error::Error;

/// The meta of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// The fields of `google.protobuf.json_format.MessageToDict(meta)`: camelCase, unset ones left out.
    pub fields: Vec<(String, Value)>,
    /// Encoded content of the answer's meta: the request's without routing.
    pub answer: Vec<u8>,
    /// OIP's parameters of single inputs, by the input's name; only of those that have any.
    pub inputs: Vec<(String, Value)>,
}

impl Meta {
    pub(super) fn decode(message: &[u8]) -> Result<Self, Error> {
        let (mut puid, mut tags, mut routing) = (String::new(), Vec::new(), Vec::new());
        let (mut request_path, mut metrics, mut answer) = (Vec::new(), Vec::new(), Vec::new());
        let mut reader = Reader::new(message);
        while let Some((number, field)) = reader.next()? {
            let Field::Bytes(bytes) = field else { continue };
            match number {
                1 => puid = text(bytes)?,
                2 => tags.push(decode_entry(bytes, 0)?),
                3 => routing.push(decode_route(bytes)?),
                4 => request_path.push(decode_pair(bytes)?),
                5 => metrics.push(Value::Struct(decode_metric(bytes)?)),
                _ => continue,
            }
            if number != 3 {
                put_forward(&mut answer, number, bytes);
            }
        }
        let mut fields = Vec::new();
        if !puid.is_empty() {
            fields.push(("puid".to_owned(), Value::String(puid)));
        }
        for (name, map) in [
            ("tags", tags),
            ("routing", routing),
            ("requestPath", request_path),
        ] {
            if !map.is_empty() {
                fields.push((name.to_owned(), Value::Struct(map)));
            }
        }
        if !metrics.is_empty() {
            fields.push(("metrics".to_owned(), Value::List(metrics)));
        }
        Ok(Self {
            fields,
            answer,
            inputs: Vec::new(),
        })
    }
}

/// Append a length-delimited field; of its number one byte of tag is enough.
pub(super) fn put_forward(target: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    debug_assert!(number < 16);
    target.push((number << 3 | 2) as u8);
    let mut length = bytes.len();
    while length >= 0x80 {
        target.push(length as u8 | 0x80);
        length >>= 7;
    }
    target.push(length as u8);
    target.extend_from_slice(bytes);
}

fn decode_route(message: &[u8]) -> Result<(String, Value), Error> {
    let (mut key, mut route) = (String::new(), 0);
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => key = text(bytes)?,
            (2, Field::Varint(value)) => route = value as i32,
            _ => {}
        }
    }
    Ok((key, Value::Integer(i128::from(route))))
}

fn decode_pair(message: &[u8]) -> Result<(String, Value), Error> {
    let (mut key, mut value) = (String::new(), String::new());
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => key = text(bytes)?,
            (2, Field::Bytes(bytes)) => value = text(bytes)?,
            _ => {}
        }
    }
    Ok((key, Value::String(value)))
}

fn decode_metric(message: &[u8]) -> Result<Vec<(String, Value)>, Error> {
    let (mut key, mut kind, mut value, mut tags) = (String::new(), 0, 0_f32, Vec::new());
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => key = text(bytes)?,
            (2, Field::Varint(number)) => kind = number as i32,
            (3, Field::Fixed32(bytes)) => value = f32::from_le_bytes(bytes),
            (4, Field::Bytes(bytes)) => tags.push(decode_pair(bytes)?),
            _ => {}
        }
    }
    let mut fields = Vec::new();
    if !key.is_empty() {
        fields.push(("key".to_owned(), Value::String(key)));
    }
    match kind {
        0 => {}
        1 => fields.push(("type".to_owned(), Value::String("GAUGE".to_owned()))),
        2 => fields.push(("type".to_owned(), Value::String("TIMER".to_owned()))),
        unknown => fields.push(("type".to_owned(), Value::Integer(i128::from(unknown)))),
    }
    if value.to_bits() != 0 {
        fields.push(("value".to_owned(), json_float(value)));
    }
    if !tags.is_empty() {
        fields.push(("tags".to_owned(), Value::Struct(tags)));
    }
    Ok(fields)
}

/// A float as json_format writes it: the first of 6 to 9 significant digits that reads back equal.
fn json_float(value: f32) -> Value {
    if value.is_nan() {
        return Value::String("NaN".to_owned());
    }
    if value.is_infinite() {
        return Value::String(if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned());
    }
    (5..=8)
        .filter_map(|digits| format!("{value:.digits$e}").parse::<f64>().ok())
        .find(|&candidate| candidate as f32 == value)
        .map_or(Value::Number(f64::from(value)), Value::Number)
}
