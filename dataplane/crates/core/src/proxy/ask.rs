//! A small unary call of the access service's own to an endpoint, over the connections that calls use.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use prost::Message;
use tokio::time::timeout;

use super::pool::Upstream;
use crate::code::Code;
use crate::grpc::{deadline, framing, status};
use crate::headers::{Headers, Token};
use crate::net::stream::Body;

/// Largest answer that is read, bytes.
const MOST: usize = 64 * 1024;

/// Ask an endpoint. A lost connection counts as UNAVAILABLE, what cannot be read as UNKNOWN.
///
/// # Errors
/// The code that it came to; DEADLINE_EXCEEDED after `limit`.
pub async fn ask<T: Message + Default>(
    upstream: &Rc<Upstream>,
    path: &'static str,
    request: &impl Message,
    limit: Duration,
) -> Result<T, Code> {
    let answered = timeout(limit, send(upstream, path, request, limit)).await;
    let answer = answered.map_err(|_| Code::DeadlineExceeded)??;
    let message = answer.get(framing::PREFIX..).ok_or(Code::Unknown)?;
    T::decode(message).map_err(|_| Code::Unknown)
}

async fn send(
    upstream: &Rc<Upstream>,
    path: &'static str,
    request: &impl Message,
    limit: Duration,
) -> Result<Bytes, Code> {
    let channel = upstream.channel().await.map_err(|_| Code::Unavailable)?;
    let head = head(upstream, path, limit);
    let (answer, mut sender) = channel.send(|| head).await.map_err(|_| Code::Unavailable)?;
    let length = request.encoded_len();
    let mut frame = BytesMut::with_capacity(framing::PREFIX + length);
    frame.put_slice(&framing::prefix(
        u32::try_from(length).map_err(|_| Code::Internal)?,
    ));
    request.encode(&mut frame).map_err(|_| Code::Internal)?;
    sender
        .send(frame.freeze(), true)
        .map_err(|_| Code::Unavailable)?;
    let (http_status, headers, body) = answer.await.map_err(|_| Code::Unavailable)?;
    if http_status != StatusCode::OK {
        return Err(Code::from_http(http_status.as_u16()));
    }
    if body.has_ended() {
        return Err(status::parse_grpc_status(&headers).unwrap_or(Code::Unknown));
    }
    read(body).await
}

/// The whole body of an answer that is OK.
async fn read(mut body: Body) -> Result<Bytes, Code> {
    let mut answer = BytesMut::new();
    while let Some(chunk) = body.chunk().await {
        let chunk = chunk.map_err(|_| Code::Unavailable)?;
        body.release(chunk.len());
        if answer.len() + chunk.len() > MOST {
            return Err(Code::Unknown);
        }
        answer.put(chunk);
    }
    let trailers = poll_fn(|cx| body.poll_trailers(cx)).await;
    let trailers = trailers.map_err(|_| Code::Unavailable)?;
    match status::parse_grpc_status(&trailers.ok_or(Code::Unknown)?) {
        Some(Code::Ok) => Ok(answer.freeze()),
        other => Err(other.unwrap_or(Code::Unknown)),
    }
}

fn head(upstream: &Upstream, path: &'static str, limit: Duration) -> Headers {
    let mut head = upstream.address.request(path);
    head.push(Token::CONTENT_TYPE, "application/grpc");
    head.push(Token::TE, "trailers");
    head.push(Token::USER_AGENT, "dl-inference");
    deadline::put_timeout(&mut head, limit);
    head
}
