//! One call of gRPC that this process makes to itself.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, Uri};

use super::reply::Failed;
use crate::call::inflate::inflate;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::framing;
use crate::grpc::metadata::{ACCESS_ERROR, GRPC_ENCODING};
use crate::grpc::status::{GRPC_MESSAGE, decode_message, parse_grpc_status};
use crate::net::pipe::{Gone, Reading, pipe};
use crate::net::stream::{Answer, Body, Head};

/// Makes calls with the metadata of one request.
pub struct Caller<F> {
    pub metadata: HeaderMap,
    pub max_message_bytes: usize,
    /// Starts a call, which ends when nobody reads its answer any more.
    pub start: F,
}

// === impl Caller ===

impl<F: Fn(Head, Body, Answer)> Caller<F> {
    /// Call a method, and return the message of its answer.
    pub async fn call(&self, path: &'static str, message: Vec<u8>) -> Result<Bytes, Failed> {
        let length = u32::try_from(message.len()).map_err(|_| {
            let text = format!(
                "the message of {} bytes is too long for gRPC",
                message.len()
            );
            Error::new(ErrorKind::MessageTooLarge, text)
        })?;
        let mut framed = BytesMut::with_capacity(framing::PREFIX + message.len());
        framed.put_slice(&framing::prefix(length));
        framed.put_slice(&message);
        drop(message);
        let head = Head {
            verb: Method::POST,
            uri: Uri::from_static(path),
            headers: self.metadata.clone(),
        };
        let (writing, reading) = pipe();
        (self.start)(head, Body::ready(framed.freeze()), Answer::piped(writing));
        let answered = read(&reading, self.max_message_bytes).await;
        answered.unwrap_or_else(|Gone| {
            Err(Failed {
                code: Code::Unavailable,
                kind: Some(ErrorKind::ConnectionLost),
                text: "the answer broke off".to_owned(),
            })
        })
    }
}

async fn read(reading: &Reading, max_message_bytes: usize) -> Result<Result<Bytes, Failed>, Gone> {
    let (_, headers) = reading.head().await?;
    let mut message = BytesMut::new();
    while let Some(chunk) = reading.chunk().await {
        message.extend_from_slice(&chunk?);
    }
    let trailers = reading.trailers();
    // An answer without a message has its status in the headers.
    let ended = trailers.as_ref().unwrap_or(&headers);
    Ok(match failed(ended) {
        Some(failed) => Err(failed),
        None => unframed(&headers, message.freeze(), max_message_bytes).map_err(Failed::from),
    })
}

fn failed(ended: &HeaderMap) -> Option<Failed> {
    let code = parse_grpc_status(ended).unwrap_or(Code::Unknown);
    let text = ended.get(&GRPC_MESSAGE);
    let kind = ended.get(&ACCESS_ERROR).and_then(|it| it.to_str().ok());
    (code != Code::Ok).then(|| Failed {
        code,
        kind: kind.and_then(ErrorKind::from_name),
        text: text.map_or_else(String::new, |it| decode_message(it.as_bytes())),
    })
}

fn unframed(
    headers: &HeaderMap,
    mut framed: Bytes,
    max_message_bytes: usize,
) -> Result<Bytes, Error> {
    let broken = || {
        let text = "the answer is not one whole message";
        Error::new(ErrorKind::BadUpstreamResponse, text)
    };
    if framed.len() < framing::PREFIX {
        return Err(broken());
    }
    let is_compressed = framed.get_u8() == 1;
    if framed.get_u32() as usize != framed.len() {
        return Err(broken());
    }
    if is_compressed {
        return inflate(headers.get(&GRPC_ENCODING), &framed, max_message_bytes);
    }
    Ok(framed)
}
