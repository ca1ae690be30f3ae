//! Unary gRPC calls as a well-behaved client makes them: connections that come back after a loss, a
//! deadline, and one kind of silent repeat, of calls that the server says it never looked at.

use std::io;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use tokio::sync::Mutex;
use tokio::task::spawn_local;

use crate::socket::{Stream, connect};

/// Repeats of one call that was never processed; grpc clients repeat such a call as well.
const MAX_REPEATS: u32 = 3;

/// gRPC codes that this client makes itself.
pub(crate) const DEADLINE_EXCEEDED: u16 = 4;
const RESOURCE_EXHAUSTED: u16 = 8;
const CANCELLED: u16 = 1;
pub(crate) const UNKNOWN: u16 = 2;
const PERMISSION_DENIED: u16 = 7;
const INTERNAL: u16 = 13;
pub(crate) const UNAVAILABLE: u16 = 14;

/// What every call sends, and where.
pub struct Target {
    pub address: String,
    /// `/package.Service/Method`.
    pub path: String,
    /// Header or trailer of the answer that names the endpoint.
    pub share_by: HeaderName,
    /// The answer must be the request again.
    pub expect_echo: bool,
}

/// What the calls of one class send.
pub struct Class {
    pub name: String,
    pub headers: HeaderMap,
    /// The message with its gRPC prefix.
    pub body: Bytes,
    /// From when the call was due.
    pub deadline: Duration,
}

/// How a call ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// gRPC code; 0 is OK.
    pub code: u16,
    pub message: String,
    pub endpoint: Option<String>,
    /// Silent repeats (see [`Target`]).
    pub repeats: u32,
    /// OK, but not the bytes expected.
    pub is_corrupt: bool,
}

/// One connection to the target, opened when needed.
pub struct Channel<'a> {
    target: &'a Target,
    slot: Mutex<Option<SendRequest<Bytes>>>,
}

enum Failure {
    /// The server never looked at the call.
    Unprocessed(String),
    Ended(Outcome),
}

// === impl Target ===

impl Target {
    /// Put the gRPC prefix in front of a message.
    ///
    /// # Errors
    /// More than 4 GiB.
    pub fn frame(message: &[u8]) -> Result<Bytes, String> {
        let length = u32::try_from(message.len()).map_err(|error| error.to_string())?;
        let mut body = BytesMut::with_capacity(message.len() + 5);
        body.put_u8(0);
        body.put_u32(length);
        body.put_slice(message);
        Ok(body.freeze())
    }

    fn request(&self, class: &Class, deadline: Instant) -> Result<Request<()>, String> {
        let authority = match self.address.strip_prefix("unix:") {
            Some(_) => "localhost",
            None => &self.address,
        };
        let uri: Uri = format!("http://{authority}{}", self.path)
            .parse()
            .map_err(|error| format!("{}: {error}", self.path))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.clone_from(&class.headers);
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        // gRPC allows 8 digits; the benchmarks' deadlines in µs stay below 100 s.
        let left = deadline
            .saturating_duration_since(Instant::now())
            .as_micros()
            .min(99_999_999);
        let timeout = HeaderValue::from_str(&format!("{left}u")).map_err(|e| e.to_string())?;
        headers.insert("grpc-timeout", timeout);
        Ok(request)
    }
}

// === impl Class ===

impl Class {
    /// The message without gRPC's prefix.
    #[must_use]
    pub fn message(&self) -> Bytes {
        self.body.slice(5..)
    }
}

// === impl Channel ===

impl<'a> Channel<'a> {
    /// Describe a connection; nothing is opened yet.
    #[must_use]
    pub fn new(target: &'a Target) -> Channel<'a> {
        Channel {
            target,
            slot: Mutex::new(None),
        }
    }

    /// Make one call; always ends by the deadline.
    pub async fn call(&self, class: &Class, deadline: Instant) -> Outcome {
        let mut repeats = 0;
        let until = tokio::time::Instant::from_std(deadline);
        let calls = async {
            loop {
                match self.attempt(class, deadline).await {
                    Ok(outcome) | Err(Failure::Ended(outcome)) => return outcome,
                    Err(Failure::Unprocessed(message)) if repeats >= MAX_REPEATS => {
                        return Outcome::local(UNAVAILABLE, message);
                    }
                    Err(Failure::Unprocessed(_)) => repeats += 1,
                }
            }
        };
        // Dropping the call on time-out resets its stream, as grpc clients do.
        let mut outcome = tokio::time::timeout_at(until, calls)
            .await
            .unwrap_or_else(|_| Outcome::local(DEADLINE_EXCEEDED, "own deadline".to_owned()));
        outcome.repeats = repeats;
        outcome
    }

    async fn attempt(&self, class: &Class, deadline: Instant) -> Result<Outcome, Failure> {
        let mut sender = self.sender().await.map_err(|error| {
            Failure::Ended(Outcome::local(UNAVAILABLE, format!("connect: {error}")))
        })?;
        let request = self
            .target
            .request(class, deadline)
            .map_err(|message| Failure::Ended(Outcome::local(INTERNAL, message)))?;
        let (response, mut stream) = sender
            .send_request(request, false)
            .map_err(|error| Failure::Unprocessed(error.to_string()))?;
        stream
            .send_data(class.body.clone(), true)
            .map_err(|error| failure(&error))?;
        let response = response.await.map_err(|error| failure(&error))?;
        let (head, body) = response.into_parts();
        let (bytes, trailers) = read(body).await.map_err(|error| failure(&error))?;
        Ok(self.outcome(class, &head, &bytes, trailers.as_ref()))
    }

    /// A sender with room for a stream, on the open connection or on a new one. Calls wait here for one
    /// another while a connection is opened, so that only one is: hence the lock across an await.
    async fn sender(&self) -> io::Result<SendRequest<Bytes>> {
        let mut slot = self.slot.lock().await;
        if let Some(sender) = slot.take()
            && let Ok(sender) = sender.ready().await
        {
            *slot = Some(sender.clone());
            return Ok(sender);
        }
        let sender = open(connect(&self.target.address).await?).await?;
        *slot = Some(sender.clone());
        Ok(sender)
    }

    fn outcome(
        &self,
        class: &Class,
        head: &http::response::Parts,
        bytes: &BytesMut,
        trailers: Option<&HeaderMap>,
    ) -> Outcome {
        let find = |name: &HeaderName| {
            trailers
                .and_then(|trailers| trailers.get(name))
                .or_else(|| head.headers.get(name))
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let status = find(&HeaderName::from_static("grpc-status"));
        let mut outcome = match status.as_deref().map(str::parse) {
            Some(Ok(code)) => Outcome::local(code, String::new()),
            _ => Outcome::local(UNKNOWN, format!("no grpc-status, HTTP {}", head.status)),
        };
        if let Some(message) = find(&HeaderName::from_static("grpc-message")) {
            outcome.message = message;
        }
        outcome.endpoint = find(&self.target.share_by);
        outcome.is_corrupt = self.target.expect_echo && outcome.code == 0 && bytes != &class.body;
        outcome
    }
}

// === impl Outcome ===

impl Outcome {
    pub(crate) fn local(code: u16, message: String) -> Outcome {
        Outcome {
            code,
            message,
            ..Outcome::default()
        }
    }
}

async fn open(stream: Stream) -> io::Result<SendRequest<Bytes>> {
    let (sender, connection) = Builder::new()
        .initial_window_size(8 << 20)
        .initial_connection_window_size(64 << 20)
        .enable_push(false)
        .handshake(stream)
        .await
        .map_err(io::Error::other)?;
    // Its error reaches every call on it; it ends when the last sender and stream are gone.
    spawn_local(async move {
        let _ = connection.await;
    });
    sender.ready().await.map_err(io::Error::other)
}

async fn read(mut body: RecvStream) -> Result<(BytesMut, Option<HeaderMap>), h2::Error> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, body.trailers().await?))
}

/// gRPC's mapping of what HTTP/2 reports.
fn failure(error: &h2::Error) -> Failure {
    let message = error.to_string();
    let unprocessed = error.reason() == Some(Reason::REFUSED_STREAM)
        || (error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR));
    if unprocessed {
        return Failure::Unprocessed(message);
    }
    let code = match error.reason() {
        Some(Reason::CANCEL) => CANCELLED,
        Some(Reason::ENHANCE_YOUR_CALM) => RESOURCE_EXHAUSTED,
        Some(Reason::INADEQUATE_SECURITY) => PERMISSION_DENIED,
        Some(_) if error.is_reset() => INTERNAL,
        _ => UNAVAILABLE,
    };
    Failure::Ended(Outcome::local(code, message))
}
