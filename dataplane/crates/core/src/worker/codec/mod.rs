//! Seldon's and OIP's messages: bytes of a gRPC message to arrays and values, and answers to bytes. Knows the
//! formats only; which kind an answer takes is the caller's choice.

mod dtype;
mod fingerprint;
mod meta;
pub mod oip;
mod protobuf;
mod tensor;
mod tftensor;
mod value;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use dtype::DType;
pub use fingerprint::fingerprint;
pub use meta::Meta;
pub use protobuf::MAX_DEPTH;
pub use tensor::Tensor;
pub use tftensor::{TensorRef, TfData, TfDataRef, TfTensor};
pub use value::Value;

use crate::error::{Error, ErrorKind};
use crate::grpc::framing::{self, PREFIX};
use protobuf::{Backwards, Counter, Field, Oneof, Reader, Sink, text};

/// What a request brought: of Seldon's by the member of its oneof.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    Tensor(Tensor),
    /// Also `data {}` with nothing in it, as an empty list: hooks get an empty array for it.
    NdArray(Vec<Value>),
    TfTensor(TfTensor),
    BinData(Bytes),
    StrData(String),
    JsonData(Value),
    /// An encoded `google.protobuf.Any`.
    CustomData(Vec<u8>),
    /// The named inputs of an OIP request.
    Infer(Vec<(String, TfTensor)>),
    /// No member of the oneof was set.
    None,
}

impl Payload {
    /// How many rows it brings a model: the first size of its first tensor; 1 where it has none.
    pub fn rows(&self) -> usize {
        let shape = match self {
            Self::Tensor(tensor) => tensor.shape.first(),
            Self::TfTensor(tensor) => tensor.shape.first(),
            Self::Infer(inputs) => inputs.first().and_then(|(_, tensor)| tensor.shape.first()),
            Self::NdArray(values) => return values.len().max(1),
            _ => None,
        };
        shape.map_or(1, |&rows| rows.max(1))
    }

    /// The name that Python knows the kind by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tensor(_) => "tensor",
            Self::NdArray(_) => "ndarray",
            Self::TfTensor(_) => "tftensor",
            Self::BinData(_) => "binData",
            Self::StrData(_) => "strData",
            Self::JsonData(_) => "jsonData",
            Self::CustomData(_) => "customData",
            Self::Infer(_) => "infer",
            Self::None => "none",
        }
    }
}

/// A decoded SeldonMessage. Its status and data.names reach nobody, as in seldon-core's wrapper.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub payload: Payload,
    pub meta: Meta,
}

/// Decode a `seldon.protos.SeldonMessage`.
///
/// `max_filled_bytes` bounds the memory of a tftensor that sends fewer values than its shape has; everything
/// else is in proportion to the body.
///
/// # Errors
/// BadRequest with the place of the fault; MessageTooLarge beyond `max_filled_bytes`.
pub fn decode(body: &Bytes, max_filled_bytes: usize) -> Result<Request, Error> {
    let mut meta: Option<Oneof<'_>> = None;
    let mut payload = Payload::None;
    let mut oneof = Oneof::default();
    let mut reader = Reader::new(body);
    while let Some((number, field)) = reader.next()? {
        let Field::Bytes(bytes) = field else { continue };
        match number {
            2 => meta.get_or_insert_default().set(2, bytes),
            3 | 6 | 7 => oneof.set(number, bytes),
            4 => (oneof, payload) = (Oneof::default(), Payload::BinData(body.slice_ref(bytes))),
            5 => (oneof, payload) = (Oneof::default(), Payload::StrData(text(bytes)?)),
            _ => {}
        }
    }
    match oneof.number {
        3 => payload = decode_data(&oneof.bytes, max_filled_bytes)?,
        6 => payload = Payload::JsonData(Value::decode(&oneof.bytes, 0)?),
        7 => payload = Payload::CustomData(oneof.bytes.into_owned()),
        _ => {}
    }
    let meta = meta.map_or(Ok(Meta::default()), |meta| Meta::decode(&meta.bytes))?;
    Ok(Request { payload, meta })
}

fn decode_data(message: &[u8], max_filled_bytes: usize) -> Result<Payload, Error> {
    let mut oneof = Oneof::default();
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.next()? {
        if let (2..=4, Field::Bytes(bytes)) = (number, field) {
            oneof.set(number, bytes);
        }
    }
    match oneof.number {
        2 => Tensor::decode(&oneof.bytes).map(Payload::Tensor),
        3 => value::decode_list(&oneof.bytes, 0).map(Payload::NdArray),
        4 => TfTensor::decode(&oneof.bytes, max_filled_bytes).map(Payload::TfTensor),
        _ => Ok(Payload::NdArray(Vec::new())),
    }
}

/// What an answer holds. Whoever makes one has checked that shapes and lengths agree.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    Tensor {
        shape: &'a [usize],
        values: &'a [f64],
    },
    NdArray(&'a [Value]),
    TfTensor(TensorRef<'a>),
    BinData(&'a [u8]),
    StrData(&'a str),
    JsonData(&'a Value),
    /// An encoded `google.protobuf.Any`.
    CustomData(&'a [u8]),
}

/// Encode an answer as a SeldonMessage with gRPC's five-byte prefix in front.
///
/// `names` become data.names where there is data; `meta` is [`Meta::answer`] of the request.
///
/// # Errors
/// MessageTooLarge when the message has more than `max_bytes`.
pub fn encode(
    answer: &Answer<'_>,
    names: &[String],
    meta: &[u8],
    max_bytes: usize,
) -> Result<Bytes, Error> {
    let message = Seldon {
        answer,
        names,
        meta,
    };
    encode_message(&message, max_bytes)
}

/// A message that can be written backwards, but for a tail that is copied once.
trait Encode {
    fn write(&self, sink: &mut impl Sink);
    /// Append what [`write`](Self::write) left room for.
    fn append_tail(&self, framed: &mut Vec<u8>);
}

struct Seldon<'a> {
    answer: &'a Answer<'a>,
    names: &'a [String],
    meta: &'a [u8],
}

fn encode_message(message: &impl Encode, max_bytes: usize) -> Result<Bytes, Error> {
    let mut counter = Counter::default();
    message.write(&mut counter);
    let length = counter.total();
    let prefix = u32::try_from(length)
        .ok()
        .filter(|_| length <= max_bytes)
        .ok_or_else(|| {
            let text = format!(
                "the answer has {length} bytes, the limit is {max_bytes} (max_message_bytes)"
            );
            Error::new(ErrorKind::MessageTooLarge, text)
        })?;
    let mut head = Backwards::new(counter.head());
    message.write(&mut head);
    let mut framed = Vec::with_capacity(PREFIX + length);
    framed.extend_from_slice(&framing::prefix(prefix));
    framed.extend_from_slice(&head.finish());
    message.append_tail(&mut framed);
    Ok(framed.into())
}

impl Encode for Seldon<'_> {
    fn write(&self, sink: &mut impl Sink) {
        encode_into(self.answer, self.names, self.meta, sink);
    }

    fn append_tail(&self, framed: &mut Vec<u8>) {
        append_tail(self.answer, framed);
    }
}

fn encode_into(answer: &Answer<'_>, names: &[String], meta: &[u8], sink: &mut impl Sink) {
    match *answer {
        Answer::Tensor { shape, values } => encode_data(names, sink, |sink| {
            sink.message(2, |sink| tensor::encode_tensor(shape, values, sink));
        }),
        Answer::NdArray(values) => encode_data(names, sink, |sink| {
            sink.message(3, |sink| value::encode_list(values, sink));
        }),
        Answer::TfTensor(tensor) => encode_data(names, sink, |sink| {
            sink.message(4, |sink| tftensor::encode_tftensor(&tensor, sink));
        }),
        Answer::BinData(bytes) => sink.message(4, |sink| sink.tail(bytes.len())),
        Answer::StrData(text) => sink.message(5, |sink| sink.tail(text.len())),
        Answer::JsonData(value) => sink.message(6, |sink| value.encode(sink)),
        Answer::CustomData(any) => sink.message(7, |sink| sink.tail(any.len())),
    }
    sink.bytes_field(2, meta);
}

/// Append what [`encode_into`] left room for.
fn append_tail(answer: &Answer<'_>, framed: &mut Vec<u8>) {
    match *answer {
        Answer::Tensor { values, .. } => tensor::append_doubles(framed, values),
        Answer::TfTensor(tensor) => framed.extend_from_slice(tftensor::content(&tensor)),
        Answer::BinData(bytes) | Answer::CustomData(bytes) => framed.extend_from_slice(bytes),
        Answer::StrData(text) => framed.extend_from_slice(text.as_bytes()),
        Answer::NdArray(_) | Answer::JsonData(_) => {}
    }
}

fn encode_data<S: Sink>(names: &[String], sink: &mut S, content: impl FnOnce(&mut S)) {
    sink.message(3, |sink| {
        content(sink);
        names
            .iter()
            .rev()
            .for_each(|name| sink.bytes_field(1, name.as_bytes()));
    });
}
