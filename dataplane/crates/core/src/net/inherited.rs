//! Listening sockets that another process has bound for this one: an older version of the program, or the system's
//! service manager. No caller finds the port closed meanwhile, and none that waits to be accepted is lost.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::Path;

use socket2::{Socket, Type};

use super::listener::Listener;

/// Those that have not been taken yet.
#[derive(Default)]
pub struct Inherited(Vec<Socket>);

impl Inherited {
    /// Take over descriptors.
    ///
    /// # Errors
    /// One of them is no listening stream socket.
    pub fn new(descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let sockets: Vec<_> = descriptors.into_iter().map(Socket::from).collect();
        for socket in &sockets {
            if !matches!(socket.is_listener(), Ok(true)) || socket.r#type()? != Type::STREAM {
                let text = "a descriptor that was handed over is no listening stream socket";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            socket.set_nonblocking(true)?;
        }
        Ok(Self(sockets))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The listener of an address as it was configured, if there is one. Port 0 is any port of its IP address.
    pub fn take(&mut self, address: &str) -> io::Result<Option<Listener>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let Some(path) = address.strip_prefix("unix:") else {
            let wanted = address.to_socket_addrs()?.next();
            let found = self.find(|it| it.as_socket().zip(wanted).is_some_and(serves));
            return Ok(found.map(|socket| Listener::Tcp(socket.into())));
        };
        let found = self.find(|it| it.as_pathname() == Some(Path::new(path)));
        Ok(found.map(|socket| {
            let listener = Listener::unix(socket.into(), path.into());
            listener.leave(); // who bound it may go on with it
            listener
        }))
    }

    fn find(&mut self, is_it: impl Fn(&socket2::SockAddr) -> bool) -> Option<Socket> {
        let mut each = self.0.iter();
        let index = each.position(|it| it.local_addr().is_ok_and(|it| is_it(&it)))?;
        Some(self.0.remove(index))
    }
}

fn serves((bound, wanted): (SocketAddr, SocketAddr)) -> bool {
    bound == wanted || (wanted.port() == 0 && bound.ip() == wanted.ip())
}

#[cfg(test)]
#[path = "inherited_tests.rs"]
mod tests;
