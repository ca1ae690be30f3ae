//! What tests need to be a caller of ours.

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::{Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use dl_http2::{Config, Connection, Event, Role};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::net::http2::{Ended, Engine, Handle, Turn, fields};
use crate::net::stream::{self, Answer, Body, Head};

use crate::grpc::framing::{PREFIX, prefix};
use crate::grpc::metadata::{RequestId, X_REQUEST_ID};
use crate::grpc::status::GRPC_MESSAGE;
use crate::headers::Headers;

/// Take the requests of a connection, until it ends.
pub async fn requests<T>(io: T, mut on: impl FnMut(Head, Body, Answer))
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let config = Config {
        max_frame: 16_384,
        stream_window: 65_535,
        connection_window: 65_535,
        opens_on_receipt: false,
        max_streams: 100,
        max_list: 65_536,
        max_fields: usize::MAX,
        max_memory: usize::MAX,
        credit: None,
        max_faults: None,
    };
    let mut engine = Engine::new(io, Connection::new(Role::Server, config), Vec::new());
    poll_fn(|cx| {
        let mut budget = Engine::<T>::budget();
        loop {
            match ready!(engine.poll(cx, &mut budget)) {
                Turn::Event(Event::Head {
                    stream,
                    headers,
                    is_cut,
                    is_crowded,
                    ends,
                }) => {
                    let handle = Handle::new(engine.link(), stream);
                    if ends {
                        handle.has_no_body();
                    }
                    let head = fields::request(headers, (is_cut, is_crowded)).unwrap();
                    let (body, answer) = stream::split(handle);
                    on(head, body, answer);
                }
                Turn::Event(event) => engine.link().deliver(event),
                Turn::Closed | Turn::Fatal(_) | Turn::Io(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
    engine.link().end(Ended::Lost);
}

/// A message with gRPC's prefix, uncompressed.
pub fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_slice(&prefix(u32::try_from(message.len()).unwrap()));
    frame.put_slice(message);
    frame.freeze()
}

/// A call's id.
pub fn request_id(text: &str) -> RequestId {
    RequestId::find(&Headers::from_iter([(X_REQUEST_ID, text)])).expect("an id")
}

/// The decoded `grpc-message`; empty when there is none.
pub fn grpc_message(headers: &Headers) -> Cow<'_, str> {
    match headers.get(GRPC_MESSAGE) {
        Some(value) => decode_message(value),
        None => Cow::Borrowed(""),
    }
}

/// Decode `grpc-message`; panics where an escape is none.
pub fn decode_message(encoded: &[u8]) -> Cow<'_, str> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let hex = std::str::from_utf8(&tail[..2]).unwrap();
        decoded.push(u8::from_str_radix(hex, 16).unwrap());
        rest = &tail[2..];
    }
    Cow::Owned(String::from_utf8(decoded).unwrap())
}

/// Limits that no test reaches by accident.
pub fn limits() -> serde_json::Value {
    serde_json::json!({
        "max_message_bytes": 1 << 20, "max_metadata_bytes": 65536, "max_connection_bytes": 4 << 20, "max_metadata_fields": 128, "max_streams": 100,
        "max_connections": 10_000, "max_connections_per_ip": 10_000, "max_in_flight": 100, "max_held_bytes": 1 << 20,
        "header_timeout_ms": 1000, "body_timeout_ms": 5000, "connection_idle_timeout_ms": 1000,
        "max_connection_age_ms": 1000, "max_connection_age_grace_ms": 1000, "frame_credit": 1000,
        "frame_credit_per_frame": 10, "stream_window_bytes": 65535, "connection_window_bytes": 65535,
        "max_frame_bytes": 16384, "tcp_user_timeout_ms": 0, "cors_origins": [],
    })
}

/// Nothing is fetched.
pub fn uris() -> serde_json::Value {
    serde_json::json!({"hosts": [], "networks": [], "types": [], "max_bytes": 1 << 20, "timeout_ms": 5000})
}

/// Try documents that some others became by chance: cut, doubled, and with bits of JSON in odd places. What is tried must
/// return, whatever it makes of them.
pub fn broken_documents(seed: u64, documents: &[&str], mut attempt: impl FnMut(&[u8])) {
    const BITS: [&[u8]; 18] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b",",
        b":",
        b"\\",
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"0.5",
        b"\"\"",
        b"{}",
        b"[]",
        b"\xff",
        b"data:;base64,",
    ];
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..20_000 {
        let mut document = documents[random.usize(..documents.len())]
            .as_bytes()
            .to_vec();
        for _ in 0..random.usize(1..4) {
            let from = random.usize(..=document.len());
            let to = random.usize(from..=document.len().min(from + 12));
            let other = documents[random.usize(..documents.len())].as_bytes();
            let start = random.usize(..other.len());
            let put = match random.u8(..4) {
                0 => Vec::new(),
                1 => document[from..to].repeat(2),
                2 => other[start..other.len().min(start + random.usize(..30))].to_vec(),
                _ => BITS[random.usize(..BITS.len())].to_vec(),
            };
            document.splice(from..to, put);
        }
        attempt(&document);
    }
}
