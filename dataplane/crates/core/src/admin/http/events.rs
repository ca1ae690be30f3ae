//! `/events`: what is new each second, as server-sent events, to a few viewers at a time. All get the same bytes; one that
//! does not read misses seconds, and nothing waits for it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::clock::Seconds;
use super::{AdminPages, Watching};

/// Viewers at a time: of the connections that may be open, so that probes and scrapers still have most.
const MAX_VIEWERS: usize = 16;
/// How long a browser waits before it asks again, ms.
const OPENING: &[u8] = b"retry: 1000\n\n";

/// What `/events` or another page answers with.
pub type Answer = Response<Either<Full<Bytes>, Events>>;

/// Those who watch.
#[derive(Default)]
pub struct Viewers {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    senders: Vec<Sender<Bytes>>,
    /// The process drains: nobody is let in any more.
    has_ended: bool,
}

/// The events of one viewer, as they come.
pub struct Events {
    receiver: Receiver<Bytes>,
    reading: Reading,
}

/// Whether the viewer of a connection has read lately.
#[derive(Clone, Default)]
pub struct Reading(Arc<AtomicBool>);

/// Tell the pages of every second, and the viewers of what is new; until the process drains.
pub async fn each_second(pages: Arc<dyn AdminPages>, viewers: Arc<Viewers>) {
    let mut seconds = Seconds::new();
    loop {
        let number = seconds.next().await;
        let is_watched = viewers.is_any();
        if let Some(event) = pages.second(number, is_watched).filter(|_| is_watched) {
            viewers.tell(format!("event: second\ndata: {event}\n\n").into());
        }
        if pages.watching() == Watching::Over {
            viewers.end();
        }
    }
}

/// Answer a request for events.
pub fn answer<B>(request: &Request<B>, viewers: &Viewers, reading: &Reading) -> Answer {
    if *request.method() != Method::GET {
        let mut refused = refused(StatusCode::METHOD_NOT_ALLOWED, "read-only: use GET\n");
        let headers = refused.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    let receiver = match viewers.enter() {
        Ok(receiver) => receiver,
        Err(why) => return refused(StatusCode::SERVICE_UNAVAILABLE, why),
    };
    let events = Events {
        receiver,
        reading: reading.clone(),
    };
    let mut answer = Response::new(Either::Right(events));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn refused(status: StatusCode, why: &'static str) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(why)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

// === impl Viewers ===

impl Viewers {
    fn enter(&self) -> Result<Receiver<Bytes>, &'static str> {
        let mut open = self.lock();
        open.senders.retain(|sender| !sender.is_closed());
        if open.has_ended {
            return Err("draining\n");
        }
        if open.senders.len() == MAX_VIEWERS {
            return Err(
                "16 viewers watch already, and more are not served: close one, or read /history\n",
            );
        }
        // The opening, and one second that waits.
        let (sender, receiver) = channel(2);
        let _ = sender.try_send(Bytes::from_static(OPENING));
        open.senders.push(sender);
        Ok(receiver)
    }

    fn is_any(&self) -> bool {
        !self.lock().senders.is_empty()
    }

    fn tell(&self, event: Bytes) {
        self.lock()
            .senders
            .retain(|sender| match sender.try_send(event.clone()) {
                // It has not read the seconds before, and misses this one.
                Ok(()) | Err(TrySendError::Full(_)) => true,
                Err(TrySendError::Closed(_)) => false,
            });
    }

    fn end(&self) {
        let mut open = self.lock();
        open.senders.clear();
        open.has_ended = true;
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Events, Reading ===

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.receiver.poll_recv(cx);
        if polled.is_ready() {
            self.reading.0.store(true, Relaxed);
        }
        polled.map(|event| Some(Ok(Frame::data(event?))))
    }
}

impl Reading {
    /// Whether it has read since the last time that this was asked.
    pub fn goes_on(&self) -> bool {
        self.0.swap(false, Relaxed)
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
