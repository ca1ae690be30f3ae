//! The caller's request body: read as it comes, checked, scanned for the route key, and kept as long as a retry
//! may need it. Chunks are reference-counted; they are never joined.

mod arrivals;
mod scan;
mod signed;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::clock::Clock;
use super::failure::cancelled;
use super::hash_field::FieldSearch;
use super::method::Method;
use super::route::VersionUse;
use super::route_key::{RouteKey, insert_version, replace_version};
use crate::call::limit::{Held, HeldBytes};
use crate::call::responder::Responder;
use crate::callers::limits::Charges;
use crate::callers::signing::SignedBody;
use crate::chunks::Chunks;
use crate::config::ProxyConfig;
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::{Event, Frames, PREFIX};
use crate::headers::Headers;
use crate::net::guard::Kept;
use crate::net::stream::Body;
use arrivals::Arrivals;
use scan::{Change, Scan};
use signed::Signed;

pub struct Inbound {
    body: Arrivals,
    frames: Frames,
    scan: Option<Box<Scan>>,
    /// Read, and not yet sent for good.
    chunks: Chunks,
    held: Held,
    held_limit: usize,
    scan_limit: usize,
    message_limit: usize,
    /// Chunks stay after they were sent, so that another attempt can send them again.
    is_keeping: bool,
    /// A chunk has been sent and forgotten: no other attempt is possible.
    has_forgotten: bool,
    has_ended: bool,
    is_first_message: bool,
    /// What the only message must be, where it was signed.
    signed: Signed,
    bytes: usize,
    /// The limits that the call is under.
    pub charges: Charges,
}

// === impl Inbound ===

impl Inbound {
    /// `held` and `unsent` are the process's budgets for bytes that are read, and for those that endpoints do not take.
    pub fn new(
        (body, kept): (Body, Kept),
        config: &ProxyConfig,
        (held, unsent): (&Arc<HeldBytes>, &Arc<HeldBytes>),
    ) -> Self {
        Self {
            body: Arrivals::new(body, kept, unsent),
            frames: Frames::new(config.limits.max_message_bytes),
            scan: None,
            chunks: Chunks::default(),
            held: Held::new(held.clone()),
            held_limit: config.upstream.max_retry_bytes,
            scan_limit: config.upstream.route_scan_limit_bytes,
            message_limit: config.limits.max_message_bytes,
            is_keeping: true,
            has_forgotten: false,
            has_ended: false,
            is_first_message: true,
            signed: Signed::default(),
            bytes: 0,
            charges: Charges::default(),
        }
    }

    /// Read as much of the body as it takes to know the route key; what was read waits to be sent.
    /// `is_strict`: every message has to name the model that the call goes to, to its end, or none.
    /// `uses` says what the second, a version or label, does for the first, a model; `matters` whether any may, before
    /// there is a message.
    ///
    /// # Errors
    /// `bad_route_key`, `message_too_large`, `shed` (too many bytes held in the process), the caller's cancel, or
    /// a time limit.
    pub async fn route_key(
        &mut self,
        (method, is_strict): (&'static Method, bool),
        headers: &Headers,
        (matters, uses): (
            impl Fn(&str) -> bool,
            impl Fn(Option<&str>, Option<&str>) -> VersionUse,
        ),
        responder: &mut Responder,
        clock: &mut Clock<'_>,
    ) -> Result<RouteKey, Error> {
        let (given, has_model) = scan::given(headers, method.protocol)?;
        let named = given.model.as_deref();
        let is_read = || given.version.is_some() || named.is_some_and(matters);
        let has_to_be = is_strict && !method.plan.is_empty();
        if has_model && !has_to_be && !(method.plan.has_version() && is_read()) {
            return Ok(given);
        }
        let inflated = is_strict.then_some(self.message_limit);
        self.scan = Some(Box::new(Scan::new(method, headers, given, inflated)));
        poll_fn(|cx| {
            loop {
                if let Some(scan) = self.scan.as_ref().filter(|scan| scan.is_found(&uses)) {
                    return Poll::Ready(Ok(scan.key()));
                }
                match self.poll_read(cx) {
                    Poll::Ready(Ok(Some(chunk))) => self.hold(chunk, &uses)?,
                    Poll::Ready(Ok(None)) => {
                        // A stream may end before its first message. It names no model then.
                        if let Some(scan) = self.scan.as_ref().filter(|_| self.bytes == 0) {
                            return Poll::Ready(Ok(scan.key()));
                        }
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

    /// Read as much of the body as it takes to know the hash of a field, up to a limit; what was read waits to be sent,
    /// and nothing may have been given away yet.
    ///
    /// # Errors
    /// `message_too_large`, `bad_route_key`, `shed` (too many bytes held in the process), the caller's cancel, or a
    /// time limit.
    pub async fn hash(
        &mut self,
        mut search: FieldSearch,
        responder: &mut Responder,
        clock: &mut Clock<'_>,
    ) -> Result<Option<u64>, Error> {
        let mut cursor = 0;
        poll_fn(|cx| {
            loop {
                while let Some(chunk) = self.chunks.get(cursor) {
                    search.feed(chunk);
                    cursor += 1;
                }
                if search.is_over() || self.has_ended {
                    return Poll::Ready(Ok(search.hash()));
                }
                match self.poll_read(cx) {
                    Poll::Ready(Ok(Some(chunk))) => {
                        self.held.grow(chunk.len())?;
                        self.chunks.push(chunk);
                    }
                    Poll::Ready(Ok(None)) => {}
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
                    "the request's hash_field did not come in time",
                ))
            })
        })
        .await
    }

    /// Let the message ask for what the call was routed by, where it asks for a label that stands for `version`, or the
    /// metadata asks and it does not; nothing may have been sent yet. True when it was changed.
    ///
    /// # Errors
    /// `bad_route_key` where that cannot be; `shed` when the process would hold too many bytes.
    pub fn set_version(
        &mut self,
        method: &'static Method,
        version: Option<&str>,
    ) -> Result<bool, Error> {
        let Some(scan) = &mut self.scan else {
            return Ok(false);
        };
        let change = scan.change(version)?;
        if matches!(change, Change::None) {
            return Ok(false);
        }
        let mut chunks = VecDeque::from(std::mem::take(&mut self.chunks));
        let grown = match change {
            Change::None => return Ok(false),
            Change::Replace(version) => replace_version(&method.plan, version, &mut chunks)?,
            Change::Insert(version) => insert_version(&method.plan, version, &mut chunks)?,
        };
        self.chunks = chunks.into();
        self.held.shrink(grown.min(0).unsigned_abs());
        self.held.grow(grown.max(0).unsigned_abs())?;
        Ok(true)
    }

    /// The next chunk for an attempt that has sent `cursor` chunks, and whether it is the last.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        cursor: &mut usize,
    ) -> Poll<Result<(Bytes, bool), Error>> {
        if let Some(chunk) = self.chunks.get(*cursor) {
            let chunk = if self.is_keeping {
                *cursor += 1;
                chunk.clone()
            } else {
                let chunk = self.chunks.pop().unwrap_or_default();
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

    /// The request waits for its endpoint: let no other call of the caller's wait for it.
    pub fn wait(&mut self, cx: &mut Context<'_>) {
        self.body.take_off(cx);
    }

    /// Whether another attempt can send the request from its beginning.
    pub fn is_replayable(&self) -> bool {
        !self.has_forgotten
    }

    /// Whether all of the request is here and kept: two attempts can send it at the same time.
    pub fn is_whole(&self) -> bool {
        self.has_ended && self.is_keeping
    }

    /// No other attempt will come: what has been sent need not be kept.
    pub fn commit(&mut self, cursor: &mut usize) {
        if self.is_keeping {
            self.is_keeping = false;
            self.has_forgotten |= *cursor > 0;
            for _ in 0..std::mem::take(cursor) {
                let sent = self.chunks.pop().unwrap_or_default();
                self.held.shrink(sent.len());
            }
        }
    }

    /// Nothing has been read yet, and all that is passed on must be what was signed.
    pub fn must_be(&mut self, signed: SignedBody) {
        self.signed = Signed::new(signed);
    }

    /// Bytes of the request read so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        match std::task::ready!(self.body.poll_chunk(cx)) {
            Some(Ok(chunk)) => {
                // Chunks are taken, which reopens the stream's window, only when they can be sent on, or within the
                // limits on held bytes.
                self.bytes += chunk.len();
                self.inspect(&chunk)?;
                self.has_ended = self.body.has_ended();
                if self.has_ended {
                    self.signed.end()?;
                }
                Poll::Ready(Ok(Some(chunk)))
            }
            Some(Err(_)) => Poll::Ready(Err(cancelled())),
            None => {
                self.has_ended = true;
                self.signed.end()?;
                Poll::Ready(Ok(None))
            }
        }
    }

    /// Check sizes, and give the first message to the scanner, to its very end: a different key that comes after
    /// the call was routed must not slip past.
    fn inspect(&mut self, mut chunk: &[u8]) -> Result<(), Error> {
        while let Some(event) = self.frames.next(&mut chunk)? {
            if let Event::Start { length, .. } = event {
                self.charges.message(length)?;
            }
            // A stream belongs to its first message's cluster: later messages are looked at where who calls matters.
            self.signed.event(event)?;
            let is_read = |scan: &&mut Box<Scan>| self.is_first_message || scan.is_strict();
            if let Some(scan) = self.scan.as_mut().filter(is_read) {
                scan.event(event)?;
            }
            if event == Event::End {
                self.is_first_message = false;
            }
        }
        Ok(())
    }

    fn hold(
        &mut self,
        chunk: Bytes,
        uses: &impl Fn(Option<&str>, Option<&str>) -> VersionUse,
    ) -> Result<(), Error> {
        let scan = self.scan.as_ref().filter(|scan| !scan.is_found(uses));
        if let Some(scan) = scan.filter(|_| self.bytes > self.scan_limit + PREFIX) {
            let (limit, remedy) = (self.scan_limit, scan.remedy());
            let message = format!("no route key in the first {limit} bytes: {remedy}");
            return Err(Error::new(ErrorKind::BadRouteKey, message));
        }
        self.held.grow(chunk.len())?;
        self.chunks.push(chunk);
        Ok(())
    }

    fn keep(&mut self, chunk: &Bytes, cursor: &mut usize) {
        if !self.is_keeping {
            self.has_forgotten = true;
        } else if self.bytes <= self.held_limit && self.held.try_grow(chunk.len()) {
            self.chunks.push(chunk.clone());
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
