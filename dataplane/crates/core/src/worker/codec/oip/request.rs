//! `inference.ModelInferRequest`: its head first, which says whom it is for, then its tensors.

use super::super::dtype::DType;
use super::super::protobuf::{Field, Oneof, Reader, bad, text, varints};
use super::super::tensor::check_shape;
use super::super::tftensor::TfTensor;
use super::super::value::Value;
use super::contents::{self, Place};
use super::{MAX_ENTRIES, shown};
use crate::error::Error;

/// What a request says before its tensors are looked at.
#[derive(Clone, Debug, Default)]
pub struct InferHead<'a> {
    /// Empty: the caller leaves it to the server.
    pub model_name: String,
    /// Empty: the caller leaves it to the server.
    pub model_version: String,
    /// Comes back in the answer.
    pub id: String,
    parameters: Vec<&'a [u8]>,
    inputs: Vec<&'a [u8]>,
    outputs: Vec<&'a [u8]>,
    raw: Vec<&'a [u8]>,
}

/// The decoded rest of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct InferRequest {
    /// In wire order; no name comes twice.
    pub inputs: Vec<(String, TfTensor)>,
    /// The outputs that the answer is to have, in this order; empty: all.
    pub outputs: Vec<String>,
    pub parameters: Vec<(String, Value)>,
    /// Parameters of single inputs, by the input's name; only of those that have any.
    pub input_parameters: Vec<(String, Value)>,
}

impl<'a> InferHead<'a> {
    /// Find the parts of a request, in any order of fields.
    ///
    /// # Errors
    /// BadRequest: it is no protobuf message, or has more than 1,024 inputs, outputs or parameters.
    pub fn decode(message: &'a [u8]) -> Result<Self, Error> {
        let mut head = Self::default();
        let mut reader = Reader::new(message);
        while let Some((number, field)) = reader.next()? {
            let Field::Bytes(bytes) = field else { continue };
            let (what, list) = match number {
                1 => {
                    head.model_name = text(bytes)?;
                    continue;
                }
                2 => {
                    head.model_version = text(bytes)?;
                    continue;
                }
                3 => {
                    head.id = text(bytes)?;
                    continue;
                }
                4 => ("parameters", &mut head.parameters),
                5 => ("inputs", &mut head.inputs),
                6 => ("outputs", &mut head.outputs),
                7 => ("raw_input_contents", &mut head.raw),
                _ => continue,
            };
            if list.len() == MAX_ENTRIES {
                return Err(bad(format!(
                    "the request has more than {MAX_ENTRIES} {what}"
                )));
            }
            list.push(bytes);
        }
        Ok(head)
    }

    /// Decode the tensors, and what else hooks may see.
    ///
    /// `max_strings_bytes` bounds the memory of BYTES elements, which cost more here than on the wire.
    ///
    /// # Errors
    /// BadRequest with the input and the fault; MessageTooLarge beyond `max_strings_bytes`.
    pub fn request(&self, max_strings_bytes: usize) -> Result<InferRequest, Error> {
        if !self.raw.is_empty() && self.raw.len() != self.inputs.len() {
            let (raw, inputs) = (self.raw.len(), self.inputs.len());
            return Err(bad(format!(
                "raw_input_contents has {raw} entries for {inputs} inputs: send one for each, in their order"
            )));
        }
        let mut inputs: Vec<(String, TfTensor)> = Vec::with_capacity(self.inputs.len());
        let mut input_parameters = Vec::new();
        for (index, message) in self.inputs.iter().enumerate() {
            let raw = self.raw.get(index).copied();
            let (input, parameters) = decode_input(message, raw, max_strings_bytes)?;
            if inputs.iter().any(|(name, _)| *name == input.0) {
                return Err(bad(format!("input {} comes twice", shown(&input.0))));
            }
            if !parameters.is_empty() {
                input_parameters.push((input.0.clone(), Value::Struct(parameters)));
            }
            inputs.push(input);
        }
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for message in &self.outputs {
            let output = decode_output(message)?;
            if outputs.contains(&output) {
                return Err(bad(format!("output {} is asked for twice", shown(&output))));
            }
            outputs.push(output);
        }
        Ok(InferRequest {
            inputs,
            outputs,
            parameters: self.parameters()?,
            input_parameters,
        })
    }

    fn parameters(&self) -> Result<Vec<(String, Value)>, Error> {
        let parameters = self.parameters.iter();
        parameters
            .map(|message| decode_parameter(message))
            .collect()
    }
}

type NamedTensor = (String, TfTensor);

/// Decode one input: its name and tensor, and its own parameters.
fn decode_input(
    message: &[u8],
    raw: Option<&[u8]>,
    max_strings_bytes: usize,
) -> Result<(NamedTensor, Vec<(String, Value)>), Error> {
    let (mut name, mut datatype, mut dimensions) = (String::new(), String::new(), Vec::new());
    let mut contents = Oneof::default();
    let mut parameters = Vec::new();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => name = text(bytes)?,
            (2, Field::Bytes(bytes)) => datatype = text(bytes)?,
            (3, field) => varints(field, |value| dimensions.push(value as i64))?,
            (4, Field::Bytes(bytes)) => add_parameter(&mut parameters, bytes)?,
            (5, Field::Bytes(bytes)) => contents.set(5, bytes),
            _ => {}
        }
    }
    let label = format!("input {}", shown(&name));
    if parameters.iter().any(|(name, _)| name == SHARED_MEMORY) {
        return Err(bad(format!("{label}: {NO_SHARED_MEMORY}")));
    }
    let Some(dtype) = DType::from_oip_name(&datatype) else {
        let known: Vec<_> = DType::all().filter_map(DType::oip_name).collect();
        return Err(bad(format!(
            "{label}: datatype {} is not one of {}",
            shown(&datatype),
            known.join(", ")
        )));
    };
    let (shape, count) = check_shape(&format!("{label}: shape"), &dimensions)?;
    let place = Place {
        label: &label,
        dtype,
        shape: &shape,
        count,
        max_strings_bytes,
    };
    let data = match raw {
        Some(_) if contents.number != 0 => {
            return Err(bad(format!(
                "{label} has contents beside raw_input_contents: send one of them"
            )));
        }
        Some(raw) => contents::decode_raw(raw, &place)?,
        None => contents::decode_typed(&contents.bytes, &place)?,
    };
    let mut tensor = TfTensor { dtype, shape, data };
    if dtype == DType::BFloat16 {
        tensor.widen();
    }
    Ok(((name, tensor), parameters))
}

/// Triton's parameters of inputs and outputs that change what is sent: refused, since ignoring them would
/// answer something else than was asked.
const SHARED_MEMORY: &str = "shared_memory_region";
const CLASSIFICATION: &str = "classification";
const NO_SHARED_MEMORY: &str =
    "shared memory is not supported: send tensors in the message, and take them from there";

fn decode_output(message: &[u8]) -> Result<String, Error> {
    let (mut name, mut parameters) = (String::new(), Vec::new());
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => name = text(bytes)?,
            (2, Field::Bytes(bytes)) => parameters.push(decode_parameter(bytes)?.0),
            _ => {}
        }
    }
    for parameter in &parameters {
        let reason = match &**parameter {
            SHARED_MEMORY => NO_SHARED_MEMORY,
            CLASSIFICATION => "classification is not supported: ask for the scores and sort them",
            _ => continue,
        };
        return Err(bad(format!("output {}: {reason}", shown(&name))));
    }
    Ok(name)
}

/// Add an entry of an input's parameters, as bounded as a request's.
fn add_parameter(parameters: &mut Vec<(String, Value)>, message: &[u8]) -> Result<(), Error> {
    if parameters.len() == MAX_ENTRIES {
        return Err(bad(format!(
            "an input has more than {MAX_ENTRIES} parameters"
        )));
    }
    parameters.push(decode_parameter(message)?);
    Ok(())
}

/// Decode an entry of a `map<string, InferParameter>`.
fn decode_parameter(message: &[u8]) -> Result<(String, Value), Error> {
    let (mut key, mut value) = (String::new(), Value::Null);
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => key = text(bytes)?,
            (2, Field::Bytes(bytes)) => value = decode_choice(bytes)?.unwrap_or(value),
            _ => {}
        }
    }
    Ok((key, value))
}

fn decode_choice(message: &[u8]) -> Result<Option<Value>, Error> {
    let mut value = None;
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        value = Some(match (number, field) {
            (1, Field::Varint(set)) => Value::Bool(set != 0),
            (2, Field::Varint(number)) => Value::Integer(i128::from(number as i64)),
            (3, Field::Bytes(bytes)) => Value::String(text(bytes)?),
            (4, Field::Fixed64(bytes)) => Value::Number(f64::from_le_bytes(bytes)),
            (5, Field::Varint(number)) => Value::Integer(i128::from(number)),
            _ => continue,
        });
    }
    Ok(value)
}
