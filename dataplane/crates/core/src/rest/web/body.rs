//! The body of a request over HTTP, whole: within the limits of a message of gRPC, and inflated.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use crate::call::limit::{Held, HeldBytes};
use crate::call::messages::MIN_PROGRESS;
use crate::callers::signing::SignedBody;
use crate::callers::unauthenticated;
use crate::code::Code;
use crate::config::Limits;
use crate::error::{Error, ErrorKind};
use crate::headers::{Headers, Token};
use crate::net::stream::{Body, Broken, Cause};
use crate::rest::web::coding::Coding;
use crate::rest::web::reply::Failed;

/// Of a body that nobody wants: what a small request has, and how long it may take to come.
const MAX_DISCARDED_BYTES: usize = 64 * 1024;
const MAX_DISCARDING: Duration = Duration::from_secs(1);

/// Why a body could not be read: nothing else may follow it on its connection.
#[derive(Debug)]
pub enum Unread {
    /// It came too slowly.
    Late(Failed),
    Failed(Failed),
}

/// What the bodies of requests are held to.
pub struct Bodies {
    held: Arc<HeldBytes>,
    pub max_message_bytes: usize,
    pub timeout: Duration,
}

// === impl Bodies ===

impl Bodies {
    pub fn new(held: Arc<HeldBytes>, limits: &Limits) -> Self {
        Self {
            held,
            max_message_bytes: limits.max_message_bytes,
            timeout: Duration::from_millis(limits.body_timeout_ms),
        }
    }

    /// Read a body; what it holds is counted until it is dropped. It must be what was `signed`.
    pub async fn read(
        &self,
        headers: &Headers,
        mut body: Body,
        signed: Option<SignedBody>,
    ) -> Result<(Bytes, Held), Unread> {
        // Before its body: who sends in another coding need not send all of it.
        let coding = Coding::of_body(headers)?;
        let stated = headers.text(Token::CONTENT_LENGTH);
        let stated: usize = stated.and_then(|it| it.parse().ok()).unwrap_or(0);
        self.check_length(stated)?;
        let mut held = Held::new(self.held.clone());
        let mut whole = BytesMut::new();
        let (mut stalled, mut progress) = (Instant::now() + self.timeout, 0);
        loop {
            let chunk = timeout_at(stalled, body.chunk()).await;
            let Some(chunk) = chunk.map_err(|_| self.late())? else {
                break;
            };
            let chunk = chunk.map_err(|broken| unreadable(&broken))?;
            self.check_length(whole.len() + chunk.len())?;
            held.grow(chunk.len())?;
            progress += chunk.len();
            if progress >= MIN_PROGRESS {
                (stalled, progress) = (Instant::now() + self.timeout, 0);
            }
            body.release(chunk.len());
            whole.extend_from_slice(&chunk);
        }
        let whole = whole.freeze();
        if let Some(mut signed) = signed {
            signed.update(&whole);
            signed.finish().map_err(|_| unauthenticated())?;
        }
        Ok(match coding {
            None => (whole, held),
            Some(coding) => coding.inflate(whole, held, self.max_message_bytes).await?,
        })
    }

    /// Take what is on its way of a body that nobody wants, so that its sender is not cut off before it has the answer: a
    /// stream of HTTP/2 that ends early is reset, and some clients then drop what they got. HTTP/1 does so itself.
    pub async fn discard(mut body: Body) {
        if body.number() == 0 {
            return;
        }
        let mut rest = MAX_DISCARDED_BYTES;
        let end = Instant::now() + MAX_DISCARDING;
        while rest > 0 {
            let Ok(Some(Ok(chunk))) = timeout_at(end, body.chunk()).await else {
                return;
            };
            body.release(chunk.len());
            rest = rest.saturating_sub(chunk.len());
        }
    }

    fn check_length(&self, length: usize) -> Result<(), Error> {
        let limit = self.max_message_bytes;
        if length <= limit {
            return Ok(());
        }
        let text =
            format!("a body of {length} bytes is over the limit of {limit} (max_message_bytes)");
        Err(Error::new(ErrorKind::MessageTooLarge, text))
    }

    fn late(&self) -> Unread {
        let limit = self.timeout.as_millis();
        let text = format!(
            "fewer than {MIN_PROGRESS} bytes of the body came in {limit} ms (body_timeout_ms)"
        );
        Unread::Late(Error::new(ErrorKind::DeadlineExceeded, text).into())
    }
}

// === impl Unread ===

impl From<Unread> for Failed {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Late(failed) | Unread::Failed(failed) => failed,
        }
    }
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

fn unreadable(broken: &Broken) -> Unread {
    if broken.cause() == Cause::Malformed {
        let text = format!("the body is not in chunks as it says: {broken}");
        return Error::new(ErrorKind::BadRequest, text).into();
    }
    Unread::Failed(Failed {
        code: Code::Cancelled,
        kind: Some(ErrorKind::Cancelled),
        text: "the caller went, or its body broke off".to_owned(),
        number: None,
        retry_after: None,
    })
}
