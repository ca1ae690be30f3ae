//! Drives one downstream HTTP/1 connection: its requests go to the same [`Service`] as the streams of HTTP/2.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::Cursor;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::accept::Peer;
use super::drain::Phase;
use super::guard::{Connection, StreamGuard};
use super::http1_times::{Times, Watched};
use super::http2::fields;
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
    let times = Rc::new(Times::new(connection.clone(), limits));
    let heads = times.clone();
    let answer = service_fn(move |request: Request<Incoming>| {
        heads.head_is_whole();
        let refused = refusal(&request);
        let (writing, reading) = pipe();
        if refused.is_none() {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
            let head = Head {
                verb: parts.method,
                path: path.into(),
                headers: fields::from_map(&parts.headers),
                is_cut: false,
                is_crowded: false,
            };
            let stream = StreamGuard::new(connection.clone());
            service.call(head, Body::http1(body), Answer::piped(writing), stream);
        }
        async move {
            Ok::<_, Infallible>(match refused {
                Some(status) => last(status),
                None => response(reading).await,
            })
        }
    });
    let (read, write) = tokio::io::split(io);
    let read = Watched {
        io: read,
        times: times.clone(),
    };
    let io = tokio::io::join(Cursor::new(seen).chain(read), write);
    let driven = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(limits.max_metadata_fields)
        .max_buf_size((limits.max_metadata_bytes as usize).max(MIN_HEAD_BYTES))
        .serve_connection(TokioIo::new(io), answer);
    let mut driven = pin!(driven);
    let mut drain = server.drain.watch();
    let mut timer = pin!(sleep_until(times.end().0));
    let (mut closing, mut is_aged) = (None, false);
    poll_fn(|cx| {
        loop {
            while let Poll::Ready(phase) = drain.poll_changed(cx) {
                if phase == Phase::Stopped {
                    return Poll::Ready(ClosedReason::Drain);
                }
                if phase >= Phase::Draining {
                    closing.get_or_insert(ClosedReason::Drain);
                    driven.as_mut().graceful_shutdown();
                }
            }
            if let Poll::Ready(ended) = driven.as_mut().poll(cx) {
                return Poll::Ready(closing.unwrap_or(match ended {
                    Ok(()) => ClosedReason::Downstream,
                    Err(error) if error.is_parse() => ClosedReason::Protocol,
                    Err(_) => ClosedReason::Io,
                }));
            }
            let (end, reason) = times.end();
            // A later end is looked at when the timer fires, so that a request does not have to set it.
            if end < timer.deadline() {
                timer.as_mut().reset(end);
            }
            ready!(timer.as_mut().poll(cx));
            if Instant::now() < end {
                timer.as_mut().reset(end);
            } else if reason == ClosedReason::Age && !is_aged {
                is_aged = true;
                closing.get_or_insert(ClosedReason::Age);
                times.begin_grace();
                driven.as_mut().graceful_shutdown();
            } else {
                return Poll::Ready(reason);
            }
        }
    })
    .await
}

/// The status of a request that must not be served: another server on its way could have read it in another way.
fn refusal(request: &Request<Incoming>) -> Option<StatusCode> {
    let headers = request.headers();
    // RFC 9112#3.2: one, which HTTP/1.0 may do without.
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Some(StatusCode::BAD_REQUEST);
    }
    // RFC 9112#6.1: hyper looks at the last one alone.
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_known = |it: &HeaderValue| it.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_some_and(|it| !is_known(it)) || codings.next().is_some() {
        return Some(StatusCode::NOT_IMPLEMENTED);
    }
    None
}

/// An answer that ends the connection.
fn last(status: StatusCode) -> Response<Chunks> {
    let mut response = Response::new(Chunks { reading: None });
    *response.status_mut() = status;
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

async fn response(reading: Reading) -> Response<Chunks> {
    let head = reading.head().await;
    let (status, headers, reading) = match head {
        Ok((status, headers)) => (status, fields::to_map(&headers), Some(reading)),
        // A responder that is dropped answers: only a bug leads here.
        Err(Gone) => (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new(), None),
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
