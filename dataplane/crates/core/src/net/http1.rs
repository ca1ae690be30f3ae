//! Drives one downstream HTTP/1 connection: its requests go to the same [`Service`] as the streams of HTTP/2.

use std::convert::Infallible;
use std::io::Cursor;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use super::accept::Peer;
use super::drain::Phase;
use super::guard::{Connection, StreamGuard};
use super::load::Load;
use super::pipe::{Gone, Reading, pipe};
use super::server::Server;
use super::service::Service;
use super::stream::{Answer, Body, Head};
use crate::stats::ClosedReason;

/// hyper's least for the buffer that a head has to fit in.
const MIN_HEAD_BYTES: usize = 8192;

/// An answer as hyper sends it.
struct Chunks {
    reading: Option<Reading>,
}

/// Serve one connection, whose first bytes are `seen`, until it ends.
pub async fn serve<T, S>(
    io: T,
    seen: Vec<u8>,
    peer: Peer,
    server: &Arc<Server>,
    load: Arc<Load>,
    service: Rc<S>,
) -> ClosedReason
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
{
    let limits = &server.limits;
    let connection = Connection::new(peer, load, limits.connection_window_bytes);
    let answer = service_fn(move |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let head = Head {
            verb: parts.method,
            uri: parts.uri,
            headers: parts.headers,
        };
        let (writing, reading) = pipe();
        let stream = StreamGuard::new(connection.clone());
        service.call(head, Body::http1(body), Answer::piped(writing), stream);
        async move { Ok::<_, Infallible>(response(reading).await) }
    });
    let (read, write) = tokio::io::split(io);
    let io = tokio::io::join(Cursor::new(seen).chain(read), write);
    let driven = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also the longest time between two requests.
        .header_read_timeout(Duration::from_millis(limits.header_timeout_ms))
        .max_headers(limits.max_metadata_fields)
        .max_buf_size((limits.max_metadata_bytes as usize).max(MIN_HEAD_BYTES))
        .serve_connection(TokioIo::new(io), answer);
    let mut driven = pin!(driven);
    let jitter = 0.9 + 0.2 * fastrand::f64();
    let age = Duration::from_millis(limits.max_connection_age_ms).mul_f64(jitter);
    let grace = Duration::from_millis(limits.max_connection_age_grace_ms);
    let mut end = Instant::now() + age;
    let mut drain = server.drain.watch();
    let mut closing = None;
    loop {
        tokio::select! {
            ended = driven.as_mut() => {
                return closing.unwrap_or(match ended {
                    Ok(()) => ClosedReason::Downstream,
                    Err(error) if error.is_timeout() => ClosedReason::HeaderTimeout,
                    Err(error) if error.is_parse() => ClosedReason::Protocol,
                    Err(_) => ClosedReason::Io,
                });
            }
            phase = drain.changed() => {
                if phase == Phase::Stopped {
                    return ClosedReason::Drain;
                }
                if phase >= Phase::Draining {
                    closing.get_or_insert(ClosedReason::Drain);
                    driven.as_mut().graceful_shutdown();
                }
            }
            () = tokio::time::sleep_until(end) => {
                if closing == Some(ClosedReason::Age) {
                    return ClosedReason::Age;
                }
                closing.get_or_insert(ClosedReason::Age);
                end = Instant::now() + grace;
                driven.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn response(reading: Reading) -> Response<Chunks> {
    let head = reading.head().await;
    let (status, headers, reading) = match head {
        Ok((status, headers)) => (status, headers, Some(reading)),
        // A responder that is dropped answers: only a bug leads here.
        Err(Gone) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            http::HeaderMap::new(),
            None,
        ),
    };
    let mut response = Response::new(Chunks { reading });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

// === impl Chunks ===

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let Some(reading) = &self.reading else {
            return Poll::Ready(None);
        };
        reading.poll_chunk(cx).map(|chunk| {
            chunk.map(|chunk| {
                let chunk = chunk.map(Frame::data);
                chunk.map_err(|Gone| std::io::Error::other("the answer broke off"))
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.reading.as_ref().is_none_or(Reading::has_ended)
    }

    fn size_hint(&self) -> SizeHint {
        // Its length is in the headers, where it is known.
        SizeHint::default()
    }
}
