//! Sends spans to the collector, in batches, by a thread of its own. A collector that is slow, dead or absent costs spans,
//! which are counted, and no call any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use url::Url;

use super::otlp;
use super::span::Span;
use crate::notice::Notice;

/// Calls whose spans may wait: 2 MB or so.
const MAX_WAITING: usize = 2_048;
/// Spans of one request, as OpenTelemetry's own batches have by default.
const MAX_BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const DELAY: Duration = Duration::from_secs(1);
const EXPORT_LIMIT: Duration = Duration::from_secs(10);
/// What the end of the program leaves for the spans that wait.
const LAST_LIMIT: Duration = Duration::from_secs(2);

/// Spans that came to the collector, and those that did not.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub sent: Arc<AtomicU64>,
    pub lost: Arc<AtomicU64>,
}

#[derive(Debug)]
pub struct Exporter {
    sender: Option<mpsc::Sender<Vec<Span>>>,
    /// When everything is to be over.
    end: watch::Sender<Option<Instant>>,
    counts: Counts,
    trouble: Arc<Trouble>,
    thread: Option<JoinHandle<()>>,
}

/// Whether spans arrive, for the operator.
#[derive(Debug, Default)]
struct Trouble {
    endpoint: String,
    /// The error of the last batch, and what the operator has been told.
    state: Mutex<(Option<String>, bool)>,
}

/// The thread's side.
struct Sending {
    url: Url,
    service: String,
    receiver: mpsc::Receiver<Vec<Span>>,
    end: watch::Receiver<Option<Instant>>,
    counts: Counts,
    trouble: Arc<Trouble>,
}

// === impl Exporter ===

impl Exporter {
    /// # Errors
    /// The address is none, or the thread cannot be started.
    pub fn start(endpoint: &str, service: &str, counts: Counts) -> Result<Self, String> {
        let url = url_of(endpoint)?;
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let (end, ends) = watch::channel(None);
        let trouble = Arc::new(Trouble {
            endpoint: endpoint.to_owned(),
            state: Mutex::default(),
        });
        let sending = Sending {
            url,
            service: service.to_owned(),
            receiver,
            end: ends,
            counts: counts.clone(),
            trouble: trouble.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| format!("tracing: {error}"))?;
        let thread = std::thread::Builder::new()
            .name("dl-spans".to_owned())
            .spawn(move || runtime.block_on(sending.run()));
        Ok(Self {
            sender: Some(sender),
            end,
            counts,
            trouble,
            thread: Some(thread.map_err(|error| format!("tracing: {error}"))?),
        })
    }

    /// Hand the spans of a call over; never waits.
    pub fn send(&self, spans: Vec<Span>) {
        let Some(sender) = &self.sender else { return };
        if let Err(error) = sender.try_send(spans) {
            let spans = error.into_inner();
            self.counts.lost.fetch_add(spans.len() as u64, Relaxed);
        }
    }

    pub fn notice(&self) -> Option<Notice> {
        let mut state = self.trouble.lock();
        if state.1 == state.0.is_some() {
            return None;
        }
        state.1 = !state.1;
        let endpoint = &self.trouble.endpoint;
        Some(match &state.0 {
            Some(error) => Notice::warning(format!(
                "spans do not reach the collector {endpoint}, calls go on without them: {error} (dl_spans_lost_total \
                 counts them)"
            )),
            None => Notice::info(format!("spans reach the collector {endpoint} again")),
        })
    }
}

impl Drop for Exporter {
    /// Send what waits, for a moment, and join the thread.
    fn drop(&mut self) {
        drop(self.sender.take());
        self.end.send_replace(Some(Instant::now() + LAST_LIMIT));
        if let Some(thread) = self.thread.take() {
            // If it panicked, its spans are gone and there is no one to ask.
            let _ = thread.join();
        }
    }
}

// === impl Trouble ===

impl Trouble {
    fn tell(&self, error: Option<String>) {
        self.lock().0 = error;
    }

    fn lock(&self) -> MutexGuard<'_, (Option<String>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Sending ===

impl Sending {
    async fn run(mut self) {
        while let Some(mut batch) = self.receiver.recv().await {
            let until = Instant::now() + DELAY;
            while batch.len() < MAX_BATCH
                && let Ok(Some(more)) = timeout_at(until, self.receiver.recv()).await
            {
                batch.extend(more);
            }
            let count = batch.len() as u64;
            let request = otlp::request(&self.service, batch);
            let mut end = self.end.clone();
            let sent = tokio::select! {
                sent = timeout(EXPORT_LIMIT, post(&self.url, request)) => sent.unwrap_or_else(|_| {
                    Err(format!("no answer in {} s", EXPORT_LIMIT.as_secs()))
                }),
                () = over(&mut end) => Err("the program ends".to_owned()),
            };
            let counter = if sent.is_ok() {
                &self.counts.sent
            } else {
                &self.counts.lost
            };
            counter.fetch_add(count, Relaxed);
            self.trouble.tell(sent.err());
        }
    }
}

/// Ready when the program's end leaves no more time.
async fn over(end: &mut watch::Receiver<Option<Instant>>) {
    // An error means that the other side is gone without an end, which it never is.
    let at = end.wait_for(Option::is_some).await.map(|at| *at);
    if let Ok(Some(at)) = at {
        sleep_until(at).await;
    }
}

async fn post(url: &Url, body: Vec<u8>) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let authority = url.authority().to_owned();
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(4318);
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| text(&error))?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| text(&error))?;
    let request = Request::post(url.path())
        .header(HOST, authority)
        .header(
            USER_AGENT,
            concat!("dl-inference/", env!("CARGO_PKG_VERSION")),
        )
        .header(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        )
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| text(&error))?;
    let mut asking = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut asking => answer,
        // It may end with the answer, which waits to be read then.
        _ = connection => asking.await,
    };
    let answer = answer.map_err(|error| text(&error))?;
    if answer.status().is_success() {
        return Ok(());
    }
    Err(format!("it answers {}", answer.status()))
}

/// Where spans go: `/v1/traces`, where the address has no path.
fn url_of(endpoint: &str) -> Result<Url, String> {
    let url = Url::parse(endpoint);
    let url = url.map_err(|error| format!("tracing.endpoint {endpoint:?}: {error}"))?;
    if url.scheme() != "http" || url.host_str().is_none() || !url.username().is_empty() {
        return Err(format!(
            "tracing.endpoint {endpoint:?} must be http://HOST:PORT of a collector that takes OTLP over HTTP"
        ));
    }
    Ok(match url.path() {
        "" | "/" => url.join("/v1/traces").map_err(|error| error.to_string())?,
        _ => url,
    })
}
