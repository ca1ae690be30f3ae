//! Listening sockets: bound, named, and closed without a caller being reset.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

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
            let remedy = remedy(error.kind());
            io::Error::new(
                error.kind(),
                format!("cannot listen on {address}: {error}{remedy}"),
            )
        })
    }

    /// The address with its port resolved.
    pub fn address(&self) -> io::Result<String> {
        Ok(match self {
            Self::Tcp(listener) => listener.local_addr()?.to_string(),
            Self::Unix(_, file) => format!("unix:{}", file.path.display()),
        })
    }

    /// One of a bound unix socket, whose file goes with it.
    pub fn unix(listener: std::os::unix::net::UnixListener, path: PathBuf) -> Self {
        let is_removed = AtomicBool::new(false);
        Self::Unix(listener, SocketFile { path, is_removed })
    }

    /// Another process has the socket, too, and goes on with it: a unix socket's file stays.
    pub fn leave(&self) {
        if let Self::Unix(_, file) = self {
            file.is_removed.store(true, Ordering::Relaxed);
        }
    }

    /// The descriptor, for a process that is to inherit it.
    pub fn descriptor(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener, _) => listener.as_raw_fd(),
        }
    }

    /// Let no new connection begin, and lose none that has: closing a listener resets what the system has accepted
    /// for it, and a connection may be that at any moment.
    ///
    /// Where the system cannot do it, connections that come in the last moment are reset.
    pub fn close_door(&self) {
        match self {
            // Best effort: without it a drain is as good as it is elsewhere.
            Self::Tcp(listener) => drop(SockRef::from(listener).attach_filter(&DROP_SYN)),
            Self::Unix(_, file) => file.remove(),
        }
    }
}

/// What to do about an address that cannot be bound: the same words as `dl_inference/serving/listening.py`.
fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => {
            "; stop the program that listens there, or choose another address"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; choose an address of this machine, or 0.0.0.0 for all of them"
        }
        io::ErrorKind::PermissionDenied => {
            "; choose an address that this user may listen on: a port of 1024 or more, a folder that is theirs"
        }
        _ => "",
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
    Ok(Listener::unix(listener, path))
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
