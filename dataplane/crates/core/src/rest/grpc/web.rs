//! gRPC-Web (PROTOCOL-WEB.md of grpc/grpc): calls of web pages, which see neither HTTP/2 nor trailers. A call is the
//! body of a request, whole; its answer is passed on as it comes, and its trailers are a last frame of the body.
//! In the text form both are in base64.

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;

use crate::callers::signing::SignedBody;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::{ACCESS_ERROR, GRPC_ACCEPT_ENCODING, GRPC_ENCODING, RequestId};
use crate::grpc::status::{self, GRPC_STATUS};
use crate::headers::{Headers, Token};
use crate::net::pipe::{Gone, Reading, pipe};
use crate::net::stream::{Answer, Body, Head, Sender};
use crate::rest::grpc::metadata;
use crate::rest::web::body::Bodies;
use crate::rest::web::reply::Failed;
use crate::rest::web::sending::{Left, Sending};

const WEB: &str = "application/grpc-web";
const TEXT: &str = "application/grpc-web-text";
/// Marks a frame of trailers.
const TRAILERS: u8 = 0x80;

/// How the bytes of a call are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Binary,
    Text,
}

/// An answer whose head is there.
#[derive(Debug)]
pub struct Relayed {
    form: Form,
    headers: Headers,
    /// None where nothing follows.
    reading: Option<Reading>,
}

// === impl Form ===

impl Form {
    /// The form of a request; none where it is no call of gRPC-Web.
    pub fn of(headers: &Headers) -> Option<Self> {
        let content_type = headers.text(Token::CONTENT_TYPE)?;
        let content_type = content_type.to_ascii_lowercase();
        let is_it = |name: &str| {
            let rest = content_type.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
        };
        if is_it(TEXT) {
            Some(Self::Text)
        } else {
            is_it(WEB).then_some(Self::Binary)
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Binary => WEB,
            Self::Text => TEXT,
        }
    }

    /// The messages of a request.
    fn read(self, body: Bytes) -> Result<Bytes, Error> {
        match self {
            Self::Binary => Ok(body),
            Self::Text => decoded(&body).map(Bytes::from).map_err(|error| {
                let text = format!("the body is not base64: {error}");
                Error::new(ErrorKind::BadRequest, text)
            }),
        }
    }

    fn written(self, bytes: Bytes) -> Bytes {
        match self {
            Self::Binary => bytes,
            Self::Text => BASE64.encode(bytes).into(),
        }
    }
}

/// Make a call; what its answer begins with.
pub async fn answer(
    form: Form,
    (bodies, signed): (&Bodies, Option<SignedBody>),
    head: Head,
    body: Body,
    request_id: &RequestId,
    start: impl Fn(Head, Body, Answer),
) -> Relayed {
    let called = call(form, (bodies, signed), head, body, request_id, start).await;
    called.unwrap_or_else(|failed| Relayed::failed(form, &failed))
}

async fn call(
    form: Form,
    (bodies, signed): (&Bodies, Option<SignedBody>),
    head: Head,
    body: Body,
    request_id: &RequestId,
    start: impl Fn(Head, Body, Answer),
) -> Result<Relayed, Failed> {
    let (whole, _held) = bodies.read(&head.headers, body, signed).await?;
    let messages = form.read(whole)?;
    let mut headers = metadata::of_call(&head.headers, request_id);
    headers.remove(Token::X_GRPC_WEB);
    // Messages pass through as they are.
    for name in [GRPC_ENCODING, GRPC_ACCEPT_ENCODING] {
        if let Some(value) = head.headers.get(name) {
            headers.set(name, value);
        }
    }
    let (writing, reading) = pipe();
    // What they are of is for the endpoint to judge.
    if let Some(codec) = codec(&head.headers) {
        headers.set(Token::CONTENT_TYPE, &*format!("application/grpc{codec}"));
    }
    let head = Head { headers, ..head };
    start(head, Body::ready(messages), Answer::piped(writing));
    let gone = |Gone| crate::rest::grpc::caller::broken_off();
    let (_, headers) = reading.head().await.map_err(gone)?;
    // Of an answer without a message they are the trailers, too.
    let reading = (!headers.has(GRPC_STATUS)).then_some(reading);
    Ok(Relayed {
        form,
        headers,
        reading,
    })
}

// === impl Relayed ===

impl Relayed {
    /// The answer to a call that failed before there was one.
    pub fn failed(form: Form, failed: &Failed) -> Self {
        let mut headers = status::headers(failed.code, &failed.text);
        if let Some(kind) = failed.kind {
            headers.push(ACCESS_ERROR, kind.name());
        }
        Self {
            form,
            headers,
            reading: None,
        }
    }

    /// Send the answer as it comes. `more` are headers of ours.
    pub async fn send(
        mut self,
        answer: &mut Answer,
        more: Headers,
        sending: impl FnOnce(Sender) -> Sending,
    ) -> Result<(), Left> {
        for field in more.iter() {
            self.headers.remove(field.name);
        }
        self.headers.append(&more);
        let codec = codec(&self.headers).map(str::to_owned);
        let codec = codec.as_deref().unwrap_or("+proto");
        let content_type = format!("{}{codec}", self.form.content_type());
        self.headers.set(Token::CONTENT_TYPE, &*content_type);
        let Some(reading) = self.reading else {
            self.headers.set(Token::CONTENT_LENGTH, "0");
            let sent = answer.finish_with(StatusCode::OK, self.headers);
            return sent.map_err(|_| Left);
        };
        let sender = answer.begin_with(StatusCode::OK, self.headers);
        let mut sending = sending(sender.map_err(|_| Left)?);
        while let Some(chunk) = sending.next(reading.chunk()).await? {
            let Ok(chunk) = chunk else {
                sending.break_off();
                return Err(Left);
            };
            sending.send(self.form.written(chunk)).await?;
        }
        let trailers = frame(&reading.trailers().unwrap_or_default());
        sending.send(self.form.written(trailers)).await?;
        sending.end()
    }
}

/// What the messages are of, such as `+json`, where the content-type of gRPC or gRPC-Web says it.
fn codec(headers: &Headers) -> Option<&str> {
    let content_type = headers.text(Token::CONTENT_TYPE)?;
    let content_type = content_type.split(';').next()?.trim_end();
    content_type.find('+').map(|at| &content_type[at..])
}

/// Trailers as a frame: lines as HTTP/1 has them, with names in lower case.
fn frame(trailers: &Headers) -> Bytes {
    let mut lines = Vec::new();
    for field in trailers.iter() {
        lines.extend_from_slice(field.name);
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(field.value);
        lines.extend_from_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(5 + lines.len());
    frame.put_u8(TRAILERS);
    // A header list is far below 4 GiB.
    frame.put_u32(lines.len() as u32);
    frame.put_slice(&lines);
    frame.freeze()
}

/// What base64 says: of several parts, each padded by itself.
fn decoded(text: &[u8]) -> Result<Vec<u8>, base64::DecodeError> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.iter().take_while(|it| **it != b'=').count();
        let padding = rest[length..].iter().take_while(|it| **it == b'=').count();
        let (part, tail) = rest.split_at(length + padding);
        BASE64.decode_vec(part, &mut bytes)?;
        rest = tail;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_told_by_the_content_type() {
        let cases = [
            ("application/grpc-web", Some(Form::Binary)),
            ("application/grpc-web+proto", Some(Form::Binary)),
            ("application/grpc-web-text", Some(Form::Text)),
            (
                "Application/gRPC-Web-Text+proto; charset=x",
                Some(Form::Text),
            ),
            ("application/grpc", None),
            ("application/grpc+proto", None),
            ("application/grpc-webs", None),
            ("application/json", None),
        ];
        for (content_type, expected) in cases {
            let headers = Headers::from_iter([(Token::CONTENT_TYPE, content_type)]);
            assert_eq!(Form::of(&headers), expected, "{content_type}");
        }
    }

    #[test]
    fn base64_may_come_in_parts_with_their_own_padding() {
        let cases: [(&str, Option<&[u8]>); 7] = [
            ("", Some(b"")),
            ("AAE=", Some(&[0, 1])),
            ("AAE=AgME", Some(&[0, 1, 2, 3, 4])),
            ("AA==AQ==", Some(&[0, 1])),
            ("A", None),
            ("AAE", None),
            ("====", None),
        ];
        for (text, expected) in cases {
            assert_eq!(decoded(text.as_bytes()).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn trailers_are_a_frame_of_lines() {
        let trailers = status::headers(crate::code::Code::NotFound, "no");
        let frame = frame(&trailers);
        assert_eq!(frame[0], TRAILERS);
        let length = u32::from_be_bytes(frame[1..5].try_into().unwrap());
        assert_eq!(length as usize, frame.len() - 5);
        let text = std::str::from_utf8(&frame[5..]).unwrap();
        assert!(text.contains("grpc-status: 5\r\n"), "{text}");
        assert!(text.contains("grpc-message: no\r\n"), "{text}");
    }
}
