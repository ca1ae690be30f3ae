//! Listening sockets: one accept task for all of them, which gives each connection to the worker with the
//! fewest connections (live streams decide a tie). Not SO_REUSEPORT: it spreads four connections unevenly over two
//! workers, and a closing listener resets its backlog.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::sync::mpsc::UnboundedSender;

use super::drain::{Door, Phase};
use super::limits::ConnectionGuard;
use super::listener::Listener;
use super::load::Load;
use super::server::Server;
use super::tls::{Identity, Tls};
use crate::stats::RefusedReason;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub enum Peer {
    Tcp(SocketAddr),
    /// Over TLS, with a certificate that was verified, or none.
    Tls(SocketAddr, Option<Arc<Identity>>),
    Unix,
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
    /// What its port asks for.
    pub tls: Option<Arc<Tls>>,
    pub accepted: Accepted,
}

/// A connected socket that no runtime owns yet.
pub enum Stream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// A bound listener, and its TLS.
pub type Bound = (Arc<Listener>, Option<Arc<Tls>>);

/// Where the accept task sends a connection.
#[derive(Clone)]
pub struct Recipient {
    pub load: Arc<Load>,
    pub sender: UnboundedSender<Incoming>,
}

// === impl Accepted ===

impl Accepted {
    fn new(guard: ConnectionGuard, load: Arc<Load>) -> Self {
        load.add_connection();
        Self {
            _guard: guard,
            load,
        }
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.load.remove_connection();
    }
}

// === impl Peer ===

impl Peer {
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) | Self::Tls(address, _) => Some(address.ip()),
            Self::Unix => None,
        }
    }

    /// What its certificate says; none without a verified one.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match self {
            Self::Tls(_, identity) => identity.as_ref(),
            Self::Tcp(_) | Self::Unix => None,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) | Self::Tls(address, _) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
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

/// Accept on one listener until the drain begins, then close it: what was connected by then is served. Where another
/// process goes on with the socket, it takes what waits.
pub async fn run(
    (listener, tls): Bound,
    door: Door,
    recipients: Rc<[Recipient]>,
    server: Arc<Server>,
) -> io::Result<()> {
    // Dropped last: calls are told to go only when the listener has closed.
    let _door = door;
    let tcp_user_timeout_ms = server.limits.tcp_user_timeout_ms;
    let accepting = match &*listener {
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
        take(accepted, &tls, &recipients, &server);
        if is_exhausted {
            // Out of file descriptors or memory: accepting again at once would spin.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if phase == Phase::Stopped || server.is_handed_over() {
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
        take(accepted, &tls, &recipients, &server);
        if is_exhausted {
            break;
        }
    }
    Ok(())
}

/// Give an accepted connection to a worker, or count why not.
fn take(
    accepted: io::Result<(Stream, Peer)>,
    tls: &Option<Arc<Tls>>,
    recipients: &[Recipient],
    server: &Server,
) {
    match accepted {
        Ok((stream, peer)) => match server.limiter.admit(peer.ip()) {
            Ok(guard) => hand_over(recipients, stream, peer, tls.clone(), guard),
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

/// A connection of the process's own.
///
/// # Errors
/// There are too many connections, or the system's.
pub fn connect(
    server: &Server,
    recipients: &[Recipient],
) -> io::Result<std::os::unix::net::UnixStream> {
    let guard = server.limiter.admit(None);
    let guard = guard.map_err(|_| io::Error::other("there are too many connections"))?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    hand_over(recipients, Stream::Unix(theirs), Peer::Unix, None, guard);
    Ok(ours)
}

fn hand_over(
    recipients: &[Recipient],
    stream: Stream,
    peer: Peer,
    tls: Option<Arc<Tls>>,
    guard: ConnectionGuard,
) {
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
        tls,
        accepted,
    });
}

#[cfg(test)]
#[path = "accept_tests.rs"]
mod tests;
