//! `google.protobuf.Value`, `ListValue` and `Struct` as one tree.

use super::protobuf::{Field, MAX_DEPTH, Oneof, Reader, Sink, bad, text};
use crate::error::Error;

/// A JSON-like value. At most [`MAX_DEPTH`] deep when decoded; whoever builds one to encode keeps to that too.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(f64),
    /// Only in the tree of a meta (routing, unknown metric types, OIP's parameters); JSON values have no
    /// integers. Wide enough for int64 and uint64.
    Integer(i128),
    String(String),
    List(Vec<Value>),
    /// In wire order; of equal keys the last one counts.
    Struct(Vec<(String, Value)>),
}

impl Value {
    /// Decode a `google.protobuf.Value`; a message without any kind set is null.
    pub(super) fn decode(message: &[u8], depth: usize) -> Result<Self, Error> {
        if depth >= MAX_DEPTH {
            return Err(bad(format!("values nested deeper than {MAX_DEPTH}")));
        }
        // By far the most frequent one: number_value and nothing else.
        if let [0x11, number @ ..] = message
            && let Ok(number) = number.try_into()
        {
            return Ok(Self::Number(f64::from_le_bytes(number)));
        }
        let mut value = Self::Null;
        let mut oneof = Oneof::default();
        let mut reader = Reader::new(message);
        while let Some((number, field)) = reader.next()? {
            value = match (number, field) {
                (1, Field::Varint(_)) => Self::Null,
                (2, Field::Fixed64(bytes)) => Self::Number(f64::from_le_bytes(bytes)),
                (3, Field::Bytes(bytes)) => Self::String(text(bytes)?),
                (4, Field::Varint(set)) => Self::Bool(set != 0),
                (5 | 6, Field::Bytes(bytes)) => {
                    oneof.set(number, bytes);
                    continue;
                }
                _ => continue,
            };
            oneof = Oneof::default();
        }
        match oneof.number {
            5 => Ok(Self::Struct(decode_struct(&oneof.bytes, depth + 1)?)),
            6 => Ok(Self::List(decode_list(&oneof.bytes, depth + 1)?)),
            _ => Ok(value),
        }
    }

    pub(super) fn encode(&self, sink: &mut impl Sink) {
        match self {
            Self::Null => sink.varint_field(1, 0),
            Self::Bool(set) => sink.varint_field(4, u64::from(*set)),
            Self::Number(number) => put_number(sink, *number),
            Self::Integer(number) => put_number(sink, *number as f64),
            Self::String(text) => sink.bytes_field(3, text.as_bytes()),
            Self::List(values) => sink.message(6, |sink| encode_list(values, sink)),
            Self::Struct(fields) => sink.message(5, |sink| encode_struct(fields, sink)),
        }
    }
}

fn put_number(sink: &mut impl Sink, number: f64) {
    sink.put(&number.to_le_bytes());
    sink.tag(2, 1);
}

/// Decode a `ListValue`.
pub(super) fn decode_list(message: &[u8], depth: usize) -> Result<Vec<Value>, Error> {
    let mut values = Vec::new();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        if let (1, Field::Bytes(bytes)) = (number, field) {
            values.push(Value::decode(bytes, depth)?);
        }
    }
    Ok(values)
}

pub(super) fn encode_list(values: &[Value], sink: &mut impl Sink) {
    for value in values.iter().rev() {
        sink.message(1, |sink| value.encode(sink));
    }
}

fn decode_struct(message: &[u8], depth: usize) -> Result<Vec<(String, Value)>, Error> {
    let mut fields = Vec::new();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        if let (1, Field::Bytes(bytes)) = (number, field) {
            fields.push(decode_entry(bytes, depth)?);
        }
    }
    Ok(fields)
}

/// Decode an entry of a `map<string, Value>`.
pub(super) fn decode_entry(message: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let mut key = String::new();
    let mut value = Oneof::default();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => key = text(bytes)?,
            (2, Field::Bytes(bytes)) => value.set(number, bytes),
            _ => {}
        }
    }
    Ok((key, Value::decode(&value.bytes, depth)?))
}

fn encode_struct(fields: &[(String, Value)], sink: &mut impl Sink) {
    for (key, value) in fields.iter().rev() {
        sink.message(1, |sink| {
            sink.message(2, |sink| value.encode(sink));
            sink.bytes_field(1, key.as_bytes());
        });
    }
}
