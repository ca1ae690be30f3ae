//! `host:port` and `unix:/path`: listening, accepting and connecting alike.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A connection of either kind.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A listening socket of either kind.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, String),
}

/// Connect to an address.
///
/// # Errors
/// As the system reports them.
pub async fn connect(address: &str) -> io::Result<Stream> {
    if let Some(path) = address.strip_prefix("unix:") {
        return Ok(Stream::Unix(UnixStream::connect(path).await?));
    }
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}

// === impl Listener ===

impl Listener {
    /// Listen on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// As the system reports them.
    pub async fn bind(address: &str) -> io::Result<Listener> {
        if let Some(path) = address.strip_prefix("unix:") {
            // A killed endpoint leaves its path behind.
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            return Ok(Listener::Unix(
                UnixListener::bind(path)?,
                address.to_owned(),
            ));
        }
        Ok(Listener::Tcp(TcpListener::bind(address).await?))
    }

    /// The address that others connect to.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Listener::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            Listener::Unix(_, address) => Ok(address.clone()),
        }
    }

    /// Take the next connection.
    ///
    /// # Errors
    /// As the system reports them.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

// === impl Stream ===

impl Stream {
    /// A second descriptor of the socket, whose drop resets the connection once the first is gone.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn resetter(&self) -> io::Result<Resetter> {
        Ok(Resetter(match self {
            Stream::Tcp(stream) => Some(SockRef::from(stream).try_clone()?),
            Stream::Unix(_) => None,
        }))
    }
}

/// Closes a TCP connection with a reset instead of an orderly end.
pub struct Resetter(Option<socket2::Socket>);

impl Resetter {
    /// Close so that the other side sees a reset (RST) rather than an orderly end.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn arm(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |socket| {
            socket.set_linger(Some(std::time::Duration::ZERO))
        })
    }

    /// Send a FIN: the other side may still send, and is told of no error.
    ///
    /// # Errors
    /// As the system reports them.
    pub fn finish(&self) -> io::Result<()> {
        self.0
            .as_ref()
            .map_or(Ok(()), |socket| socket.shutdown(std::net::Shutdown::Write))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
