//! The caller's request body: read as it comes, checked, scanned for the route key, and kept as long as a retry
//! may need it. Chunks are reference-counted; they are never joined.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue};

use super::clock::Clock;
use super::limit::{Held, HeldBytes};
use super::method::Method;
use super::responder::Responder;
use super::route_key::{MAX_KEY_BYTES, Progress, RouteKey, RouteKeyScanner};
use super::upstream::cancelled;
use crate::config::Limits;
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::{Event, Frames, PREFIX};
use crate::grpc::metadata;

pub struct Inbound {
    body: RecvStream,
    frames: Frames,
    scan: Option<Scan>,
    /// Read, and not yet sent for good.
    chunks: VecDeque<Bytes>,
    held: Held,
    held_limit: usize,
    scan_limit: usize,
    /// Chunks stay after they were sent, so that another attempt can send them again.
    is_keeping: bool,
    /// A chunk has been sent and forgotten: no other attempt is possible.
    has_forgotten: bool,
    has_ended: bool,
    is_first_message: bool,
    bytes: usize,
}

/// The search for the route key in the first message.
struct Scan {
    method: &'static Method,
    encoding: Option<HeaderValue>,
    /// From the message's first byte on.
    scanner: Option<RouteKeyScanner>,
}

// === impl Scan ===

impl Scan {
    fn event(&mut self, event: Event<'_>) -> Result<(), Error> {
        match (event, &mut self.scanner) {
            (
                Event::Start {
                    compressed: true, ..
                },
                scanner,
            ) => {
                *scanner = Some(RouteKeyScanner::new_compressed(
                    self.method,
                    self.encoding.as_ref(),
                )?);
            }
            (
                Event::Start {
                    compressed: false, ..
                },
                scanner,
            ) => *scanner = Some(RouteKeyScanner::new(self.method)),
            (Event::Data(data), Some(scanner)) => {
                scanner.feed(data)?;
            }
            (Event::End, Some(scanner)) => scanner.finish()?,
            // Frames begins every message with Start.
            (Event::Data(_) | Event::End, None) => {}
        }
        Ok(())
    }

    /// The key, once enough of it is final.
    fn key(&self, has_versions: &impl Fn(&str) -> bool) -> Option<RouteKey> {
        let scanner = self.scanner.as_ref()?;
        let key = scanner.key();
        let is_enough = match scanner.progress() {
            Progress::Pending => false,
            Progress::Model => !key.model.as_deref().is_some_and(has_versions),
            Progress::Decided => true,
        };
        is_enough.then(|| key.clone())
    }
}

// === impl Inbound ===

impl Inbound {
    pub fn new(body: RecvStream, limits: &Limits, held: &Arc<HeldBytes>) -> Self {
        Self {
            body,
            frames: Frames::new(limits.max_message_bytes),
            scan: None,
            chunks: VecDeque::new(),
            held: Held::new(held.clone()),
            held_limit: limits.max_retry_bytes,
            scan_limit: limits.route_scan_limit_bytes,
            is_keeping: true,
            has_forgotten: false,
            has_ended: false,
            is_first_message: true,
            bytes: 0,
        }
    }

    /// Read as much of the body as it takes to know the route key; what was read waits to be sent.
    /// `has_versions` says whether a model has routes for single versions, so that its version matters.
    ///
    /// # Errors
    /// `bad_route_key`, `message_too_large`, `shed` (too many bytes held in the process), the caller's cancel, or
    /// a time limit.
    pub async fn route_key(
        &mut self,
        method: &'static Method,
        headers: &HeaderMap,
        has_versions: impl Fn(&str) -> bool,
        responder: &mut Responder,
        clock: &mut Clock<'_>,
    ) -> Result<RouteKey, Error> {
        if let Some(model) = headers.get(metadata::X_MODEL) {
            let model = model
                .to_str()
                .map_err(|_| Error::new(ErrorKind::BadRouteKey, "x-model is not ASCII text"))?;
            if model.len() > MAX_KEY_BYTES {
                let message = format!("x-model has {} bytes, limit {MAX_KEY_BYTES}", model.len());
                return Err(Error::new(ErrorKind::BadRouteKey, message));
            }
            return Ok(RouteKey {
                model: Some(model.to_owned()).filter(|model| !model.is_empty()),
                ..RouteKey::default()
            });
        }
        self.scan = Some(Scan {
            method,
            encoding: headers.get(metadata::GRPC_ENCODING).cloned(),
            scanner: None,
        });
        poll_fn(|cx| {
            loop {
                if let Some(key) = self.scan.as_ref().and_then(|scan| scan.key(&has_versions)) {
                    return Poll::Ready(Ok(key));
                }
                match self.poll_read(cx) {
                    Poll::Ready(Ok(Some(chunk))) => self.hold(chunk, &has_versions)?,
                    Poll::Ready(Ok(None)) => {
                        let text = "the request ended before its message was complete";
                        return Poll::Ready(Err(Error::new(ErrorKind::BadRequest, text)));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            if responder.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(cancelled()));
            }
            clock.poll(cx, true).map(|_| {
                Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    "the request's route key did not come in time",
                ))
            })
        })
        .await
    }

    /// The next chunk for an attempt that has sent `cursor` chunks, and whether it is the last.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        cursor: &mut usize,
    ) -> Poll<Result<(Bytes, bool), Error>> {
        if *cursor < self.chunks.len() {
            let chunk = if self.is_keeping {
                *cursor += 1;
                self.chunks[*cursor - 1].clone()
            } else {
                let chunk = self.chunks.pop_front().unwrap_or_default();
                self.held.shrink(chunk.len());
                chunk
            };
            return Poll::Ready(Ok((chunk, self.has_ended && *cursor == self.chunks.len())));
        }
        if self.has_ended {
            return Poll::Ready(Ok((Bytes::new(), true)));
        }
        match std::task::ready!(self.poll_read(cx))? {
            Some(chunk) => {
                self.keep(&chunk, cursor);
                Poll::Ready(Ok((chunk, self.has_ended)))
            }
            None => Poll::Ready(Ok((Bytes::new(), true))),
        }
    }

    /// Whether another attempt can send the request from its beginning.
    pub fn is_replayable(&self) -> bool {
        !self.has_forgotten
    }

    /// No other attempt will come: what has been sent need not be kept.
    pub fn commit(&mut self, cursor: &mut usize) {
        if self.is_keeping {
            self.is_keeping = false;
            self.has_forgotten |= *cursor > 0;
            for chunk in self.chunks.drain(..*cursor) {
                self.held.shrink(chunk.len());
            }
            *cursor = 0;
        }
    }

    /// Bytes of the request read so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        match std::task::ready!(self.body.poll_data(cx)) {
            Some(Ok(chunk)) => {
                // The stream's window reopens as chunks are taken; they are taken only when they can be sent on,
                // or within the limits on held bytes.
                let _ = self.body.flow_control().release_capacity(chunk.len());
                self.bytes += chunk.len();
                self.inspect(&chunk)?;
                self.has_ended = self.body.is_end_stream();
                Poll::Ready(Ok(Some(chunk)))
            }
            Some(Err(_)) => Poll::Ready(Err(cancelled())),
            None => {
                self.has_ended = true;
                Poll::Ready(Ok(None))
            }
        }
    }

    /// Check sizes, and give the first message to the scanner, to its very end: a different key that comes after
    /// the call was routed must not slip past.
    fn inspect(&mut self, mut chunk: &[u8]) -> Result<(), Error> {
        while let Some(event) = self.frames.next(&mut chunk)? {
            // A stream belongs to its first message's cluster: later messages are not looked at.
            if let Some(scan) = self.scan.as_mut().filter(|_| self.is_first_message) {
                scan.event(event)?;
            }
            if event == Event::End {
                self.is_first_message = false;
            }
        }
        Ok(())
    }

    fn hold(&mut self, chunk: Bytes, has_versions: &impl Fn(&str) -> bool) -> Result<(), Error> {
        let is_found = self
            .scan
            .as_ref()
            .is_some_and(|scan| scan.key(has_versions).is_some());
        if !is_found && self.bytes > self.scan_limit + PREFIX {
            let message = format!(
                "no route key in the first {} bytes: send the model's name in x-model",
                self.scan_limit
            );
            return Err(Error::new(ErrorKind::BadRouteKey, message));
        }
        if !self.held.grow(chunk.len()) {
            return Err(Error::new(
                ErrorKind::Shed,
                "too many request bytes are held (max_held_bytes); try again later",
            ));
        }
        self.chunks.push_back(chunk);
        Ok(())
    }

    fn keep(&mut self, chunk: &Bytes, cursor: &mut usize) {
        if !self.is_keeping {
            self.has_forgotten = true;
        } else if self.bytes <= self.held_limit && self.held.grow(chunk.len()) {
            self.chunks.push_back(chunk.clone());
            *cursor += 1;
        } else {
            self.chunks.clear();
            self.held.release();
            *cursor = 0;
            self.is_keeping = false;
            self.has_forgotten = true;
        }
    }
}
