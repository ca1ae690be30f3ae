//! One call of gRPC that this process makes to itself.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::Method;
use prost::Message;

use crate::call::inflate::inflate;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::framing;
use crate::grpc::metadata::{
    ACCESS_ERROR, ACCESS_ERROR_NUMBER, GRPC_ENCODING, RETRY_PUSHBACK, X_MODEL, X_MODEL_VERSION,
};
use crate::grpc::status::{GRPC_MESSAGE, decode_message, parse_grpc_status};
use crate::headers::{Headers, text};
use crate::net::pipe::{Gone, Reading, pipe};
use crate::net::stream::{Answer, Body, Head};
use crate::rest::tensors::known::Known;
use crate::rest::web::reply::Failed;

/// Makes calls with the metadata of one request.
pub struct Caller<F> {
    pub metadata: Headers,
    pub max_message_bytes: usize,
    /// What was learnt of models before.
    pub known: Rc<Known>,
    /// Starts a call, which ends when nobody reads its answer any more.
    pub start: F,
}

// === impl Caller ===

impl<F: Fn(Head, Body, Answer)> Caller<F> {
    /// Call a method, and return the message of its answer.
    pub async fn call(&self, path: &'static str, message: Vec<u8>) -> Result<Bytes, Failed> {
        self.call_with(self.metadata.clone(), path, message).await
    }

    /// Call a method whose message has no place for the name and the version of a model.
    pub async fn call_for(
        &self,
        (model, version): (&str, &str),
        path: &'static str,
        message: Vec<u8>,
    ) -> Result<Bytes, Failed> {
        let mut metadata = self.metadata.clone();
        for (name, value) in [(X_MODEL, model), (X_MODEL_VERSION, version)] {
            if value.is_empty() || metadata.has(name) {
                continue;
            }
            if text(value.as_bytes()).is_none() {
                let text = format!("{value:?} can be no {name}: it is ASCII text there");
                return Err(Error::new(ErrorKind::BadRouteKey, text).into());
            }
            metadata.push(name, value);
        }
        self.call_with(metadata, path, message).await
    }

    async fn call_with(
        &self,
        headers: Headers,
        path: &'static str,
        message: Vec<u8>,
    ) -> Result<Bytes, Failed> {
        let reading = self.open_with(headers, path, message)?;
        let answered = read(&reading, self.max_message_bytes).await;
        answered.unwrap_or_else(|Gone| Err(broken_off()))
    }

    /// Call a method with one message; what its answer is read from.
    pub fn open(&self, path: &'static str, message: Vec<u8>) -> Result<Reading, Error> {
        self.open_with(self.metadata.clone(), path, message)
    }

    fn open_with(
        &self,
        headers: Headers,
        path: &'static str,
        message: Vec<u8>,
    ) -> Result<Reading, Error> {
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
            path: path.into(),
            headers,
            is_cut: false,
            is_crowded: false,
        };
        let (writing, reading) = pipe();
        (self.start)(head, Body::ready(framed.freeze()), Answer::piped(writing));
        Ok(reading)
    }
}

/// A message of an answer.
///
/// # Errors
/// `bad_upstream_response`.
pub fn parse<T: Message + Default>(message: Bytes) -> Result<T, Error> {
    T::decode(message).map_err(|error| {
        let text = format!("the answer does not parse: {error}");
        Error::new(ErrorKind::BadUpstreamResponse, text)
    })
}

/// The error of an answer without an end.
pub fn broken_off() -> Failed {
    Failed {
        code: Code::Unavailable,
        kind: Some(ErrorKind::ConnectionLost),
        text: "the answer broke off".to_owned(),
        number: None,
        retry_after: None,
    }
}

async fn read(reading: &Reading, max_message_bytes: usize) -> Result<Result<Bytes, Failed>, Gone> {
    let (_, headers) = reading.head().await?;
    let mut message = BytesMut::new();
    while let Some(chunk) = reading.chunk().await {
        message.extend_from_slice(&chunk?);
        if message.len() > max_message_bytes.saturating_add(framing::PREFIX) {
            let text = format!(
                "the answer is over the limit of {max_message_bytes} bytes (max_message_bytes), and JSON needs it \
                 whole: call over gRPC"
            );
            return Ok(Err(Error::new(ErrorKind::BadUpstreamResponse, text).into()));
        }
    }
    let trailers = reading.trailers();
    // An answer without a message has its status in the headers.
    let ended = trailers.as_ref().unwrap_or(&headers);
    Ok(match failed(ended) {
        Some(failed) => Err(failed),
        None => unframed(&headers, message.freeze(), max_message_bytes).map_err(Failed::from),
    })
}

/// The error that an answer ended with, if any.
pub fn failed(ended: &Headers) -> Option<Failed> {
    let code = parse_grpc_status(ended).unwrap_or(Code::Unknown);
    let kind = ended.text(ACCESS_ERROR);
    let number = ended.text(ACCESS_ERROR_NUMBER);
    let number = number.and_then(|it| it.parse().ok());
    (code != Code::Ok).then(|| Failed {
        code,
        kind: kind.and_then(ErrorKind::from_name),
        text: decode_message(ended.get(GRPC_MESSAGE).unwrap_or_default()),
        number,
        retry_after: pushback(ended),
    })
}

/// When the call may be made again, as gRPC says it; nothing where that is never.
fn pushback(ended: &Headers) -> Option<Duration> {
    let wait: u32 = ended.text(RETRY_PUSHBACK)?.parse().ok()?;
    Some(Duration::from_millis(wait.into()))
}

/// The message of one whole frame.
pub fn unframed(
    headers: &Headers,
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
        return inflate(
            (GRPC_ENCODING, headers.get(GRPC_ENCODING)),
            &framed,
            max_message_bytes,
        );
    }
    Ok(framed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::status::headers;
    use crate::testing::frame;

    /// What a caller makes of an answer of some chunks and trailers.
    async fn answered(chunks: &[Bytes], trailers: Option<Headers>) -> Result<Bytes, String> {
        let (writing, reading) = pipe();
        writing
            .head(http::StatusCode::OK, Headers::new(), false)
            .unwrap();
        for chunk in chunks {
            writing.send(chunk.clone(), false).unwrap();
        }
        match trailers {
            Some(trailers) => writing.trailers(trailers).unwrap(),
            None => drop(writing),
        }
        let read = read(&reading, 10).await;
        let read = read.map_err(|Gone| "gone".to_owned())?;
        read.map_err(|failed| format!("{:?}: {}", failed.code, failed.text))
    }

    #[tokio::test]
    async fn an_answer_is_one_whole_message_within_the_limit_and_a_status() {
        let ok = || Some(headers(Code::Ok, ""));
        let whole = frame(b"0123456789");
        let cut = [whole.slice(..7), whole.slice(7..)];
        assert_eq!(answered(&cut, ok()).await.unwrap(), "0123456789");
        let error = answered(&[frame(b"0123456789a")], ok()).await.unwrap_err();
        assert!(error.contains("over the limit of 10 bytes"), "{error}");
        for broken in [&cut[..1], &[whole.clone(), whole.clone()][..], &[]] {
            let error = answered(broken, ok()).await.unwrap_err();
            assert!(error.starts_with("Internal: the answer is"), "{error}");
        }
        assert_eq!(answered(&cut, None).await.unwrap_err(), "gone");
        let failed = Some(headers(Code::NotFound, "no 100 % \u{e9}"));
        let error = answered(&[], failed).await.unwrap_err();
        assert_eq!(error, "NotFound: no 100 % \u{e9}");
    }
}
