//! A request to infer: its JSON, and the extension for binary tensors, as the message of gRPC.

use bytes::Bytes;

use crate::error::Error;
use crate::local::messages::inference::infer_parameter::ParameterChoice;
use crate::local::messages::inference::model_infer_request::{
    InferInputTensor, InferRequestedOutputTensor,
};
use crate::local::messages::inference::{InferParameter, ModelInferRequest};
use crate::rest::tensors::json::{Kind, Reader, bad};
use crate::rest::tensors::parameters::{Parameters, number};
use crate::rest::tensors::{Datatype, Elements};

/// The parameter with the bytes of a tensor behind the JSON.
pub(super) const SIZE: &str = "binary_data_size";
const BINARY: &str = "binary_data";
const ALL_BINARY: &str = "binary_data_output";

/// What a request wants of its answer.
#[derive(Debug, Default)]
pub struct Wish {
    /// All outputs as binary data, but for those named.
    is_binary: bool,
    outputs: Vec<(String, bool)>,
}

/// An input as it is read.
#[derive(Default)]
struct Input<'a> {
    tensor: InferInputTensor,
    data: Data<'a>,
}

#[derive(Default)]
enum Data<'a> {
    #[default]
    None,
    /// Text of data that came before their type.
    Text(&'a [u8]),
    Elements(Elements),
}

/// The message of a request to infer, and what it wants of its answer. Each input has its raw contents.
///
/// # Errors
/// `bad_request`.
pub fn read(
    model_name: String,
    model_version: String,
    body: &Bytes,
    header_length: Option<usize>,
) -> Result<(ModelInferRequest, Wish), Error> {
    let length = header_length.unwrap_or(body.len());
    if length > body.len() {
        return Err(bad(format!(
            "inference-header-content-length says {length} bytes of JSON, the body has {}",
            body.len()
        )));
    }
    let mut request = ModelInferRequest {
        model_name,
        model_version,
        ..ModelInferRequest::default()
    };
    let mut wish = Wish::default();
    let (mut inputs, mut has_inputs) = (Vec::new(), false);
    let mut reader = Reader::new(&body[..length]);
    reader.object(|reader, key| {
        match key {
            "id" => request.id = reader.string()?.into_owned(),
            "parameters" => request.parameters = parameters(reader)?,
            "inputs" => {
                has_inputs = true;
                reader.array(|reader| {
                    inputs.push(input(reader)?);
                    Ok(())
                })?;
            }
            "outputs" => reader.array(|reader| {
                request.outputs.push(output(reader)?);
                Ok(())
            })?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    if !has_inputs {
        return Err(bad("a request has inputs".to_owned()));
    }
    if let Some(choice) = request.parameters.remove(ALL_BINARY) {
        wish.is_binary = is_true(ALL_BINARY, &choice)?;
    }
    for output in &mut request.outputs {
        if let Some(choice) = output.parameters.remove(BINARY) {
            wish.outputs
                .push((output.name.clone(), is_true(BINARY, &choice)?));
        }
    }
    let mut binary = body.slice(length..);
    for mut input in inputs {
        let raw = input.raw(&mut binary).map_err(|error| {
            let name = &input.tensor.name;
            Error::new(error.kind, format!("input {name:?}: {}", error.message))
        })?;
        request.raw_input_contents.push(raw);
        request.inputs.push(input.tensor);
    }
    if !binary.is_empty() {
        return Err(bad(format!(
            "{} bytes behind the JSON belong to no input ({SIZE})",
            binary.len()
        )));
    }
    Ok((request, wish))
}

fn input<'a>(reader: &mut Reader<'a>) -> Result<Input<'a>, Error> {
    let mut input = Input::default();
    reader.object(|reader, key| {
        match key {
            "name" => input.tensor.name = reader.string()?.into_owned(),
            "datatype" => input.tensor.datatype = reader.string()?.into_owned(),
            "shape" => reader.array(|reader| {
                let text = reader.number()?;
                let length = text.parse().ok().filter(|length: &i64| *length >= 0);
                let length = length.ok_or_else(|| bad(format!("{text} is no length")))?;
                input.tensor.shape.push(length);
                Ok(())
            })?,
            "parameters" => input.tensor.parameters = parameters(reader)?,
            "data" => {
                input.data = match Datatype::find(&input.tensor.datatype) {
                    Some(datatype) => Data::Elements(Elements::read(reader, datatype)?),
                    None => {
                        let place = reader.place();
                        reader.skip()?;
                        Data::Text(reader.text_from(place))
                    }
                }
            }
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    Ok(input)
}

// === impl Input ===

impl Input<'_> {
    /// The raw contents; what lies behind the JSON is taken from `binary`.
    fn raw(&mut self, binary: &mut Bytes) -> Result<Bytes, Error> {
        let datatype = Datatype::find(&self.tensor.datatype).ok_or_else(|| {
            let known = Datatype::names();
            bad(format!(
                "datatype {:?} is none of {known}",
                self.tensor.datatype
            ))
        })?;
        let count = (self.tensor.shape.iter()).try_fold(1usize, |count, length| {
            count.checked_mul(usize::try_from(*length).ok()?)
        });
        let count = count.ok_or_else(|| bad("the shape is too large".to_owned()))?;
        if let Some(size) = self.tensor.parameters.remove(SIZE) {
            return self.behind(size, datatype, count, binary);
        }
        let elements = match std::mem::take(&mut self.data) {
            Data::None => return Err(bad(format!("it has neither data nor {SIZE}"))),
            Data::Elements(elements) => elements,
            Data::Text(text) => Elements::read(&mut Reader::new(text), datatype)?,
        };
        if elements.count != count {
            return Err(bad(format!(
                "it has {} elements, its shape {:?} has {count}",
                elements.count, self.tensor.shape
            )));
        }
        Ok(elements.raw.into())
    }

    fn behind(
        &self,
        size: InferParameter,
        datatype: Datatype,
        count: usize,
        binary: &mut Bytes,
    ) -> Result<Bytes, Error> {
        if !matches!(self.data, Data::None) {
            return Err(bad(format!("it has both data and {SIZE}")));
        }
        let size = match size.parameter_choice {
            Some(ParameterChoice::Int64Param(size)) => usize::try_from(size).ok(),
            _ => None,
        };
        let size = size.ok_or_else(|| bad(format!("{SIZE} is no number of bytes")))?;
        if datatype.size() > 0 && count.checked_mul(datatype.size()) != Some(size) {
            return Err(bad(format!(
                "{SIZE} is {size}, but {count} elements of {} have {} bytes each",
                datatype.name(),
                datatype.size()
            )));
        }
        if size > binary.len() {
            return Err(bad(format!(
                "{SIZE} is {size}, but only {} bytes are left behind the JSON",
                binary.len()
            )));
        }
        Ok(binary.split_to(size))
    }
}

fn output(reader: &mut Reader<'_>) -> Result<InferRequestedOutputTensor, Error> {
    let mut output = InferRequestedOutputTensor::default();
    reader.object(|reader, key| {
        match key {
            "name" => output.name = reader.string()?.into_owned(),
            "parameters" => output.parameters = parameters(reader)?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    Ok(output)
}

fn parameters(reader: &mut Reader<'_>) -> Result<Parameters, Error> {
    let mut parameters = Parameters::new();
    if reader.kind()? == Kind::Null {
        reader.null()?;
        return Ok(parameters);
    }
    reader.object(|reader, key| {
        let choice = match reader.kind()? {
            Kind::Bool => ParameterChoice::BoolParam(reader.bool()?),
            Kind::String => ParameterChoice::StringParam(reader.string()?.into_owned()),
            Kind::Number => number(reader.number()?)?,
            // What gRPC has no parameter for: MLServer's own clients send null for what is not set.
            Kind::Null => return reader.null(),
            Kind::Array | Kind::Object => {
                return Err(reader.error("a parameter: true or false, a number, or a string"));
            }
        };
        let parameter_choice = Some(choice);
        parameters.insert(key.to_owned(), InferParameter { parameter_choice });
        Ok(())
    })?;
    Ok(parameters)
}

fn is_true(name: &str, parameter: &InferParameter) -> Result<bool, Error> {
    match parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(is_true)) => Ok(is_true),
        _ => Err(bad(format!("the parameter {name} is true or false"))),
    }
}

// === impl Wish ===

impl Wish {
    pub(super) fn is_binary(&self, output: &str) -> bool {
        let named = self.outputs.iter().find(|(name, _)| name == output);
        named.map_or(self.is_binary, |(_, is_binary)| *is_binary)
    }
}
