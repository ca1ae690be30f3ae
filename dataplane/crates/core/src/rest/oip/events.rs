//! An inference whose answers come one by one, as server-sent events (the HTML standard, "Server-sent events"): an event
//! for each answer of the model, and one of the type `error` where it fails in the midst.

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;

use super::answer::streamed;
use crate::grpc::metadata::RequestId;
use crate::headers::{Headers, Token, text};
use crate::net::stream::{Answer, Body, Head};
use crate::rest::grpc::caller::Caller;
use crate::rest::grpc::streamed::Streamed;
use crate::rest::web::reply::{Failed, Reply};
use crate::rest::web::sending::{Left, Sending};

const EVENT_STREAM: &str = "text/event-stream";
const STREAM_INFER: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// Answers of which the first is there.
#[derive(Debug)]
pub struct Events {
    answers: Streamed,
    first: Option<Bytes>,
}

/// Whether a request wants its answers as events.
pub fn are_wanted(headers: &Headers) -> bool {
    let values = headers.get_all(Token::ACCEPT).filter_map(text);
    values.flat_map(|it| it.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts
            .next()
            .is_some_and(|it| it.eq_ignore_ascii_case(EVENT_STREAM));
        is_named && !parts.any(|it| matches!(it, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// Ask a model for its answers to one message.
///
/// # Errors
/// Those of the call, before its first answer: they still have a status of their own.
pub async fn begin<F: Fn(Head, Body, Answer)>(
    caller: &Caller<F>,
    message: Vec<u8>,
) -> Result<Events, Failed> {
    let reading = caller.open(STREAM_INFER, message)?;
    let mut answers = Streamed::of(reading, caller.max_message_bytes).await?;
    let first = answers.message().await?;
    Ok(Events { answers, first })
}

// === impl Events ===

impl Events {
    /// Send what has come and what comes.
    pub async fn send(
        mut self,
        answer: &mut Answer,
        mut headers: Headers,
        request_id: &RequestId,
        sending: impl FnOnce(crate::net::stream::Sender) -> Sending,
    ) -> Result<(), Left> {
        headers.set(Token::CONTENT_TYPE, EVENT_STREAM);
        headers.set(Token::CACHE_CONTROL, "no-store");
        let sender = answer.begin_with(StatusCode::OK, headers);
        let mut sending = sending(sender.map_err(|_| Left)?);
        let mut next = Ok(self.first.take());
        loop {
            let said = match next {
                Ok(None) => return sending.end(),
                Ok(Some(message)) => streamed(message),
                Err(failed) => {
                    sending.send(error(&failed, request_id)).await?;
                    return sending.end();
                }
            };
            let event = match said {
                Ok(json) => event("", &json),
                Err(failed) => error(&failed, request_id),
            };
            sending.send(event).await?;
            next = sending.next(self.answers.message()).await?;
        }
    }
}

fn error(failed: &Failed, request_id: &RequestId) -> Bytes {
    event("event: error\n", &Reply::problem(failed, request_id).body)
}

/// One event. JSON as it is written here has no line breaks, which would end it.
fn event(kind: &str, json: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(kind.len() + json.len() + 8);
    event.put_slice(kind.as_bytes());
    event.put_slice(b"data: ");
    event.put_slice(json);
    event.put_slice(b"\n\n");
    event.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_sent_to_who_accepts_them() {
        let cases = [
            ("text/event-stream", true),
            ("application/json, Text/Event-Stream;q=0.5", true),
            ("application/json", false),
            ("*/*", false),
            ("text/event-stream;q=0", false),
            ("text/event-streams", false),
        ];
        for (accept, expected) in cases {
            let headers = Headers::from_iter([(Token::ACCEPT, accept)]);
            assert_eq!(are_wanted(&headers), expected, "{accept}");
        }
        assert!(!are_wanted(&Headers::new()));
    }
}
