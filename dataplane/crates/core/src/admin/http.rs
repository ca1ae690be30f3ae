//! The HTTP/1 admin port: one thread with a runtime of its own, so that it answers while the workers are
//! busy, and a large page of metrics holds up no call. Read-only but for orders to load models; what the pages say comes from
//! [`AdminPages`]. It has no authentication but callers' certificates where it has TLS, which is why it is bound to loopback
//! unless configured.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::Either;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::net::accept::Bound;
use crate::net::listener::Listener;
use crate::net::tls::Tls;

mod clock;
mod dashboard;
mod events;
mod index;
mod notable;
mod pages;
mod percent;
mod trial;

pub use trial::Trials;

use events::{Reading, Viewers};

/// Connections at a time; more wait in the listener's backlog. Scrapers and probes need a handful.
const MAX_CONNECTIONS: usize = 64;
/// Request line and headers together, bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Also how long an idle connection is kept: longer than the usual scrape interval of 15 s.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// After this age a connection ends with its next answer, so that none is held for ever.
const MAX_AGE: Duration = Duration::from_secs(120);
/// How long a caller may then still read its answer.
const GRACE: Duration = Duration::from_secs(10);
/// Pause after the system could not accept; at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the admin port shows. Called on its thread; each page may take its time.
pub trait AdminPages: Send + Sync {
    /// The page of /metrics, in Prometheus's text format.
    fn metrics(&self) -> String;
    /// The page of /status, one JSON document.
    fn status_json(&self) -> String;
    /// Whether calls are welcome; the reason when not.
    fn ready(&self) -> Result<(), String>;
    /// The last calls that are remembered, or the one with this request id, as JSON; none where there is no such page.
    ///
    /// # Errors
    /// The id is unknown; the document says how far back the memory goes.
    fn calls_json(&self, _request_id: Option<&str>) -> Option<Result<String, String>> {
        None
    }
    /// Whether `/events` may be watched.
    fn watching(&self) -> Watching {
        Watching::Never
    }
    /// A second is over; called once for each, unless the process was held up. Return what is new in it for those who
    /// watch, if anybody does: one JSON document, in one line.
    ///
    /// Args: `number`: of the second, from 1 on; those that are left out were missed.
    fn second(&self, _number: u64, _is_watched: bool) -> Option<String> {
        None
    }
    /// The last ten minutes of all models, or of one, as JSON; none where there is no such page.
    ///
    /// # Errors
    /// There is no such model.
    fn history_json(&self, _model: Option<&str>) -> Option<Result<String, String>> {
        None
    }
    /// The kinds of errors, as JSON; none where there is no such page.
    fn errors_json(&self) -> Option<String> {
        None
    }
    /// The calls of the last ten minutes that stand out, as JSON; none where there is no such page.
    fn notable_calls_json(&self, _which: &NotableCalls) -> Option<String> {
        None
    }
    /// Take an order: to load, unload or reload a model. None where there is nothing to order.
    fn order(&self, _action: &str, _model: &str) -> Option<Ordered> {
        None
    }
    /// Whether `/` is the dashboard, which shows what the access service keeps; else it is a plain page.
    fn has_dashboard(&self) -> bool {
        false
    }
    /// A document of the control plane's, by its path.
    fn document(&self, _path: &str) -> Option<Arc<str>> {
        None
    }
    /// Where a call is tried; none where the port may be reached by others, who may only read.
    fn trials(&self) -> Option<Trials> {
        None
    }
    /// What else a reader of /ready should know, one line each; it changes nothing.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Which of the calls that stand out are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotableCalls {
    /// Those that failed; else those that took longest.
    pub is_failed: bool,
    pub model: Option<String>,
    pub limit: usize,
}

/// Whether `/events` may be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watching {
    /// There is no such page.
    Never,
    Welcome,
    /// The process drains.
    Over,
}

/// What became of an order.
#[derive(Clone, Copy, Debug)]
pub enum Ordered {
    /// It is under way; /status tells by this number what came of it.
    Given(u64),
    /// Too many wait.
    Crowded,
    /// The port may be reached by others, who may only read.
    Denied,
}

/// The running admin port; stops when dropped.
#[derive(Debug)]
pub struct AdminServer {
    listener: Weak<Listener>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

// === impl AdminServer ===

impl AdminServer {
    /// Serve.
    ///
    /// Errors: the thread cannot be started.
    pub fn start((listener, tls): Bound, pages: Arc<dyn AdminPages>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let acceptor = {
            let _inside = runtime.enter();
            Acceptor::new(&listener, tls)?
        };
        let kept = Arc::downgrade(&listener);
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(run(&acceptor, &pages, stopped));
            // A unix socket's file goes with the listener, once nothing is accepted any more.
            drop((acceptor, listener));
        };
        let thread = std::thread::Builder::new()
            .name("dl-admin".to_owned())
            .spawn(serve)?;
        Ok(Self {
            listener: kept,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The listening socket, while it is open.
    pub fn listener(&self) -> Option<Arc<Listener>> {
        self.listener.upgrade()
    }

    /// Close the port and every connection, and join the thread.
    pub fn stop(mut self) {
        self.close();
    }

    fn close(&mut self) {
        // Dropping the sender is what ends the loop.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Pages run in tasks, which confine a panic: there is nothing to pass on.
            let _ = thread.join();
        }
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.close();
    }
}

enum Acceptor {
    Tcp(TcpListener),
    Tls(TcpListener, Arc<Tls>),
    Unix(UnixListener),
}

impl Acceptor {
    fn new(listener: &Listener, tls: Option<Arc<Tls>>) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => {
                let listener = TcpListener::from_std(listener.try_clone()?)?;
                match tls {
                    Some(tls) => Self::Tls(listener, tls),
                    None => Self::Tcp(listener),
                }
            }
            Listener::Unix(listener, _) => {
                Self::Unix(UnixListener::from_std(listener.try_clone()?)?)
            }
        })
    }

    /// Accept one connection and serve it in a task of `connections`.
    async fn accept(
        &self,
        connections: &mut JoinSet<()>,
        (pages, viewers): (&Arc<dyn AdminPages>, &Arc<Viewers>),
    ) {
        let accepted = match self {
            Self::Tcp(listener) => {
                let accepted = listener.accept().await;
                accepted.map(|(stream, _)| {
                    connections.spawn(serve(stream, pages.clone(), viewers.clone()))
                })
            }
            Self::Tls(listener, tls) => {
                let accepted = listener.accept().await;
                accepted.map(|(stream, _)| {
                    let tls = tls.clone();
                    connections.spawn(secured(stream, tls, pages.clone(), viewers.clone()))
                })
            }
            Self::Unix(listener) => {
                let accepted = listener.accept().await;
                accepted.map(|(stream, _)| {
                    connections.spawn(serve(stream, pages.clone(), viewers.clone()))
                })
            }
        };
        if accepted.is_err() {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Accept until stopped; connections that are open then end with the drop of their set.
async fn run(acceptor: &Acceptor, pages: &Arc<dyn AdminPages>, stopped: oneshot::Receiver<()>) {
    let viewers = Arc::new(Viewers::default());
    // Ends with the set, as the connections do.
    let mut seconds = JoinSet::new();
    seconds.spawn(events::each_second(pages.clone(), viewers.clone()));
    let mut connections = JoinSet::new();
    let mut stopped = std::pin::pin!(stopped);
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            if connections.len() < MAX_CONNECTIONS {
                acceptor.accept(&mut connections, (pages, &viewers)).await;
            } else {
                connections.join_next().await;
            }
        };
        tokio::select! {
            _ = stopped.as_mut() => return,
            () = next => {}
        }
    }
}

async fn secured(
    stream: TcpStream,
    tls: Arc<Tls>,
    pages: Arc<dyn AdminPages>,
    viewers: Arc<Viewers>,
) {
    // Whoever does not shake hands has had the reason, as far as TLS has one.
    if let Ok((stream, _)) = tls.accept(stream, Instant::now() + HEADER_TIMEOUT).await {
        serve(stream, pages, viewers).await;
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    pages: Arc<dyn AdminPages>,
    viewers: Arc<Viewers>,
) {
    let reading = Reading::default();
    let watch = reading.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (pages, viewers, watch) = (pages.clone(), viewers.clone(), watch.clone());
        async move {
            let watched = pages.watching() != Watching::Never;
            Ok::<_, Infallible>(if watched && request.uri().path() == "/events" {
                events::answer(&request, &viewers, &watch)
            } else if pages.has_dashboard() && trial::is_one(&request) {
                trial::answer(request, pages.trials())
                    .await
                    .map(Either::Left)
            } else if let Some(found) = dashboard::answer(&request, &*pages) {
                found.map(Either::Left)
            } else {
                pages::answer(&request, &*pages).map(Either::Left)
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A failed connection is the caller's affair: it went away, or it does not speak HTTP.
    if tokio::time::timeout(MAX_AGE, connection.as_mut())
        .await
        .is_err()
    {
        connection.as_mut().graceful_shutdown();
        // Whoever watches may go on as long as it reads what comes each second.
        while tokio::time::timeout(GRACE, connection.as_mut())
            .await
            .is_err()
            && reading.goes_on()
        {}
    }
}

#[cfg(test)]
#[path = "http/http_tests.rs"]
mod tests;
