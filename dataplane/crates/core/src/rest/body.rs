//! The body of a request over HTTP, whole: within the limits of a message of gRPC, and inflated.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use tokio::time::{Instant, timeout_at};

use super::openapi::Described;
use super::reply::Failed;
use crate::call::inflate::inflate;
use crate::call::limit::{Held, HeldBytes};
use crate::call::messages::MIN_PROGRESS;
use crate::code::Code;
use crate::config::Limits;
use crate::error::{Error, ErrorKind};
use crate::net::stream::Body;

/// What the bodies of requests are held to, and what answers to them are made from.
#[derive(Clone, Debug)]
pub struct Intake {
    held: Arc<HeldBytes>,
    pub(super) max_message_bytes: usize,
    pub(super) timeout: Duration,
    pub(super) described: Rc<Described>,
}

// === impl Intake ===

impl Intake {
    pub fn new(held: Arc<HeldBytes>, limits: &Limits, described: Rc<Described>) -> Self {
        Self {
            held,
            max_message_bytes: limits.max_message_bytes,
            timeout: Duration::from_millis(limits.body_timeout_ms),
            described,
        }
    }

    /// Read a body; what it holds is counted until it is dropped.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
    ) -> Result<(Bytes, Held), Failed> {
        let stated = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
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
            let chunk = chunk.map_err(|_| gone())?;
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
        let encoding = headers.get(CONTENT_ENCODING);
        if encoding.is_none_or(|it| it == "identity") {
            return Ok((whole, held));
        }
        let inflated = inflate(encoding, &whole, self.max_message_bytes)?;
        held.grow(inflated.len())?;
        Ok((inflated, held))
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

    fn late(&self) -> Failed {
        let limit = self.timeout.as_millis();
        let text = format!(
            "fewer than {MIN_PROGRESS} bytes of the body came in {limit} ms (body_timeout_ms)"
        );
        Error::new(ErrorKind::DeadlineExceeded, text).into()
    }
}

fn gone() -> Failed {
    Failed {
        code: Code::Cancelled,
        kind: Some(ErrorKind::Cancelled),
        text: "the caller went, or its body broke off".to_owned(),
    }
}
