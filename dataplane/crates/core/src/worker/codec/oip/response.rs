//! `inference.ModelInferResponse`, and Triton's `ModelStreamInferResponse` around it. Tensors are always raw:
//! tritonclient reads nothing else.

use std::borrow::Cow;

use bytes::Bytes;

use super::super::meta::put_forward;
use super::super::protobuf::{Sink, bad};
use super::super::tftensor::{TensorRef, TfDataRef};
use super::super::{Encode, encode_message};
use super::shown;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::{ACCESS_ERROR, ACCESS_ERROR_NUMBER};
use crate::grpc::status::GRPC_STATUS;
use crate::headers::Token;

/// One tensor of an answer.
#[derive(Clone, Copy, Debug)]
pub struct InferOutput<'a> {
    pub name: &'a str,
    pub tensor: TensorRef<'a>,
}

/// What an answer has beside its tensors: whose it is, what was asked for, and how it is sent.
#[derive(Clone, Debug)]
pub struct InferEnvelope {
    /// Encoded model_name, model_version and id.
    head: Vec<u8>,
    outputs: Vec<String>,
    is_stream: bool,
}

/// A response ready to be written.
struct Response<'a> {
    outputs: Vec<(&'a InferOutput<'a>, &'static str, Cow<'a, [u8]>)>,
    envelope: &'a InferEnvelope,
}

/// Why one message of a stream was refused. What a call's trailers would say are parameters of its answer.
#[derive(Clone, Copy, Debug)]
pub struct StreamFault<'a> {
    pub message: &'a str,
    pub code: Code,
    pub kind: Option<ErrorKind>,
    pub number: Option<i32>,
}

/// The refusal ready to be written.
struct StreamError<'a> {
    fault: StreamFault<'a>,
    envelope: &'a InferEnvelope,
}

impl InferEnvelope {
    /// Args: the model's own name and version, whatever the request called them; `id`: the request's; `outputs`:
    /// those asked for, empty for all; `is_stream`: whether the answer is one of ModelStreamInfer.
    pub fn new(
        model_name: &str,
        model_version: &str,
        id: &str,
        outputs: Vec<String>,
        is_stream: bool,
    ) -> Self {
        let mut bytes = Vec::new();
        for (number, text) in [(1, model_name), (2, model_version), (3, id)] {
            if !text.is_empty() {
                put_forward(&mut bytes, number, text.as_bytes());
            }
        }
        Self {
            head: bytes,
            outputs,
            is_stream,
        }
    }

    /// The outputs that were asked for, in the order asked.
    fn choose<'a>(
        &self,
        outputs: &'a [InferOutput<'a>],
    ) -> Result<Vec<&'a InferOutput<'a>>, Error> {
        if self.outputs.is_empty() {
            return Ok(outputs.iter().collect());
        }
        let choose = |wanted: &String| {
            let found = outputs.iter().find(|output| output.name == wanted);
            found.ok_or_else(|| {
                let names: Vec<_> = outputs.iter().map(|output| output.name).collect();
                bad(format!(
                    "there is no output {}: the model gives {}",
                    shown(wanted),
                    names.join(", ")
                ))
            })
        };
        self.outputs.iter().map(choose).collect()
    }

    /// A ModelInferResponse with `content` behind its head, in the form of the method. Written backwards.
    fn write<S: Sink>(&self, sink: &mut S, content: impl FnOnce(&mut S)) {
        let response = |sink: &mut S| {
            content(sink);
            if self.is_stream {
                // Triton says of every message of a stream whether it is its request's last.
                sink.message(4, |sink| {
                    sink.message(2, |sink| sink.varint_field(1, 1));
                    sink.bytes_field(1, b"triton_final_response");
                });
            }
            sink.put(&self.head);
        };
        if self.is_stream {
            sink.message(2, response);
        } else {
            response(sink);
        }
    }
}

/// Encode an answer with gRPC's five-byte prefix in front.
///
/// # Errors
/// MessageTooLarge when the message has more than `max_bytes`; BadRequest when an output was asked for that is
/// not among `outputs`.
pub fn encode(
    outputs: &[InferOutput<'_>],
    envelope: &InferEnvelope,
    max_bytes: usize,
) -> Result<Bytes, Error> {
    let outputs = envelope.choose(outputs)?;
    let outputs = outputs.into_iter().map(|output| {
        let dtype = output.tensor.dtype;
        let datatype = dtype.oip_name().ok_or_else(|| {
            let (name, numpy) = (output.name, dtype.numpy_name());
            let text = format!("output {name} is {numpy}, which OIP does not have");
            Error::new(ErrorKind::Internal, text)
        })?;
        Ok((output, datatype, raw(output.tensor.data)))
    });
    let response = Response {
        outputs: outputs.collect::<Result<_, Error>>()?,
        envelope,
    };
    encode_message(&response, max_bytes)
}

/// Encode what a failed message of a stream gets, with gRPC's prefix in front.
pub fn encode_stream_error(
    fault: StreamFault<'_>,
    envelope: &InferEnvelope,
) -> Result<Bytes, Error> {
    encode_message(&StreamError { fault, envelope }, usize::MAX)
}

/// A tensor's elements as raw_output_contents has them.
fn raw(data: TfDataRef<'_>) -> Cow<'_, [u8]> {
    match data {
        TfDataRef::Elements(elements) => Cow::Borrowed(elements),
        TfDataRef::Strings(strings) => {
            let size = strings.iter().map(|string| 4 + string.len()).sum();
            let mut raw = Vec::with_capacity(size);
            for string in strings {
                // A string of 4 GiB is beyond every message limit, which is checked with its true length.
                raw.extend_from_slice(&(string.len() as u32).to_le_bytes());
                raw.extend_from_slice(string);
            }
            Cow::Owned(raw)
        }
    }
}

// === impl Response ===

impl Encode for Response<'_> {
    fn write(&self, sink: &mut impl Sink) {
        self.envelope.write(sink, |sink| {
            for (index, (_, _, raw)) in self.outputs.iter().enumerate().rev() {
                let is_last = index + 1 == self.outputs.len();
                sink.message(6, |sink| {
                    if is_last {
                        sink.tail(raw.len())
                    } else {
                        sink.put(raw)
                    }
                });
            }
            for (output, datatype, _) in self.outputs.iter().rev() {
                sink.message(5, |sink| {
                    if !output.tensor.shape.is_empty() {
                        sink.message(3, |sink| {
                            let sizes = output.tensor.shape.iter().rev();
                            sizes.for_each(|&size| sink.varint(size as u64));
                        });
                    }
                    sink.bytes_field(2, datatype.as_bytes());
                    sink.bytes_field(1, output.name.as_bytes());
                });
            }
        });
    }

    fn append_tail(&self, framed: &mut Vec<u8>) {
        if let Some((_, _, raw)) = self.outputs.last() {
            framed.extend_from_slice(raw);
        }
    }
}

/// One entry of a response's parameters, by the name of the trailer that says the same.
fn parameter<S: Sink>(sink: &mut S, name: Token, value: impl FnOnce(&mut S)) {
    sink.message(4, |sink| {
        sink.message(2, value);
        sink.bytes_field(1, name.name().as_bytes());
    });
}

// === impl StreamError ===

impl Encode for StreamError<'_> {
    fn write(&self, sink: &mut impl Sink) {
        let StreamFault {
            message,
            code,
            kind,
            number,
        } = self.fault;
        self.envelope.write(sink, |sink| {
            if let Some(number) = number {
                // An int64 below 0 has ten bytes, sign-extended.
                let number = i64::from(number) as u64;
                parameter(sink, ACCESS_ERROR_NUMBER, |sink| {
                    sink.varint_field(2, number)
                });
            }
            if let Some(kind) = kind {
                parameter(sink, ACCESS_ERROR, |sink| {
                    sink.bytes_field(3, kind.name().as_bytes())
                });
            }
            parameter(sink, GRPC_STATUS, |sink| {
                sink.varint_field(2, u64::from(code as u8))
            });
        });
        sink.bytes_field(1, message.as_bytes());
    }

    fn append_tail(&self, _framed: &mut Vec<u8>) {}
}
