//! grpc.health.v1: what Check and List answer, and when a Watch has something to say. Who is healthy is decided
//! elsewhere ([`HealthSource`]); how it travels is in [`super::services`].
//!
//! Source: grpc/grpc-proto, grpc/health/v1/health.proto, and grpc/grpc, doc/health-checking.md.

use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;

use super::messages::health::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};
use super::messages::parse;
use crate::error::Error;

/// State of a service. `ServiceUnknown` is in answers of Watch only.
pub use super::messages::health::health_check_response::ServingStatus as Serving;

/// Full name of the service.
pub const SERVICE: &str = "grpc.health.v1.Health";

/// Says who is healthy: the proxy (`""` and each model) or a model server.
pub trait HealthSource: Send + Sync {
    /// State of a service; `None` when it is not known.
    fn status(&self, service: &str) -> Option<Serving>;
    /// Every known service, `""` included.
    fn list(&self) -> Vec<(String, Serving)>;
    /// Changes after each change of any state; [`Changes`] makes it.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Whether the process drains: streams of ours end then, so that they do not hold it up.
    fn is_draining(&self) -> bool;
}

/// Wakes Watch streams.
#[derive(Debug)]
pub struct Changes(watch::Sender<u64>);

impl Default for Changes {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Changes {
    /// Say that a state changed; cheap, and never blocks on a stream.
    pub fn bump(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// Something to await changes on.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

impl From<Serving> for HealthCheckResponse {
    fn from(serving: Serving) -> Self {
        Self {
            status: serving as i32,
        }
    }
}

/// Name of the service asked for in a Check or Watch.
///
/// Errors: bad_request when the message does not parse.
pub fn service_asked(message: &Bytes) -> Result<String, Error> {
    Ok(parse::<HealthCheckRequest>(message.clone())?.service)
}

/// Answer of Check, serialized; `None` when the service is not known (NOT_FOUND).
pub fn check(source: &dyn HealthSource, service: &str) -> Option<Vec<u8>> {
    source
        .status(service)
        .map(|serving| HealthCheckResponse::from(serving).encode_to_vec())
}

/// Answer of List, serialized.
pub fn list(source: &dyn HealthSource) -> Vec<u8> {
    let statuses = source.list().into_iter();
    let statuses = statuses
        .map(|(service, serving)| (service, serving.into()))
        .collect();
    HealthListResponse { statuses }.encode_to_vec()
}

/// One Watch stream: remembers what was said last.
#[derive(Debug)]
pub struct Watch {
    service: String,
    said: Option<Serving>,
}

// === impl Watch ===

impl Watch {
    /// Begin to watch; nothing was said yet.
    pub fn new(service: String) -> Self {
        Self {
            service,
            said: None,
        }
    }

    /// The next message, serialized, if the state is not the one said last. An unknown service is
    /// SERVICE_UNKNOWN and may become known later: the stream goes on.
    pub fn next(&mut self, source: &dyn HealthSource) -> Option<Vec<u8>> {
        let now = source
            .status(&self.service)
            .unwrap_or(Serving::ServiceUnknown);
        if self.said.replace(now) == Some(now) {
            return None;
        }
        Some(HealthCheckResponse::from(now).encode_to_vec())
    }
}

#[cfg(test)]
#[path = "health/health_tests.rs"]
mod tests;
