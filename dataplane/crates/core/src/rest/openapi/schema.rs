//! Inputs and outputs of a model as schemas of JSON, and an example of each.

use serde_json::{Value, json};

use super::ask::Field;
use crate::rest::tensors::Datatype;

/// An example with more elements shows nobody anything.
const MAX_EXAMPLE: usize = 4096;

/// An input as the Open Inference Protocol has it.
pub fn input(field: &Field) -> Value {
    let element = element(field.datatype);
    let flat = json!({"type": "array", "items": element});
    let data = match &field.shape {
        // One dimension has one form.
        Some(shape) if shape.len() < 2 => flat,
        Some(shape) => json!({"anyOf": [flat, nested(&element, shape)]}),
        None => json!({"$ref": "#/components/schemas/Values"}),
    };
    json!({
        "type": "object", "title": field.name, "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"const": field.name}, "datatype": {"const": field.datatype.name()},
            "shape": shape(field),
            "parameters": {"$ref": "#/components/schemas/Parameters"}, "data": data,
        },
    })
}

/// An output as the Open Inference Protocol has it.
pub fn output(field: &Field) -> Value {
    // What JSON has no number for is null.
    let element = match element(field.datatype) {
        number if number["type"] == "number" => json!({"type": ["number", "null"]}),
        element => element,
    };
    json!({
        "type": "object", "title": field.name, "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"const": field.name}, "datatype": {"const": field.datatype.name()},
            "shape": shape(field),
            "parameters": {"$ref": "#/components/schemas/Parameters"},
            "data": {"type": "array", "items": element},
        },
    })
}

/// A tensor as TF Serving's JSON nests it; `skip` dimensions lie outside.
pub fn value(field: &Field, skip: usize) -> Value {
    let element = match field.datatype {
        Datatype::Bytes => json!({"anyOf": [
            {"type": "string"},
            {"type": "object", "required": ["b64"], "properties": {"b64": {"type": "string"}}},
        ]}),
        datatype => element(datatype),
    };
    match &field.shape {
        Some(shape) => nested(&element, shape.get(skip..).unwrap_or_default()),
        None => json!({}),
    }
}

/// The elements of an input, all of them zero: flat.
pub fn example(field: &Field) -> Option<Value> {
    let shape = example_shape(field)?;
    let count = shape.iter().product();
    let data = vec![zero(field.datatype); count];
    Some(json!({
        "name": field.name, "datatype": field.datatype.name(), "shape": shape, "data": data,
    }))
}

/// The same, nested.
pub fn example_value(field: &Field, skip: usize) -> Option<Value> {
    let shape = example_shape(field)?;
    let inner = shape.get(skip..).unwrap_or_default();
    let zero = zero(field.datatype);
    Some(
        inner
            .iter()
            .rev()
            .fold(zero, |value, length| Value::Array(vec![value; *length])),
    )
}

/// The shape with every open length 1.
fn example_shape(field: &Field) -> Option<Vec<usize>> {
    let shape = field.shape.as_ref()?.iter();
    let shape: Vec<usize> = shape
        .map(|length| usize::try_from(*length).unwrap_or(1))
        .collect();
    let count = (shape.iter()).try_fold(1usize, |count, length| count.checked_mul(*length));
    count.filter(|count| *count <= MAX_EXAMPLE).map(|_| shape)
}

fn zero(datatype: Datatype) -> Value {
    match element(datatype)["type"].as_str() {
        Some("boolean") => json!(false),
        Some("string") => json!("text"),
        _ => json!(0),
    }
}

/// What JSON Schema has for tuples (`prefixItems`) few programs that make clients know: open lengths are told in words.
fn shape(field: &Field) -> Value {
    let mut schema = json!({"type": "array", "items": {"type": "integer", "minimum": 0}});
    let Some(shape) = &field.shape else {
        return schema;
    };
    if shape.iter().all(|length| *length >= 0) {
        return json!({"const": shape});
    }
    schema["description"] = format!("{shape:?}, where -1 is any length").into();
    schema["minItems"] = shape.len().into();
    schema["maxItems"] = shape.len().into();
    schema
}

fn nested(element: &Value, shape: &[i64]) -> Value {
    shape.iter().rev().fold(element.clone(), |items, length| {
        let mut schema = json!({"type": "array", "items": items});
        if *length >= 0 {
            schema["minItems"] = (*length).into();
            schema["maxItems"] = (*length).into();
        }
        schema
    })
}

fn element(datatype: Datatype) -> Value {
    let whole =
        |least: i64, most: u64| json!({"type": "integer", "minimum": least, "maximum": most});
    match datatype {
        Datatype::Bool => json!({"type": "boolean"}),
        Datatype::Uint8 => whole(0, u8::MAX.into()),
        Datatype::Uint16 => whole(0, u16::MAX.into()),
        Datatype::Uint32 => whole(0, u32::MAX.into()),
        Datatype::Uint64 => whole(0, u64::MAX),
        Datatype::Int8 => whole(i8::MIN.into(), i8::MAX as u64),
        Datatype::Int16 => whole(i16::MIN.into(), i16::MAX as u64),
        Datatype::Int32 => whole(i32::MIN.into(), i32::MAX as u64),
        Datatype::Int64 => whole(i64::MIN, i64::MAX as u64),
        Datatype::Fp32 => json!({"type": "number", "format": "float"}),
        Datatype::Fp64 => json!({"type": "number", "format": "double"}),
        Datatype::Fp16 | Datatype::Bf16 => json!({"type": "number"}),
        Datatype::Bytes => json!({"type": "string"}),
    }
}
