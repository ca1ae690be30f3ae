//! Calls over HTTP/1.1, for the servers that speak no gRPC: a connection carries one call at a time, so a call takes
//! an idle one or opens another.

use std::cell::RefCell;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

use crate::calls::{Class, DEADLINE_EXCEEDED, Outcome, Target, UNAVAILABLE, UNKNOWN};
use crate::socket::connect;

type Sender = SendRequest<Full<Bytes>>;

/// Connections to the target, opened when needed and kept.
pub struct Pool<'a> {
    target: &'a Target,
    idle: RefCell<Vec<Sender>>,
    room: Semaphore,
}

// === impl Pool ===

impl<'a> Pool<'a> {
    /// Describe the connections; nothing is opened yet.
    #[must_use]
    pub fn new(target: &'a Target, connections: usize) -> Pool<'a> {
        Pool {
            target,
            idle: RefCell::default(),
            room: Semaphore::new(connections),
        }
    }

    /// Make one call; always ends by the deadline. A status of 200 is OK.
    pub async fn call(&self, class: &Class, deadline: Instant) -> Outcome {
        let until = tokio::time::Instant::from_std(deadline);
        // Dropping the call on time-out closes its connection.
        match tokio::time::timeout_at(until, self.attempt(class)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(message)) => Outcome::local(UNAVAILABLE, message),
            Err(_) => Outcome::local(DEADLINE_EXCEEDED, "own deadline".to_owned()),
        }
    }

    async fn attempt(&self, class: &Class) -> Result<Outcome, String> {
        let _permit = self.room.acquire().await.map_err(told)?;
        let mut sender = self.sender().await?;
        let response = sender.send_request(self.request(class)?).await;
        let response = response.map_err(told)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(told)?;
        self.idle.borrow_mut().push(sender);
        if status != 200 {
            return Ok(Outcome::local(UNKNOWN, format!("HTTP {status}")));
        }
        let is_corrupt = self.target.expect_echo && body.to_bytes() != class.message();
        Ok(Outcome {
            is_corrupt,
            ..Outcome::default()
        })
    }

    /// A connection that carries no call; one that the server has closed meanwhile is passed over.
    async fn sender(&self) -> Result<Sender, String> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            let Some(mut sender) = idle else { break };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = connect(&self.target.address)
            .await
            .map_err(|error| format!("connect: {error}"))?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(told)?;
        // Its error reaches the call on it; it ends when the sender is gone.
        spawn_local(async move {
            let _ = connection.await;
        });
        sender.ready().await.map_err(told)?;
        Ok(sender)
    }

    fn request(&self, class: &Class) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::new(Full::new(class.message()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.path.parse().map_err(told)?;
        let headers = request.headers_mut();
        headers.clone_from(&class.headers);
        let host = HeaderValue::from_str(&self.target.address).map_err(told)?;
        headers.insert("host", host);
        Ok(request)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn told(error: impl ToString) -> String {
    error.to_string()
}
