//! TF Serving's messages of gRPC: what its REST calls become.

use bytes::Bytes;
use prost::Message;

use crate::error::{Error, ErrorKind};
use crate::local::messages::tensorflow::serving::{
    GetModelMetadataRequest, GetModelMetadataResponse, GetModelStatusRequest, ModelSpec,
    PredictRequest, PredictResponse, SignatureDefMap, model_spec::VersionChoice,
};
use crate::local::messages::tensorflow::{
    DataType, TensorProto, TensorShapeProto, tensor_shape_proto::Dim,
};
use crate::rest::grpc::caller::parse;
use crate::rest::tensors::Named;
use crate::rest::tensors::json::bad;
use crate::rest::tensors::{Datatype, Tensor};

pub const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
pub const METADATA: &str = "/tensorflow.serving.PredictionService/GetModelMetadata";
pub const STATUS: &str = "/tensorflow.serving.ModelService/GetModelStatus";

const SIGNATURES: &str = "signature_def";
/// The signature of a call that names none.
pub const DEFAULT: &str = "serving_default";

/// Elements that an answer may grow to from a single one that stands for all.
const MAX_ELEMENTS: usize = 1 << 28;

/// (TF's type, ours)
const TYPES: [(DataType, Datatype); 14] = [
    (DataType::DtFloat, Datatype::Fp32),
    (DataType::DtDouble, Datatype::Fp64),
    (DataType::DtInt32, Datatype::Int32),
    (DataType::DtUint8, Datatype::Uint8),
    (DataType::DtInt16, Datatype::Int16),
    (DataType::DtInt8, Datatype::Int8),
    (DataType::DtString, Datatype::Bytes),
    (DataType::DtInt64, Datatype::Int64),
    (DataType::DtBool, Datatype::Bool),
    (DataType::DtBfloat16, Datatype::Bf16),
    (DataType::DtUint16, Datatype::Uint16),
    (DataType::DtHalf, Datatype::Fp16),
    (DataType::DtUint32, Datatype::Uint32),
    (DataType::DtUint64, Datatype::Uint64),
];

/// Which model, and which version of it or which label.
///
/// # Errors
/// `bad_request`: the version is no number.
pub fn spec(model: &str, version: &str, label: &str) -> Result<ModelSpec, Error> {
    let choice = match (version, label) {
        ("", "") => None,
        ("", label) => Some(VersionChoice::VersionLabel(label.to_owned())),
        (version, _) => {
            let number = version.parse();
            let number = number.map_err(|_| bad(format!("version {version:?} is no number")))?;
            Some(VersionChoice::Version(number))
        }
    };
    Ok(ModelSpec {
        name: model.to_owned(),
        signature_name: String::new(),
        version_choice: choice,
    })
}

pub fn metadata_request(spec: ModelSpec) -> Vec<u8> {
    GetModelMetadataRequest {
        model_spec: Some(spec),
        metadata_field: vec![SIGNATURES.to_owned()],
    }
    .encode_to_vec()
}

pub fn status_request(spec: ModelSpec) -> Vec<u8> {
    GetModelStatusRequest {
        model_spec: Some(spec),
    }
    .encode_to_vec()
}

/// The inputs of one signature of a model.
///
/// # Errors
/// `bad_upstream_response`; `bad_request` where it has no such signature.
pub fn inputs(metadata: Bytes, signature: &str) -> Result<Vec<Named>, Error> {
    let (_, signatures) = signatures(metadata)?;
    let name = if signature.is_empty() {
        DEFAULT
    } else {
        signature
    };
    let found = signatures.signature_def.get(name).ok_or_else(|| {
        let mut known: Vec<&str> = signatures
            .signature_def
            .keys()
            .map(String::as_str)
            .collect();
        known.sort_unstable();
        bad(format!(
            "the model has no signature {name:?}; it has {}",
            known.join(", ")
        ))
    })?;
    let mut inputs = Vec::new();
    for (name, info) in &found.inputs {
        inputs.push((name.clone(), datatype(info.dtype)?));
    }
    inputs.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    Ok(inputs)
}

/// The signatures of a model, and which model it is.
///
/// # Errors
/// `bad_upstream_response`.
pub fn signatures(metadata: Bytes) -> Result<(ModelSpec, SignatureDefMap), Error> {
    let mut metadata: GetModelMetadataResponse = parse(metadata)?;
    let any = metadata.metadata.remove(SIGNATURES).unwrap_or_default();
    let signatures = parse(any.value.into())?;
    Ok((metadata.model_spec.unwrap_or_default(), signatures))
}

pub fn predict_request(mut spec: ModelSpec, signature: String, tensors: Vec<Tensor>) -> Vec<u8> {
    spec.signature_name = signature;
    let inputs = tensors
        .into_iter()
        .map(|tensor| (tensor.name.clone(), proto(tensor)));
    PredictRequest {
        model_spec: Some(spec),
        inputs: inputs.collect(),
        ..PredictRequest::default()
    }
    .encode_to_vec()
}

fn proto(tensor: Tensor) -> TensorProto {
    let number = TYPES.iter().find(|(_, ours)| *ours == tensor.datatype);
    let dims = tensor.shape.iter().map(|length| Dim {
        size: i64::try_from(*length).unwrap_or(i64::MAX),
        name: String::new(),
    });
    let mut proto = TensorProto {
        dtype: number.map_or(0, |(dtype, _)| (*dtype).into()),
        tensor_shape: Some(TensorShapeProto {
            dim: dims.collect(),
            unknown_rank: false,
        }),
        ..TensorProto::default()
    };
    if tensor.datatype == Datatype::Bytes {
        let mut rest = &tensor.raw[..];
        // What was read from JSON is whole.
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let (element, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
            proto.string_val.push(element.to_vec());
            rest = tail;
        }
    } else {
        proto.tensor_content = tensor.raw.into();
    }
    proto
}

/// The outputs of an answer, in the order of their names.
///
/// # Errors
/// `bad_upstream_response`.
pub fn outputs(message: Bytes) -> Result<Vec<Tensor>, Error> {
    let answer: PredictResponse = parse(message)?;
    let mut outputs = Vec::with_capacity(answer.outputs.len());
    for (name, proto) in answer.outputs {
        outputs.push(tensor(name, proto)?);
    }
    outputs.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(outputs)
}

/// A tensor of an answer.
///
/// # Errors
/// `bad_upstream_response`.
pub fn tensor(name: String, mut proto: TensorProto) -> Result<Tensor, Error> {
    let datatype = datatype(proto.dtype)?;
    let wrong = || {
        let text = format!("output {name:?} has not as many elements as its shape says");
        Error::new(ErrorKind::BadUpstreamResponse, text)
    };
    let dims = proto.tensor_shape.take().unwrap_or_default().dim;
    let shape = dims.iter().map(|dim| usize::try_from(dim.size).ok());
    let shape: Vec<usize> = shape.collect::<Option<_>>().ok_or_else(wrong)?;
    let count = (shape.iter()).try_fold(1usize, |count, length| count.checked_mul(*length));
    let count = count.filter(|count| *count <= MAX_ELEMENTS);
    let count = count.ok_or_else(wrong)?;
    let content = std::mem::take(&mut proto.tensor_content);
    let raw = match datatype.size() {
        0 => strings(&proto.string_val, count),
        size if content.len() == count * size => Some(content),
        size => filled(typed(datatype, &proto), size, count),
    };
    let raw = raw.ok_or_else(wrong)?.into();
    Ok(Tensor {
        name,
        datatype,
        shape,
        raw,
    })
}

/// The elements that a tensor lists, raw.
fn typed(datatype: Datatype, proto: &TensorProto) -> Vec<u8> {
    fn raw<const N: usize>(numbers: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
        numbers.flatten().collect()
    }
    let ints = proto.int_val.iter();
    let halves = proto.half_val.iter();
    // Narrow types have the wide ones' fields: what is beyond them is cut off.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    match datatype {
        Datatype::Fp32 => raw(proto.float_val.iter().map(|it| it.to_le_bytes())),
        Datatype::Fp64 => raw(proto.double_val.iter().map(|it| it.to_le_bytes())),
        Datatype::Int32 => raw(ints.map(|it| it.to_le_bytes())),
        Datatype::Int16 | Datatype::Uint16 => raw(ints.map(|it| (*it as u16).to_le_bytes())),
        Datatype::Int8 | Datatype::Uint8 => raw(ints.map(|it| [*it as u8])),
        Datatype::Int64 => raw(proto.int64_val.iter().map(|it| it.to_le_bytes())),
        Datatype::Bool => raw(proto.bool_val.iter().map(|it| [u8::from(*it)])),
        Datatype::Fp16 | Datatype::Bf16 => raw(halves.map(|it| (*it as u16).to_le_bytes())),
        Datatype::Uint32 => raw(proto.uint32_val.iter().map(|it| it.to_le_bytes())),
        Datatype::Uint64 => raw(proto.uint64_val.iter().map(|it| it.to_le_bytes())),
        Datatype::Bytes => Vec::new(),
    }
}

/// As many elements as there should be: the last one stands for all behind it.
fn filled(mut raw: Vec<u8>, size: usize, count: usize) -> Option<Vec<u8>> {
    let have = raw.len() / size;
    if have > count || (have == 0 && count > 0) {
        return None;
    }
    let last = raw.len().saturating_sub(size);
    for _ in have..count {
        raw.extend_from_within(last..last + size);
    }
    Some(raw)
}

fn strings(listed: &[Vec<u8>], count: usize) -> Option<Vec<u8>> {
    if listed.len() > count || (listed.is_empty() && count > 0) {
        return None;
    }
    let mut raw = Vec::new();
    let last = listed.last();
    for element in listed.iter().chain(last.into_iter().cycle()).take(count) {
        raw.extend_from_slice(&u32::try_from(element.len()).ok()?.to_le_bytes());
        raw.extend_from_slice(element);
    }
    Some(raw)
}

/// Our type for TF's.
///
/// # Errors
/// `bad_request`: JSON has no form for it.
pub fn datatype(number: i32) -> Result<Datatype, Error> {
    let dtype = DataType::try_from(number).ok();
    let found = TYPES.iter().find(|(tf, _)| Some(*tf) == dtype);
    found.map(|(_, ours)| *ours).ok_or_else(|| {
        let name = dtype.map_or_else(|| number.to_string(), |it| it.as_str_name().to_owned());
        bad(format!("tensors of {name} cannot be said in JSON"))
    })
}
