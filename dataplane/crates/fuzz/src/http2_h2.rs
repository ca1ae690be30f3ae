//! h2's server on a wire of memory, told frame by frame what a client says.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2_oracle::{MAX_LIST, MAX_STREAMS, Request, Verdict, WINDOW, resets, sorted};

/// A socket that brings what it is given, and keeps what is written.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<(VecDeque<u8>, Vec<u8>)>>);

impl Wire {
    fn with<R>(&self, then: impl FnOnce(&mut VecDeque<u8>, &mut Vec<u8>) -> R) -> R {
        let mut both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, output) = &mut *both;
        then(input, output)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|input, _| {
            let length = buf.remaining().min(input.len());
            if length == 0 {
                return Poll::Pending;
            }
            let bytes: Vec<u8> = input.drain(..length).collect();
            buf.put_slice(&bytes);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|_, output| output.extend_from_slice(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

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
    pub verdict: Verdict,
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

    pub fn feed(&mut self, bytes: &[u8]) {
        self.wire.with(|input, _| input.extend(bytes));
        let mut cx = Context::from_waker(Waker::noop());
        // Each turn may make room for the next.
        while self.turn(&mut cx) {}
        let written = self.wire.with(|_, output| std::mem::take(output));
        self.verdict.resets.extend(resets(&written));
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
                    self.verdict.requests.insert(
                        id,
                        Request {
                            fields: request_fields(&head),
                            ..Request::default()
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
        for (id, body) in &mut self.bodies {
            let Some(request) = self.verdict.requests.get_mut(id) else {
                continue;
            };
            if request.is_reset || request.has_ended {
                continue;
            }
            match body.poll_data(cx) {
                Poll::Ready(Some(Ok(bytes))) => {
                    request.body.extend_from_slice(&bytes);
                    has_moved = true;
                }
                Poll::Ready(Some(Err(_))) => request.is_reset = true,
                Poll::Ready(None) => match body.poll_trailers(cx) {
                    Poll::Ready(Ok(trailers)) => {
                        request.trailers = trailers.map_or(Vec::new(), |it| map_fields(&it));
                        request.has_ended = true;
                    }
                    Poll::Ready(Err(_)) => request.is_reset = true,
                    Poll::Pending => {}
                },
                Poll::Pending => {}
            }
        }
        // A reset after the end is told to who waits to answer.
        for answer in &mut self.answers {
            if let Poll::Ready(Ok(_)) = answer.poll_reset(cx)
                && let Some(request) = self.verdict.requests.get_mut(&answer.stream_id().as_u32())
            {
                request.is_reset = true;
            }
        }
        has_moved
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

fn map_fields(map: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    sorted(
        map.iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect(),
    )
}
