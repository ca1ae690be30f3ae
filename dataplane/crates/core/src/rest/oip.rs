//! The Open Inference Protocol over HTTP: its JSON, and the extension for binary tensors, against its gRPC messages.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::elements::{self, Datatype, Elements, NotFinite, Strings, Tensor, Writer};
use super::json::{Kind, Reader, bad};
use super::reply::{Failed, HEADER_LENGTH, Reply};
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::local::messages::inference::infer_parameter::ParameterChoice;
use crate::local::messages::inference::model_infer_request::{
    InferInputTensor, InferRequestedOutputTensor,
};
use crate::local::messages::inference::model_infer_response::InferOutputTensor;
use crate::local::messages::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    ModelStreamInferResponse, ServerLiveResponse, ServerMetadataResponse, ServerReadyResponse,
};

/// Which call of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    ServerLive,
    ServerReady,
    ServerMetadata,
    ModelReady,
    ModelMetadata,
    Infer,
}

/// What a request wants of its answer.
#[derive(Debug, Default)]
pub struct Wish {
    /// All outputs as binary data, but for those named.
    is_binary: bool,
    outputs: Vec<(String, bool)>,
}

/// What goes beside the tensors of a request.
pub type Parameters = BTreeMap<String, InferParameter>;

const SIZE: &str = "binary_data_size";
const BINARY: &str = "binary_data";
const ALL_BINARY: &str = "binary_data_output";

// === impl Call ===

impl Call {
    /// Path of the call of gRPC.
    pub fn path(self) -> &'static str {
        match self {
            Self::ServerLive => "/inference.GRPCInferenceService/ServerLive",
            Self::ServerReady => "/inference.GRPCInferenceService/ServerReady",
            Self::ServerMetadata => "/inference.GRPCInferenceService/ServerMetadata",
            Self::ModelReady => "/inference.GRPCInferenceService/ModelReady",
            Self::ModelMetadata => "/inference.GRPCInferenceService/ModelMetadata",
            Self::Infer => "/inference.GRPCInferenceService/ModelInfer",
        }
    }

    /// The message of the call. `header_length` is that of the JSON in front of binary data.
    ///
    /// # Errors
    /// `bad_request`.
    pub fn request(
        self,
        model: String,
        version: String,
        body: &Bytes,
        header_length: Option<usize>,
    ) -> Result<(Vec<u8>, Wish), Error> {
        let message = match self {
            Self::ServerLive | Self::ServerReady | Self::ServerMetadata => Vec::new(),
            Self::ModelReady => ModelReadyRequest {
                name: model,
                version,
            }
            .encode_to_vec(),
            Self::ModelMetadata => ModelMetadataRequest {
                name: model,
                version,
            }
            .encode_to_vec(),
            Self::Infer => {
                let (request, wish) = read(model, version, body, header_length)?;
                return Ok((request.encode_to_vec(), wish));
            }
        };
        Ok((message, Wish::default()))
    }

    /// The answer to a call's message.
    ///
    /// # Errors
    /// `bad_upstream_response`; `bad_request` where JSON cannot say it.
    pub fn reply(self, message: Bytes, wish: &Wish) -> Result<Reply, Error> {
        match self {
            Self::ServerLive => Ok(state("live", parse::<ServerLiveResponse>(message)?.live)),
            Self::ServerReady => Ok(state("ready", parse::<ServerReadyResponse>(message)?.ready)),
            Self::ModelReady => Ok(state("ready", parse::<ModelReadyResponse>(message)?.ready)),
            Self::ServerMetadata => {
                let server: ServerMetadataResponse = parse(message)?;
                Ok(Reply::json(&serde_json::json!({
                    "name": server.name, "version": server.version, "extensions": server.extensions,
                })))
            }
            Self::ModelMetadata => Ok(metadata(parse(message)?)),
            Self::Infer => inferred(parse(message)?, wish),
        }
    }
}

/// The JSON of one answer of a stream. Triton wraps them, MLServer does not.
///
/// # Errors
/// What the model says of the message that it answers; `bad_upstream_response`.
pub fn streamed(message: Bytes) -> Result<Bytes, Failed> {
    let wrapped: Option<ModelStreamInferResponse> = parse(message.clone()).ok();
    let answer = match ModelInferResponse::decode(message) {
        // The wrapper has no such field.
        Ok(answer) if !answer.outputs.is_empty() => answer,
        _ => {
            let wrapped = wrapped.unwrap_or_default();
            if !wrapped.error_message.is_empty() {
                return Err(Failed {
                    code: Code::Unknown,
                    kind: None,
                    number: None,
                    text: wrapped.error_message,
                });
            }
            wrapped.infer_response.unwrap_or_default()
        }
    };
    let reply = inferred(answer, &Wish::default())?;
    if reply.headers.contains_key(HEADER_LENGTH) {
        let text =
            "an output has bytes that are not UTF-8, which an event cannot say: call over gRPC";
        return Err(Error::new(ErrorKind::BadUpstreamResponse, text).into());
    }
    Ok(reply.body)
}

fn parse<T: Message + Default>(message: Bytes) -> Result<T, Error> {
    T::decode(message).map_err(|error| {
        let text = format!("the answer does not parse: {error}");
        Error::new(ErrorKind::BadUpstreamResponse, text)
    })
}

/// What is not so is told by the status, too: probes read nothing else.
pub fn state(name: &str, is_so: bool) -> Reply {
    let mut reply = Reply::json(&serde_json::json!({ name: is_so }));
    if !is_so {
        reply.status = http::StatusCode::BAD_REQUEST;
    }
    reply
}

fn metadata(model: ModelMetadataResponse) -> Reply {
    let tensors = |tensors: Vec<_>| -> serde_json::Value {
        tensors
            .into_iter()
            .map(
                |it: crate::local::messages::inference::model_metadata_response::TensorMetadata| {
                    serde_json::json!({"name": it.name, "datatype": it.datatype, "shape": it.shape})
                },
            )
            .collect()
    };
    Reply::json(&serde_json::json!({
        "name": model.name, "versions": model.versions, "platform": model.platform,
        "inputs": tensors(model.inputs), "outputs": tensors(model.outputs),
    }))
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

/// The parameter that a number becomes.
///
/// # Errors
/// `bad_request`.
pub fn number(text: &str) -> Result<ParameterChoice, Error> {
    if let Ok(value) = text.parse() {
        return Ok(ParameterChoice::Int64Param(value));
    }
    if let Ok(value) = text.parse() {
        return Ok(ParameterChoice::Uint64Param(value));
    }
    let value = text
        .parse()
        .map_err(|_| bad(format!("{text} is no number")))?;
    Ok(ParameterChoice::DoubleParam(value))
}

fn is_true(name: &str, parameter: &InferParameter) -> Result<bool, Error> {
    match parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(is_true)) => Ok(is_true),
        _ => Err(bad(format!("the parameter {name} is true or false"))),
    }
}

// === impl Wish ===

impl Wish {
    fn is_binary(&self, output: &str) -> bool {
        let named = self.outputs.iter().find(|(name, _)| name == output);
        named.map_or(self.is_binary, |(_, is_binary)| *is_binary)
    }
}

fn check_contents(answer: &ModelInferResponse) -> Result<(), Error> {
    let (outputs, raw) = (answer.outputs.len(), answer.raw_output_contents.len());
    if raw == 0 || raw == outputs {
        return Ok(());
    }
    let text = format!("the answer has {outputs} outputs and {raw} raw contents");
    Err(Error::new(ErrorKind::BadUpstreamResponse, text))
}

/// The answer that a message says.
///
/// # Errors
/// `bad_upstream_response`; `bad_request` where JSON cannot say it.
pub fn inferred(answer: ModelInferResponse, wish: &Wish) -> Result<Reply, Error> {
    check_contents(&answer)?;
    let raw = &answer.raw_output_contents;
    let length: usize = raw.iter().map(Bytes::len).sum();
    let mut json = Vec::with_capacity(256 + 2 * length);
    let mut binary: Vec<Bytes> = Vec::new();
    json.extend_from_slice(b"{\"model_name\":");
    elements::string(&mut json, &answer.model_name);
    for (name, value) in [("model_version", &answer.model_version), ("id", &answer.id)] {
        if !value.is_empty() {
            json.extend_from_slice(format!(",\"{name}\":").as_bytes());
            elements::string(&mut json, value);
        }
    }
    write_parameters(&mut json, &answer.parameters, None);
    json.extend_from_slice(b",\"outputs\":[");
    for (index, output) in answer.outputs.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        let contents = match raw.get(index) {
            Some(raw) => raw.clone(),
            None => typed(output)?,
        };
        write_output(&mut json, output, contents, wish, &mut binary)?;
    }
    json.extend_from_slice(b"]}");
    if binary.is_empty() {
        return Ok(Reply::of(json.into()));
    }
    let header_length = json.len();
    let mut body = BytesMut::from(&json[..]);
    for contents in binary {
        body.extend_from_slice(&contents);
    }
    Ok(Reply::binary(body.freeze(), header_length))
}

fn write_output(
    json: &mut Vec<u8>,
    output: &InferOutputTensor,
    contents: Bytes,
    wish: &Wish,
    binary: &mut Vec<Bytes>,
) -> Result<(), Error> {
    let named = |error: Error| {
        Error::new(
            error.kind,
            format!("output {:?}: {}", output.name, error.message),
        )
    };
    let datatype = Datatype::find(&output.datatype).ok_or_else(|| {
        let text = format!("datatype {:?} is unknown", output.datatype);
        named(Error::new(ErrorKind::BadUpstreamResponse, text))
    })?;
    json.extend_from_slice(b"{\"name\":");
    elements::string(json, &output.name);
    json.extend_from_slice(format!(",\"datatype\":\"{}\",\"shape\":[", datatype.name()).as_bytes());
    for (index, length) in output.shape.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(itoa::Buffer::new().format(*length).as_bytes());
    }
    json.push(b']');
    if wish.is_binary(&output.name) {
        write_parameters(json, &output.parameters, Some(contents.len()));
        binary.push(contents);
    } else {
        write_parameters(json, &output.parameters, None);
        json.extend_from_slice(b",\"data\":[");
        let mut writer = Writer::new(datatype, &contents, NotFinite::Null, Strings::Text);
        writer.rest(json).map_err(named)?;
        json.push(b']');
    }
    json.push(b'}');
    Ok(())
}

fn write_parameters(json: &mut Vec<u8>, parameters: &Parameters, size: Option<usize>) {
    if parameters.is_empty() && size.is_none() {
        return;
    }
    let value = |parameter: &InferParameter| match &parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => (*value).into(),
        Some(ParameterChoice::Int64Param(value)) => (*value).into(),
        Some(ParameterChoice::Uint64Param(value)) => (*value).into(),
        Some(ParameterChoice::DoubleParam(value)) => (*value).into(),
        Some(ParameterChoice::StringParam(value)) => value.as_str().into(),
        None => serde_json::Value::Null,
    };
    let mut all: serde_json::Map<_, _> = parameters
        .iter()
        .map(|(name, parameter)| (name.clone(), value(parameter)))
        .collect();
    if let Some(size) = size {
        all.insert(SIZE.to_owned(), size.into());
    }
    json.extend_from_slice(b",\"parameters\":");
    json.extend_from_slice(serde_json::Value::Object(all).to_string().as_bytes());
}

/// A question for a model's inputs and outputs.
pub fn metadata_request(model: &str, version: &str) -> Vec<u8> {
    ModelMetadataRequest {
        name: model.to_owned(),
        version: version.to_owned(),
    }
    .encode_to_vec()
}

/// A call of the model with these tensors.
pub fn infer_request(
    model: &str,
    version: &str,
    tensors: Vec<Tensor>,
    parameters: Parameters,
) -> Vec<u8> {
    let mut request = ModelInferRequest {
        model_name: model.to_owned(),
        model_version: version.to_owned(),
        parameters,
        ..ModelInferRequest::default()
    };
    for tensor in tensors {
        let shape = tensor
            .shape
            .iter()
            .map(|length| i64::try_from(*length).unwrap_or(i64::MAX));
        request.inputs.push(InferInputTensor {
            name: tensor.name,
            datatype: tensor.datatype.name().to_owned(),
            shape: shape.collect(),
            ..InferInputTensor::default()
        });
        request.raw_input_contents.push(tensor.raw);
    }
    request.encode_to_vec()
}

/// The outputs of a call of the model.
///
/// # Errors
/// `bad_upstream_response`.
pub fn outputs(message: Bytes) -> Result<Vec<Tensor>, Error> {
    let answer: ModelInferResponse = parse(message)?;
    check_contents(&answer)?;
    let mut outputs = Vec::with_capacity(answer.outputs.len());
    for (index, output) in answer.outputs.into_iter().enumerate() {
        let raw = match answer.raw_output_contents.get(index) {
            Some(raw) => raw.clone(),
            None => typed(&output)?,
        };
        let unknown = || {
            let text = format!("output {:?} has an unknown type or shape", output.name);
            Error::new(ErrorKind::BadUpstreamResponse, text)
        };
        let shape = output
            .shape
            .iter()
            .map(|length| usize::try_from(*length).ok());
        outputs.push(Tensor {
            datatype: Datatype::find(&output.datatype).ok_or_else(unknown)?,
            shape: shape.collect::<Option<_>>().ok_or_else(unknown)?,
            raw,
            name: output.name,
        });
    }
    Ok(outputs)
}

/// The inputs of a model.
///
/// # Errors
/// `bad_upstream_response`.
pub fn inputs(metadata: Bytes) -> Result<Vec<(String, Datatype)>, Error> {
    let metadata: ModelMetadataResponse = parse(metadata)?;
    let inputs = metadata.inputs.into_iter().map(|input| {
        let datatype = Datatype::find(&input.datatype).ok_or_else(|| {
            let text = format!(
                "input {:?} has the unknown type {:?}",
                input.name, input.datatype
            );
            Error::new(ErrorKind::BadUpstreamResponse, text)
        })?;
        Ok((input.name, datatype))
    });
    inputs.collect()
}

/// The raw form of typed contents.
fn typed(output: &InferOutputTensor) -> Result<Bytes, Error> {
    fn raw<const N: usize>(numbers: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
        numbers.flatten().collect()
    }
    let empty = InferTensorContents::default();
    let contents = output.contents.as_ref().unwrap_or(&empty);
    let ints = contents.int_contents.iter();
    let uints = contents.uint_contents.iter();
    // Narrow types have the wide ones' fields: what is beyond them is cut off.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bytes = match Datatype::find(&output.datatype) {
        Some(Datatype::Bool) => contents
            .bool_contents
            .iter()
            .map(|it| u8::from(*it))
            .collect(),
        Some(Datatype::Uint8) => raw(uints.map(|it| (*it as u8).to_le_bytes())),
        Some(Datatype::Uint16) => raw(uints.map(|it| (*it as u16).to_le_bytes())),
        Some(Datatype::Uint32) => raw(uints.map(|it| it.to_le_bytes())),
        Some(Datatype::Uint64) => raw(contents.uint64_contents.iter().map(|it| it.to_le_bytes())),
        Some(Datatype::Int8) => raw(ints.map(|it| (*it as i8).to_le_bytes())),
        Some(Datatype::Int16) => raw(ints.map(|it| (*it as i16).to_le_bytes())),
        Some(Datatype::Int32) => raw(ints.map(|it| it.to_le_bytes())),
        Some(Datatype::Int64) => raw(contents.int64_contents.iter().map(|it| it.to_le_bytes())),
        Some(Datatype::Fp32) => raw(contents.fp32_contents.iter().map(|it| it.to_le_bytes())),
        Some(Datatype::Fp64) => raw(contents.fp64_contents.iter().map(|it| it.to_le_bytes())),
        Some(Datatype::Bytes) => {
            let mut bytes = Vec::new();
            for element in &contents.bytes_contents {
                let length = u32::try_from(element.len()).unwrap_or(u32::MAX);
                bytes.extend_from_slice(&length.to_le_bytes());
                bytes.extend_from_slice(element);
            }
            bytes
        }
        Some(Datatype::Fp16 | Datatype::Bf16) | None => {
            let text = format!(
                "output {:?} of {} has no raw contents",
                output.name, output.datatype
            );
            return Err(Error::new(ErrorKind::BadUpstreamResponse, text));
        }
    };
    Ok(bytes.into())
}
