//! The Open Inference Protocol's messages of gRPC: tensors into a call, and out of its answer.

use bytes::Bytes;
use prost::Message;

use crate::error::{Error, ErrorKind};
use crate::local::messages::inference::model_infer_request::InferInputTensor;
use crate::local::messages::inference::model_infer_response::InferOutputTensor;
use crate::local::messages::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
    ModelMetadataResponse,
};
use crate::rest::grpc::caller::parse;
use crate::rest::tensors::parameters::Parameters;
use crate::rest::tensors::{Datatype, Named, Tensor};

pub const METADATA: &str = "/inference.GRPCInferenceService/ModelMetadata";
pub const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

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
pub fn inputs(metadata: Bytes) -> Result<Vec<Named>, Error> {
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

/// Whether raw contents are those of all outputs, or of none.
///
/// # Errors
/// `bad_upstream_response`.
pub fn check_contents(answer: &ModelInferResponse) -> Result<(), Error> {
    let (outputs, raw) = (answer.outputs.len(), answer.raw_output_contents.len());
    if raw == 0 || raw == outputs {
        return Ok(());
    }
    let text = format!("the answer has {outputs} outputs and {raw} raw contents");
    Err(Error::new(ErrorKind::BadUpstreamResponse, text))
}

/// The raw form of typed contents.
///
/// # Errors
/// `bad_upstream_response`: the type has none.
pub fn typed(output: &InferOutputTensor) -> Result<Bytes, Error> {
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
