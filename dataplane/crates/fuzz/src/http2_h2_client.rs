//! h2's client on a wire of memory, told frame by frame what a server says.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};

use crate::http2::REQUESTS;
use crate::http2_h2::{map_fields, read};
use crate::http2_oracle::{MAX_LIST, Side, Verdict, WINDOW, sorted};
use crate::http2_wire::Wire;

pub struct OtherClient {
    wire: Wire,
    connection: Connection<Wire, Bytes>,
    answers: BTreeMap<u32, ResponseFuture>,
    bodies: BTreeMap<u32, h2::RecvStream>,
    /// Kept, as a connection that nobody wants ends, and a stream that nobody holds is reset.
    _kept: (SendRequest<Bytes>, Vec<h2::SendStream<Bytes>>),
    verdict: Verdict,
}

impl OtherClient {
    /// # Panics
    /// A request cannot be sent, which each of them can.
    pub fn new() -> Self {
        let wire = Wire::default();
        let mut handshake = std::pin::pin!(
            Builder::new()
                .max_frame_size(16_384)
                .initial_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .max_header_list_size(MAX_LIST)
                .max_concurrent_reset_streams(usize::MAX)
                .max_local_error_reset_streams(None)
                .reset_stream_duration(Duration::from_secs(3600))
                .data_frame_budget(usize::MAX)
                .enable_push(false)
                .handshake(wire.clone())
        );
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok((mut sender, connection))) = handshake.as_mut().poll(&mut cx) else {
            panic!("a wire of memory takes the preface at once");
        };
        let (mut answers, mut streams) = (BTreeMap::new(), Vec::new());
        for (fields, ends) in REQUESTS {
            let sent = sender.send_request(request(fields), ends);
            let (answer, stream) = sent.unwrap_or_else(|error| panic!("{error}"));
            answers.insert(answer.stream_id().as_u32(), answer);
            streams.push(stream);
        }
        let mut client = Self {
            wire,
            connection,
            answers,
            bodies: BTreeMap::new(),
            _kept: (sender, streams),
            verdict: Verdict::default(),
        };
        client.feed(&[]);
        client
    }

    /// Whether something happened.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        if self.verdict.is_over {
            return false;
        }
        self.verdict.is_over = Pin::new(&mut self.connection).poll(cx).is_ready();
        let mut has_moved = false;
        self.answers
            .retain(|id, answer| match Pin::new(answer).poll(cx) {
                Poll::Pending => true,
                Poll::Ready(answer) => {
                    has_moved = true;
                    let message = self.verdict.messages.entry(*id).or_default();
                    match answer {
                        Ok(answer) => {
                            let (head, body) = answer.into_parts();
                            message.fields = answer_fields(&head);
                            self.bodies.insert(*id, body);
                        }
                        Err(_) => message.is_reset = true,
                    }
                    false
                }
            });
        has_moved | read(&mut self.bodies, &mut self.verdict, cx)
    }
}

impl Side for OtherClient {
    fn feed(&mut self, bytes: &[u8]) {
        self.wire.with(|input, _| input.extend(bytes));
        let mut cx = Context::from_waker(Waker::noop());
        // Each turn may make room for the next.
        while self.turn(&mut cx) {}
        let written = self.wire.with(|_, output| std::mem::take(output));
        self.verdict.note(&written);
    }

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }
}

fn request(fields: &[(&str, &str)]) -> http::Request<()> {
    let find = |wanted: &str| {
        let found = fields.iter().find(|(name, _)| *name == wanted);
        found.map_or("", |(_, value)| *value)
    };
    let mut request = http::Request::new(());
    *request.uri_mut() = format!("{}://fuzz{}", find(":scheme"), find(":path"))
        .parse()
        .unwrap_or_default();
    request
}

fn answer_fields(head: &http::response::Parts) -> Vec<(String, Vec<u8>)> {
    let mut fields = map_fields(&head.headers);
    let status = head.status.as_str().as_bytes().to_vec();
    fields.push((":status".to_owned(), status));
    sorted(fields)
}
