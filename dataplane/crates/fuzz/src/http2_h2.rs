//! h2's server on a wire of memory, told frame by frame what a client says.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};

use crate::http2_oracle::{MAX_LIST, MAX_STREAMS, Message, Side, Verdict, WINDOW, sorted};
use crate::http2_wire::Wire;

enum Stage {
    Handshake(h2::server::Handshake<Wire, Bytes>),
    Open(h2::server::Connection<Wire, Bytes>),
    Over,
}

pub struct Other {
    wire: Wire,
    stage: Stage,
    bodies: BTreeMap<u32, h2::RecvStream>,
    /// Kept, as a stream that nobody holds is reset.
    answers: Vec<SendResponse<Bytes>>,
    verdict: Verdict,
}

impl Other {
    pub fn new() -> Self {
        let wire = Wire::default();
        let handshake = Builder::new()
            .max_frame_size(16_384)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_LIST)
            .max_concurrent_reset_streams(usize::MAX)
            .max_pending_accept_reset_streams(usize::MAX)
            .max_local_error_reset_streams(None)
            .reset_stream_duration(Duration::from_secs(3600))
            .data_frame_budget(usize::MAX)
            .handshake(wire.clone());
        Self {
            wire,
            stage: Stage::Handshake(handshake),
            bodies: BTreeMap::new(),
            answers: Vec::new(),
            verdict: Verdict::default(),
        }
    }

    /// Whether something happened.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_moved = false;
        if let Stage::Handshake(handshake) = &mut self.stage
            && let Poll::Ready(result) = Pin::new(handshake).poll(cx)
        {
            self.stage = result.map_or(Stage::Over, Stage::Open);
        }
        if let Stage::Open(connection) = &mut self.stage {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, answer)))) => {
                    let (head, body) = request.into_parts();
                    let id = body.stream_id().as_u32();
                    self.verdict.messages.insert(
                        id,
                        Message {
                            fields: request_fields(&head),
                            ..Message::default()
                        },
                    );
                    self.bodies.insert(id, body);
                    self.answers.push(answer);
                    has_moved = true;
                }
                Poll::Ready(Some(Err(_)) | None) => self.stage = Stage::Over,
                Poll::Pending => {}
            }
        }
        self.verdict.is_over = matches!(self.stage, Stage::Over);
        has_moved |= read(&mut self.bodies, &mut self.verdict, cx);
        // A reset after the end is told to who waits to answer.
        for answer in &mut self.answers {
            if let Poll::Ready(Ok(_)) = answer.poll_reset(cx)
                && let Some(message) = self.verdict.messages.get_mut(&answer.stream_id().as_u32())
            {
                message.is_reset = true;
            }
        }
        has_moved
    }
}

impl Side for Other {
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

fn request_fields(head: &http::request::Parts) -> Vec<(String, Vec<u8>)> {
    let mut fields = map_fields(&head.headers);
    let mut push =
        |name: &str, value: &str| fields.push((name.to_owned(), value.as_bytes().to_vec()));
    push(":method", head.method.as_str());
    if let Some(authority) = head.uri.authority() {
        push(":authority", authority.as_str());
    }
    if let Some(path) = head.uri.path_and_query() {
        push(":path", path.as_str());
    }
    sorted(fields)
}

/// Take what there is of bodies and trailers; whether there was something.
pub fn read(
    bodies: &mut BTreeMap<u32, h2::RecvStream>,
    verdict: &mut Verdict,
    cx: &mut Context<'_>,
) -> bool {
    let mut has_moved = false;
    for (id, body) in bodies {
        let Some(message) = verdict.messages.get_mut(id) else {
            continue;
        };
        if message.is_reset || message.has_ended {
            continue;
        }
        match body.poll_data(cx) {
            Poll::Ready(Some(Ok(bytes))) => {
                message.body.extend_from_slice(&bytes);
                has_moved = true;
            }
            Poll::Ready(Some(Err(_))) => message.is_reset = true,
            Poll::Ready(None) => match body.poll_trailers(cx) {
                Poll::Ready(Ok(trailers)) => {
                    message.trailers = trailers.map_or(Vec::new(), |it| map_fields(&it));
                    message.has_ended = true;
                }
                Poll::Ready(Err(_)) => message.is_reset = true,
                Poll::Pending => {}
            },
            Poll::Pending => {}
        }
    }
    has_moved
}

pub fn map_fields(map: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    sorted(
        map.iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect(),
    )
}
