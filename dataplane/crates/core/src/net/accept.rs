//! Listening sockets: one accept task for all of them, which gives each connection to the worker with the
//! fewest connections (live streams decide a tie). Not SO_REUSEPORT: it spreads four connections unevenly over two
//! workers, and a closing listener resets its backlog.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, TcpKeepalive, Type};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::sync::mpsc::UnboundedSender;

use super::drain::Phase;
use super::limits::ConnectionGuard;
use super::server::Server;
use crate::stats::RefusedReason;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub enum Peer {
    Tcp(SocketAddr),
    Unix,
}

/// What one worker has to do right now.
#[derive(Default)]
pub struct Load {
    connections: AtomicUsize,
    streams: AtomicUsize,
    /// A drain waits for the last of them; until then nobody need be told.
    is_watched: AtomicBool,
    changed: Notify,
}

/// Keeps a connection counted, by its worker and by the limits.
pub struct Accepted {
    _guard: ConnectionGuard,
    load: Arc<Load>,
}

/// A connection on its way from the accept task to a worker.
pub struct Incoming {
    pub stream: Stream,
    pub peer: Peer,
    pub accepted: Accepted,
}

/// A connected socket that no runtime owns yet.
pub enum Stream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// Where the accept task sends a connection.
pub struct Recipient {
    pub load: Arc<Load>,
    pub sender: UnboundedSender<Incoming>,
}

/// A bound listening socket.
pub enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

/// The file of a listening unix socket, removed once: another process may have the path afterwards.
pub struct SocketFile {
    path: PathBuf,
    is_removed: AtomicBool,
}

// === impl Load ===

impl Load {
    pub fn add_stream(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub fn remove_stream(&self) {
        self.remove(&self.streams);
    }

    /// Let [`changed`](Self::changed) be told from now on.
    pub fn watch(&self) {
        self.is_watched.store(true, Ordering::SeqCst);
    }

    /// Ready when the last stream or the last connection has gone after this call.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn remove(&self, count: &AtomicUsize) {
        // In one order with `watch`: who watches sees the count, or is told.
        if count.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_watched.load(Ordering::SeqCst) {
            self.changed.notify_waiters();
        }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }
}

impl Accepted {
    fn new(guard: ConnectionGuard, load: Arc<Load>) -> Self {
        load.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            _guard: guard,
            load,
        }
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.load.remove(&self.load.connections);
    }
}

// === impl Peer ===

impl Peer {
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

// === impl Listener ===

impl Listener {
    /// Bind `host:port`, `[v6]:port` or `unix:/path`. A socket file that nobody listens on is replaced.
    ///
    /// # Errors
    /// The system's error, with the address in its text.
    pub fn bind(address: &str) -> io::Result<Self> {
        let result = match address.strip_prefix("unix:") {
            Some(path) => bind_unix(path),
            None => bind_tcp(address),
        };
        result.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        })
    }

    /// The address with its port resolved.
    pub fn address(&self) -> io::Result<String> {
        Ok(match self {
            Self::Tcp(listener) => listener.local_addr()?.to_string(),
            Self::Unix(_, file) => format!("unix:{}", file.path.display()),
        })
    }

    /// Let no new connection begin, and lose none that has: closing a listener resets what the system has accepted
    /// for it, and a connection may be that at any moment.
    ///
    /// Where the system cannot do it, connections that come in the last moment are reset.
    fn close_door(&self) {
        match self {
            // Best effort: without it a drain is as good as it is elsewhere.
            Self::Tcp(listener) => drop(SockRef::from(listener).attach_filter(&DROP_SYN)),
            Self::Unix(_, file) => file.remove(),
        }
    }
}

/// A classic BPF program, run on each segment for the listener from its TCP header on: a SYN without ACK is dropped,
/// as if it had been lost on the way, and all else passes. The caller's system sends it again after a second, when the
/// port is closed, or another process's.
const DROP_SYN: [SockFilter; 5] = [
    SockFilter::new(0x30, 0, 0, 13),       // load the byte of the flags
    SockFilter::new(0x54, 0, 0, 0x12),     // and SYN | ACK
    SockFilter::new(0x15, 0, 1, 0x02),     // equal to SYN?
    SockFilter::new(0x06, 0, 0, 0),        // yes: keep nothing
    SockFilter::new(0x06, 0, 0, u32::MAX), // no: keep all of it
];

fn bind_tcp(address: &str) -> io::Result<Listener> {
    use std::net::ToSocketAddrs;
    let resolved = address
        .to_socket_addrs()?
        .next()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    let socket = Socket::new(
        Domain::for_address(resolved),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&resolved.into())?;
    // As much as the system lets through (net.core.somaxconn): a burst of reconnecting callers fits.
    socket.listen(4096)?;
    Ok(Listener::Tcp(socket.into()))
}

fn bind_unix(path: &str) -> io::Result<Listener> {
    use std::os::unix::net::{UnixListener, UnixStream};
    let path = PathBuf::from(path);
    let listener = match UnixListener::bind(&path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(&path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(&path)?;
            UnixListener::bind(&path)?
        }
        other => other?,
    };
    listener.set_nonblocking(true)?;
    let file = SocketFile {
        path,
        is_removed: AtomicBool::new(false),
    };
    Ok(Listener::Unix(listener, file))
}

impl SocketFile {
    fn remove(&self) {
        if !self.is_removed.swap(true, Ordering::Relaxed) {
            // Best effort: the file may be gone, or its folder may.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Prepare a connected TCP socket of either side.
///
/// Keepalive finds a dead peer on an idle connection, TCP_USER_TIMEOUT one that stops acknowledging. Both work
/// below HTTP/2, so no server's ping policy is upset (gRPC proposal A18).
pub fn tune_tcp(stream: &std::net::TcpStream, user_timeout_ms: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10));
    socket.set_tcp_keepalive(&keepalive)?;
    if user_timeout_ms > 0 {
        socket.set_tcp_user_timeout(Some(Duration::from_millis(user_timeout_ms)))?;
    }
    Ok(())
}

enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// How long a handshake that has begun may take once no new one can: a round trip within a region.
const HANDSHAKE: Duration = Duration::from_millis(50);

/// Accept on one listener until the drain begins, then close it: what was connected by then is served.
pub async fn run(
    listener: Listener,
    recipients: Rc<[Recipient]>,
    server: Arc<Server>,
) -> io::Result<()> {
    // Dropped last: calls are told to go only when the listener has closed.
    let _door = server.drain.door();
    let tcp_user_timeout_ms = server.limits.tcp_user_timeout_ms;
    let listener = listener;
    let accepting = match &listener {
        Listener::Tcp(listener) => {
            Accepting::Tcp(tokio::net::TcpListener::from_std(listener.try_clone()?)?)
        }
        Listener::Unix(listener, _) => {
            Accepting::Unix(tokio::net::UnixListener::from_std(listener.try_clone()?)?)
        }
    };
    let mut watch = server.drain.watch();
    let phase = loop {
        let accepted = tokio::select! {
            phase = watch.changed() => break phase,
            accepted = accept(&accepting, tcp_user_timeout_ms) => accepted,
        };
        let is_exhausted = matches!(&accepted, Err(error) if !is_connection_error(error));
        take(accepted, &recipients, &server);
        if is_exhausted {
            // Out of file descriptors or memory: accepting again at once would spin.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if phase == Phase::Stopped {
        return Ok(());
    }
    listener.close_door();
    let mut end = pin!(tokio::time::sleep(HANDSHAKE));
    loop {
        let accepted = tokio::select! {
            () = &mut end => break,
            () = watch.reached(Phase::Stopped) => break,
            accepted = accept(&accepting, tcp_user_timeout_ms) => accepted,
        };
        let is_exhausted = matches!(&accepted, Err(error) if !is_connection_error(error));
        take(accepted, &recipients, &server);
        if is_exhausted {
            break;
        }
    }
    Ok(())
}

/// Give an accepted connection to a worker, or count why not.
fn take(accepted: io::Result<(Stream, Peer)>, recipients: &[Recipient], server: &Server) {
    match accepted {
        Ok((stream, peer)) => match server.limiter.admit(peer.ip()) {
            Ok(guard) => hand_over(recipients, stream, peer, guard),
            // Dropping the socket closes it; there is no HTTP/2 connection yet to say why on.
            Err(reason) => server.stats.refused.add(reason),
        },
        Err(error) if is_connection_error(&error) => {}
        Err(_) => server.stats.refused.add(RefusedReason::AcceptError),
    }
}

async fn accept(accepting: &Accepting, tcp_user_timeout_ms: u64) -> io::Result<(Stream, Peer)> {
    match accepting {
        Accepting::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            let stream = stream.into_std()?;
            tune_tcp(&stream, tcp_user_timeout_ms)?;
            Ok((Stream::Tcp(stream), Peer::Tcp(address)))
        }
        Accepting::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            Ok((Stream::Unix(stream.into_std()?), Peer::Unix))
        }
    }
}

/// The peer went away between its SYN and our accept: its own affair, the listener is fine.
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
    )
}

fn hand_over(recipients: &[Recipient], stream: Stream, peer: Peer, guard: ConnectionGuard) {
    let Some(recipient) = recipients
        .iter()
        .min_by_key(|recipient| (recipient.load.connections(), recipient.load.streams()))
    else {
        return;
    };
    let accepted = Accepted::new(guard, recipient.load.clone());
    // A worker that is gone is stopping; its connection closes with the drop.
    let _ = recipient.sender.send(Incoming {
        stream,
        peer,
        accepted,
    });
}

#[cfg(test)]
#[path = "accept_tests.rs"]
mod tests;
