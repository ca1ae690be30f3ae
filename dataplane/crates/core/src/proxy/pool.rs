//! One worker's connections to endpoints: opened at start and after loss, shared by all clusters that name the
//! address, retired when no cluster does.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::address::{Address, Target};
use crate::config::{ProxyConfig, UpstreamLimits};
use crate::error::{Error, ErrorKind};
use crate::headers::Headers;
use crate::net::accept::tune_tcp;
use crate::net::stream::{Awaited, Broken, Sender};

mod connection;
mod lookups;
pub mod turns;

use connection::Connection;
use lookups::{Host, Lookups};
use turns::Turns;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_FACTOR: f64 = 1.6;
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Between two connects, however many calls wait for one: short beside a call, long beside a refused connect.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// What an endpoint may mean that closes a connection at once.
const WANTS_TLS: &str = "the port may want TLS: tls of the cluster";
const WANTS_OURS: &str = "it may want a certificate of ours, or another one: tls.certificate";

/// All connections of one worker.
pub struct Pool {
    config: Rc<ProxyConfig>,
    lookups: Rc<Lookups>,
    turns: Arc<Turns>,
    upstreams: RefCell<FxHashMap<u64, Rc<Upstream>>>,
}

/// One worker's connections to one address.
pub struct Upstream {
    pub address: Arc<Address>,
    config: Rc<ProxyConfig>,
    lookups: Rc<Lookups>,
    /// The process's.
    turns: Arc<Turns>,
    host: Host,
    connections: RefCell<Vec<Rc<Connection>>>,
    /// When the last connect that failed was begun.
    failed: Cell<Option<Instant>>,
    last_error: RefCell<String>,
    retired: Cell<bool>,
    /// A connect ended, or a connection was lost.
    changed: Notify,
    /// The connector has something to do.
    wanted: Notify,
}

/// A connection with a stream counted on it until dropped.
pub struct Channel {
    connection: Rc<Connection>,
    upstream: Rc<Upstream>,
}

// === impl Pool ===

impl Pool {
    pub fn new(config: ProxyConfig, turns: Arc<Turns>) -> Self {
        Self {
            config: Rc::new(config),
            lookups: Rc::default(),
            turns,
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
        let upstream = Upstream::start(address.clone(), self);
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
    fn start(address: Arc<Address>, pool: &Pool) -> Rc<Self> {
        let upstream = Rc::new(Self {
            address,
            config: pool.config.clone(),
            lookups: pool.lookups.clone(),
            turns: pool.turns.clone(),
            host: Host::default(),
            connections: RefCell::default(),
            failed: Cell::default(),
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

    /// A connection with room for one more stream. Waits for a connect that is under way, or due. Where that fails, or
    /// no more may be opened, the call queues for the connection with the fewest streams.
    ///
    /// # Errors
    /// `connect_failed` when that connect fails and there is no connection.
    pub async fn channel(self: &Rc<Self>) -> Result<Channel, Error> {
        if !self.has_room() {
            self.connected(Instant::now()).await;
        }
        let connections = self.connections.borrow();
        let best = match &connections[..] {
            [only] => Some(only),
            several => several
                .iter()
                .min_by_key(|connection| (connection.is_full(), connection.streams())),
        };
        let Some(connection) = best else {
            let reason = self.last_error.borrow();
            let message = format!("endpoint {}: {reason}", self.address.text);
            return Err(Error::new(ErrorKind::ConnectFailed, message));
        };
        Ok(Channel::new(connection.clone(), self.clone()))
    }

    /// Connect now, whatever the wait after the last failure.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// Wait until there is a connection, or until there is none.
    pub async fn until_connected(&self, is_connected: bool) {
        loop {
            let changed = self.changed.notified();
            if self.connections.borrow().is_empty() != is_connected {
                return;
            }
            changed.await;
        }
    }

    /// [Connect now](Self::want), and wait for it. True when a connection has room, or no more may be opened; false when
    /// a connect that was begun after `asked` has failed.
    pub async fn connected(&self, asked: Instant) -> bool {
        loop {
            let changed = self.changed.notified();
            if self.has_room() {
                return true;
            }
            let has_failed = self.failed.get().is_some_and(|begun| begun >= asked);
            if has_failed || self.retired.get() {
                return false;
            }
            self.wanted.notify_one();
            changed.await;
        }
    }

    /// Whether a call need not wait for another connection.
    fn has_room(&self) -> bool {
        let connections = self.connections.borrow();
        connections.len() >= self.most_connections()
            || connections.iter().any(|connection| !connection.is_full())
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
            if self.has_room() {
                self.wanted.notified().await;
                continue;
            }
            let begun = Instant::now();
            match self.connect().await {
                Ok(()) => backoff = FIRST_BACKOFF,
                Err(error) => {
                    *self.last_error.borrow_mut() = error.to_string();
                    self.failed.set(Some(begun));
                    self.address.connect_failed(error.to_string());
                    self.changed.notify_waiters();
                    sleep(LEAST_PAUSE).await;
                    // Jitter of 20 % either way, so that workers and proxies do not knock together. A call that
                    // waits for a connection does not wait for the end of it.
                    let jitter = 0.8 + 0.4 * fastrand::f64();
                    let _ = timeout(backoff.mul_f64(jitter), self.wanted.notified()).await;
                    backoff = backoff.mul_f64(BACKOFF_FACTOR).min(MAX_BACKOFF);
                    self.turn().await;
                }
            }
        }
    }

    /// Wait for this address's turn among all that are dead; not for one that another worker has found alive.
    async fn turn(&self) {
        let mut turn = pin!(sleep_until(self.turns.take(Instant::now())));
        while !self.address.is_live() && !self.retired.get() {
            tokio::select! {
                () = &mut turn => return,
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Open one connection and let a task drive it.
    async fn connect(self: &Rc<Self>) -> io::Result<()> {
        let limit = Duration::from_millis(self.limits().connect_timeout_ms);
        let addresses = match &self.address.target {
            Target::Tcp(text) => self.lookups.addresses(&self.host, text, limit).await?,
            Target::Unix(_) => Vec::new(),
        };
        if self.retired.get() {
            return Ok(());
        }
        let attempt = async {
            match &self.address.target {
                Target::Tcp(_) => {
                    let stream = TcpStream::connect(&addresses[..]).await?;
                    let stream = stream.into_std()?;
                    tune_tcp(&stream, self.config.limits.tcp_user_timeout_ms)?;
                    let stream = TcpStream::from_std(stream)?;
                    let Some(tls) = &self.address.secured else {
                        return self.begin(stream).await.map_err(|it| hinted(it, WANTS_TLS));
                    };
                    let begun = self.begin(tls.connect(stream).await?).await;
                    begun.map_err(|it| hinted(it, WANTS_OURS))
                }
                Target::Unix(path) => self.begin(UnixStream::connect(path).await?).await,
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

    /// Take a connection into use whose socket is there, and let a task drive it to its end.
    async fn begin<T>(self: &Rc<Self>, io: T) -> io::Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (connection, driver) = Connection::open(io, &self.config).await?;
        if self.retired.get() {
            return Ok(());
        }
        let is_first = {
            let mut connections = self.connections.borrow_mut();
            connections.push(connection.clone());
            connections.len() == 1
        };
        if is_first {
            self.address.connected();
        }
        self.changed.notify_waiters();
        let upstream = self.clone();
        // Ends with the connection, which ends with its last user.
        tokio::task::spawn_local(async move {
            driver.run(&connection).await;
            upstream.discard(&connection);
        });
        Ok(())
    }
}

/// Say of a connection that was closed at once what that may mean.
fn hinted(error: io::Error, hint: &str) -> io::Error {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match error.kind() {
        kind @ (BrokenPipe | ConnectionReset | UnexpectedEof) => {
            io::Error::new(kind, format!("{error}; {hint}"))
        }
        _ => error,
    }
}

// === impl Channel ===

impl Channel {
    fn new(connection: Rc<Connection>, upstream: Rc<Upstream>) -> Self {
        connection.add_stream();
        Self {
            connection,
            upstream,
        }
    }

    /// Open a stream and send a request's head on it.
    pub async fn send(&self, head: impl FnOnce() -> Headers) -> Result<(Awaited, Sender), Broken> {
        self.connection.send(head).await
    }

    /// The limit that the answer's metadata exceeds, if it does. It has come, but not all of it is there.
    pub fn exceeded_metadata(&self, stream: u32) -> Option<u32> {
        let limit = self.upstream.config.limits.max_metadata_bytes;
        self.connection.is_cut(stream).then_some(limit)
    }

    /// No further calls on this connection.
    pub fn discard(&self) {
        self.upstream.discard(&self.connection);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let was_full = self.connection.is_full();
        self.connection.remove_stream();
        if was_full {
            self.upstream.changed.notify_waiters();
        }
    }
}
