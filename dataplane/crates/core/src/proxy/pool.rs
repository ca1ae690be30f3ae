//! One worker's connections to endpoints: opened at start and after loss, shared by all clusters that name the
//! address, retired when no cluster does.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{self, SendRequest};
use rustc_hash::FxHashMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::address::{Address, Target};
use crate::config::{Limits, ProxyConfig, UpstreamLimits};
use crate::error::{Error, ErrorKind};
use crate::net::accept::tune_tcp;
use crate::net::buffered::{Buffered, Flush, buffered};
use crate::net::stream::{self, Awaited, Broken, Head, Sender};

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_FACTOR: f64 = 1.6;
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Servers allow 100 streams or more; below that the exact limit need not be asked for.
const SURE_STREAMS: usize = 64;

/// All connections of one worker.
pub struct Pool {
    config: Rc<ProxyConfig>,
    upstreams: RefCell<FxHashMap<u64, Rc<Upstream>>>,
}

/// One worker's connections to one address.
pub struct Upstream {
    pub address: Arc<Address>,
    config: Rc<ProxyConfig>,
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Connects that ended without a connection.
    failures: Cell<u64>,
    last_error: RefCell<String>,
    retired: Cell<bool>,
    /// A connect ended, or a connection was lost.
    changed: Notify,
    /// The connector has something to do.
    wanted: Notify,
}

/// One HTTP/2 connection to an endpoint.
pub struct Connection {
    sender: RefCell<SendRequest<Bytes>>,
    streams: Cell<usize>,
}

/// A connection with a stream counted on it until dropped.
pub struct Channel {
    connection: Rc<Connection>,
    upstream: Rc<Upstream>,
}

// === impl Pool ===

impl Pool {
    pub fn new(config: ProxyConfig) -> Self {
        Self {
            config: Rc::new(config),
            upstreams: RefCell::default(),
        }
    }

    /// The connections to an address, if this worker has any.
    pub fn get(&self, address: &Address) -> Option<Rc<Upstream>> {
        self.upstreams.borrow().get(&address.id).cloned()
    }

    /// The connections to an address that the routing state names; started if this worker has none yet.
    pub fn upstream(&self, address: &Arc<Address>) -> Rc<Upstream> {
        if let Some(upstream) = self.get(address) {
            return upstream;
        }
        let upstream = Upstream::start(address.clone(), self.config.clone());
        self.upstreams
            .borrow_mut()
            .insert(address.id, upstream.clone());
        upstream
    }

    /// Connect to every address of a new routing state, and retire the connections to all others.
    pub fn reconcile(&self, addresses: &[Arc<Address>]) {
        for address in addresses {
            self.upstream(address);
        }
        let wanted: rustc_hash::FxHashSet<u64> =
            addresses.iter().map(|address| address.id).collect();
        self.upstreams.borrow_mut().retain(|id, upstream| {
            let keep = wanted.contains(id);
            if !keep {
                upstream.retire();
            }
            keep
        });
    }
}

// === impl Upstream ===

impl Upstream {
    fn start(address: Arc<Address>, config: Rc<ProxyConfig>) -> Rc<Self> {
        let upstream = Rc::new(Self {
            address,
            config,
            connections: RefCell::default(),
            failures: Cell::new(0),
            last_error: RefCell::default(),
            retired: Cell::new(false),
            changed: Notify::new(),
            wanted: Notify::new(),
        });
        // Ends when the upstream is retired; the worker's LocalSet owns it.
        tokio::task::spawn_local(upstream.clone().keep_connected());
        upstream
    }

    pub fn most_connections(&self) -> usize {
        self.limits().max_connections_per_endpoint.max(1)
    }

    fn limits(&self) -> &UpstreamLimits {
        &self.config.upstream
    }

    /// A connection with room for one more stream. Waits for a connect that is under way, or due.
    ///
    /// # Errors
    /// `connect_failed` when that connect fails.
    pub async fn channel(self: &Rc<Self>) -> Result<Channel, Error> {
        let failures = self.failures.get();
        loop {
            let changed = self.changed.notified();
            if let Some(connection) = self.usable() {
                return Ok(Channel::new(connection, self.clone()));
            }
            if self.failures.get() != failures || self.retired.get() {
                let reason = self.last_error.borrow();
                let message = format!("endpoint {}: {reason}", self.address.text);
                return Err(Error::new(ErrorKind::ConnectFailed, message));
            }
            self.wanted.notify_one();
            changed.await;
        }
    }

    /// The connection with the fewest streams, if there is one; asks for another when all are full.
    pub fn usable(&self) -> Option<Rc<Connection>> {
        let connections = self.connections.borrow();
        let best = connections
            .iter()
            .min_by_key(|connection| connection.streams.get())?;
        if connections.len() < self.limits().max_connections_per_endpoint && best.is_full() {
            self.wanted.notify_one();
        }
        Some(best.clone())
    }

    /// Stop using a connection: its peer said GOAWAY, or it broke. Its streams go on as long as they can.
    pub fn discard(&self, connection: &Rc<Connection>) {
        let mut connections = self.connections.borrow_mut();
        let before = connections.len();
        connections.retain(|other| !Rc::ptr_eq(other, connection));
        let lost_last = connections.is_empty() && before > 0;
        drop(connections);
        if lost_last {
            self.address.disconnected();
        }
        self.wanted.notify_one();
        self.changed.notify_waiters();
    }

    fn retire(&self) {
        self.retired.set(true);
        if !self
            .connections
            .borrow_mut()
            .drain(..)
            .as_slice()
            .is_empty()
        {
            self.address.disconnected();
        }
        self.wanted.notify_one();
        self.changed.notify_waiters();
    }

    async fn keep_connected(self: Rc<Self>) {
        let mut backoff = FIRST_BACKOFF;
        while !self.retired.get() {
            if !self.wants_connection() {
                self.wanted.notified().await;
                continue;
            }
            match self.connect().await {
                Ok(()) => backoff = FIRST_BACKOFF,
                Err(error) => {
                    *self.last_error.borrow_mut() = error.to_string();
                    self.failures.set(self.failures.get() + 1);
                    self.address.connect_failed();
                    self.changed.notify_waiters();
                    // Jitter of 20 % either way, so that workers and proxies do not knock together. A call that
                    // was sent here because another worker is connected does not wait for the end of it.
                    let jitter = 0.8 + 0.4 * fastrand::f64();
                    let _ = timeout(backoff.mul_f64(jitter), self.wanted.notified()).await;
                    backoff = backoff.mul_f64(BACKOFF_FACTOR).min(MAX_BACKOFF);
                }
            }
        }
    }

    fn wants_connection(&self) -> bool {
        let connections = self.connections.borrow();
        connections.is_empty()
            || (connections.len() < self.limits().max_connections_per_endpoint
                && connections.iter().all(|connection| connection.is_full()))
    }

    /// Open one connection and let a task drive it.
    async fn connect(self: &Rc<Self>) -> io::Result<()> {
        let limit = Duration::from_millis(self.limits().connect_timeout_ms);
        let attempt = async {
            match &self.address.target {
                Target::Tcp(address) => {
                    let stream = TcpStream::connect(address.as_str()).await?;
                    let stream = stream.into_std()?;
                    tune_tcp(&stream, self.config.limits.tcp_user_timeout_ms)?;
                    self.handshake(TcpStream::from_std(stream)?).await
                }
                Target::Unix(path) => self.handshake(UnixStream::connect(path).await?).await,
            }
        };
        match timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!("connect timed out after {} ms", limit.as_millis());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }

    async fn handshake<T>(self: &Rc<Self>, io: T) -> io::Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let limits: &Limits = &self.config.limits;
        let (io, flush) = buffered(io);
        let (sender, mut connection) = client::Builder::new()
            .initial_max_send_streams(0)
            .initial_window_size(limits.stream_window_bytes)
            .initial_connection_window_size(limits.connection_window_bytes)
            .max_frame_size(limits.max_frame_bytes)
            .max_header_list_size(limits.max_metadata_bytes)
            .max_send_buffer_size(1 << 20)
            .enable_push(false)
            // Our own cancels (deadlines, lost attempts) must never end a healthy connection.
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(1024)
            .handshake::<Buffered<T>, Bytes>(io)
            .await
            .map_err(io::Error::other)?;
        // The endpoint is usable once its SETTINGS frame has come: a listener whose process hangs accepts too.
        first_settings(&mut connection, &sender)
            .await
            .map_err(io::Error::other)?;
        if self.retired.get() {
            return Ok(());
        }
        let entry = Rc::new(Connection {
            sender: RefCell::new(sender),
            streams: Cell::new(0),
        });
        let is_first = {
            let mut connections = self.connections.borrow_mut();
            connections.push(entry.clone());
            connections.len() == 1
        };
        if is_first {
            self.address.connected();
        }
        self.changed.notify_waiters();
        let upstream = self.clone();
        // Ends with the connection, which ends with its last user.
        tokio::task::spawn_local(async move {
            upstream.drive(connection, &flush, &entry).await;
            upstream.discard(&entry);
        });
        Ok(())
    }

    /// Run the connection to its end. How it ended is what its streams were told; nothing is left to report.
    async fn drive<T>(
        &self,
        mut connection: client::Connection<Buffered<T>, Bytes>,
        flush: &Flush<T>,
        entry: &Rc<Connection>,
    ) where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let ping_pong = connection.ping_pong();
        flush.take_over();
        let connection = poll_fn(|cx| {
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            match flush.poll(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(()),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        });
        let keepalive = Duration::from_millis(self.limits().keepalive_ms);
        let Some(mut ping_pong) = ping_pong.filter(|_| !keepalive.is_zero()) else {
            return connection.await;
        };
        let limit = Duration::from_millis(self.limits().keepalive_timeout_ms);
        let watch = async {
            loop {
                sleep(keepalive).await;
                if entry.streams.get() > 0
                    && timeout(limit, ping_pong.ping(h2::Ping::opaque()))
                        .await
                        .is_err()
                {
                    return;
                }
            }
        };
        tokio::select! {
            () = connection => {}
            () = watch => {}
        }
    }
}

/// Drive a fresh connection until the peer's SETTINGS have come: only they raise the initial limit of 0 streams.
async fn first_settings<T>(
    connection: &mut client::Connection<T, Bytes>,
    sender: &SendRequest<Bytes>,
) -> Result<(), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(h2::Error::from(Reason::NO_ERROR))),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await
}

// === impl Connection ===

impl Connection {
    fn is_full(&self) -> bool {
        let streams = self.streams.get();
        streams >= SURE_STREAMS && streams >= self.sender.borrow().current_max_send_streams()
    }
}

// === impl Channel ===

impl Channel {
    fn new(connection: Rc<Connection>, upstream: Rc<Upstream>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self {
            connection,
            upstream,
        }
    }

    /// Open a stream and send a request's head on it.
    pub async fn send(&self, head: Head) -> Result<(Awaited, Sender), Broken> {
        let mut request = Some(head.into());
        let sent = poll_fn(|cx| {
            let sender = &mut *self.connection.sender.borrow_mut();
            let is_free = sender.poll_ready(cx);
            // Ready at the first poll, so the request is there.
            let request = request.take().unwrap_or_default();
            Poll::Ready(match is_free {
                Poll::Ready(Ok(())) => sender.send_request(request, false),
                // An earlier stream of this handle waits for the peer's stream limit; a clone queues behind it.
                Poll::Pending => sender.clone().send_request(request, false),
                Poll::Ready(Err(error)) => Err(error),
            })
        });
        Ok(stream::joined(sent.await?))
    }

    /// No further calls on this connection.
    pub fn discard(&self) {
        self.upstream.discard(&self.connection);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.connection
            .streams
            .set(self.connection.streams.get() - 1);
    }
}
