//! grpc.health.v1: the messages, what Check and List answer, and when a Watch has something to say.
//! Who is healthy is decided elsewhere ([`HealthSource`]); how it travels is in [`super::grpc`].
//!
//! Source: grpc/grpc-proto, grpc/health/v1/health.proto, and grpc/grpc, doc/health-checking.md.

use std::collections::HashMap;

use prost::Message;
use tokio::sync::watch;

use crate::error::{Error, ErrorKind};

/// Full name of the service.
pub const SERVICE: &str = "grpc.health.v1.Health";

/// State of a service, with the numbers of HealthCheckResponse.ServingStatus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Serving {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    /// Only in answers of Watch.
    ServiceUnknown = 3,
}

/// Says who is healthy: the proxy (`""` and each model) or a model server.
pub trait HealthSource: Send + Sync {
    /// State of a service; `None` when it is not known.
    fn status(&self, service: &str) -> Option<Serving>;
    /// Every known service, `""` included.
    fn list(&self) -> Vec<(String, Serving)>;
    /// Changes after each change of any state; [`Version`] makes it.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Whether the process drains: streams of ours end then, so that they do not hold it up.
    fn is_draining(&self) -> bool;
}

/// A counter that wakes Watch streams.
#[derive(Debug)]
pub struct Version(watch::Sender<u64>);

impl Default for Version {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Version {
    /// Say that a state changed; cheap, and never blocks on a stream.
    pub fn bump(&self) {
        self.0.send_modify(|version| *version += 1);
    }

    /// Something to await changes on.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// grpc.health.v1.HealthCheckRequest.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckRequest {
    #[prost(string, tag = "1")]
    pub service: String,
}

/// grpc.health.v1.HealthCheckResponse.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckResponse {
    #[prost(enumeration = "Serving", tag = "1")]
    pub status: i32,
}

/// grpc.health.v1.HealthListResponse.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListResponse {
    #[prost(map = "string, message", tag = "1")]
    pub statuses: HashMap<String, CheckResponse>,
}

impl From<Serving> for CheckResponse {
    fn from(serving: Serving) -> Self {
        Self {
            status: serving as i32,
        }
    }
}

/// Name of the service asked for in a Check or Watch.
///
/// Errors: bad_request when the message does not parse.
pub fn service_asked(message: &[u8]) -> Result<String, Error> {
    CheckRequest::decode(message)
        .map(|request| request.service)
        .map_err(|error| {
            Error::new(
                ErrorKind::BadRequest,
                format!("request does not parse: {error}"),
            )
        })
}

/// Answer of Check, serialized; `None` when the service is not known (NOT_FOUND).
pub fn check(source: &dyn HealthSource, service: &str) -> Option<Vec<u8>> {
    source
        .status(service)
        .map(|serving| CheckResponse::from(serving).encode_to_vec())
}

/// Answer of List, serialized.
pub fn list(source: &dyn HealthSource) -> Vec<u8> {
    let statuses = source.list().into_iter();
    let statuses = statuses
        .map(|(service, serving)| (service, serving.into()))
        .collect();
    ListResponse { statuses }.encode_to_vec()
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
        Some(CheckResponse::from(now).encode_to_vec())
    }
}

#[cfg(test)]
#[path = "health/health_tests.rs"]
mod tests;
