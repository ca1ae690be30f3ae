//! TLS of ports and towards endpoints: the handshake, who the other side is, and certificates that are read again when
//! they change. Connections that are there keep what they were made with.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::opening;
use crate::config::ListenerTls;
use crate::notice::Notice;
use crate::stats::ClosedReason;

mod allowed;
mod certificate;
mod client;
mod files;
mod followed;
mod make;
mod server;

pub use certificate::Identity;
pub use client::{Client, Secured, handshake_error};
use followed::Followed;
pub use followed::TlsView;
pub use make::make_certificates;
use server::Port;
pub use server::Protocols;

/// A port's TLS.
pub struct Tls {
    address: String,
    config: Followed<ServerConfig>,
}

// === impl Tls ===

impl Tls {
    /// Read the files, and follow them.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn start(address: &str, settings: ListenerTls, protocols: Protocols) -> io::Result<Self> {
        let wrong = |text: String| {
            let text = format!("cannot listen on {address}: tls: {text}");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        if address.starts_with("unix:") {
            return Err(wrong("a unix socket has none; leave `tls` out".to_owned()));
        }
        let config = Followed::start(
            address,
            Port {
                settings,
                protocols,
            },
        )
        .map_err(wrong)?;
        let address = address.to_owned();
        Ok(Self { address, config })
    }

    /// Shake hands until `end`.
    ///
    /// # Errors
    /// Why the connection is over; a caller without TLS has its answer by then.
    pub async fn accept(
        &self,
        mut stream: TcpStream,
        end: Instant,
    ) -> Result<(TlsStream<TcpStream>, Option<Arc<Identity>>), ClosedReason> {
        let mut first = [0];
        match timeout_at(end, stream.peek(&mut first)).await {
            Err(_) => return Err(ClosedReason::HeaderTimeout),
            Ok(Err(_)) => return Err(ClosedReason::Io),
            Ok(Ok(0)) => return Err(ClosedReason::Downstream),
            // No request of HTTP begins with what begins a handshake.
            Ok(Ok(_)) if first[0] != opening::HANDSHAKE => {
                let _ = opening::answer_plaintext(&mut stream, end).await;
                return Err(ClosedReason::Plaintext);
            }
            Ok(Ok(_)) => {}
        }
        let acceptor = TlsAcceptor::from(self.config.made());
        match timeout_at(end, acceptor.accept(stream)).await {
            Err(_) => Err(ClosedReason::HeaderTimeout),
            Ok(Err(_)) => Err(ClosedReason::Handshake),
            Ok(Ok(stream)) => {
                let chain = stream.get_ref().1.peer_certificates();
                let identity = chain.and_then(|it| it.first());
                let identity = identity.map(|it| Arc::new(Identity::of(it)));
                Ok((stream, identity))
            }
        }
    }

    /// What the operator should read.
    pub fn notices(&self, now: SystemTime) -> Vec<Notice> {
        self.config.notices(now)
    }

    /// What /status says.
    pub fn status(&self) -> Value {
        let mut status = self.config.status();
        status["address"] = self.address.as_str().into();
        status
    }

    /// What /metrics shows.
    pub fn view(&self) -> TlsView {
        self.config.view("listen", &self.address)
    }
}

#[cfg(test)]
mod tests;
