//! Methods that the access service answers itself: health, reflection, and what OIP asks of a server.

use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use rustc_hash::FxHashSet;
use tokio::sync::watch;

use super::method::{self, Kind, Method};
use super::route::Model;
use super::state::{Shared, Worker};
use crate::admin::grpc::{LocalCall, LocalServices, MAX_REQUEST_BYTES, serve_local};
use crate::admin::health::{HealthSource, Serving};
use crate::admin::reflection::Reflection;
use crate::grpc::metadata;
use crate::grpc::status::Code;
use crate::net::drain::Phase;

/// inference.ServerLiveResponse and inference.ServerReadyResponse.
#[derive(Message)]
struct Flag {
    #[prost(bool, tag = "1")]
    is_set: bool,
}

/// inference.ServerMetadataResponse.
#[derive(Message)]
struct ServerMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, repeated, tag = "3")]
    extensions: Vec<String>,
}

/// inference.RepositoryIndexRequest.
#[derive(Message)]
struct IndexRequest {
    #[prost(bool, tag = "2")]
    only_ready: bool,
}

/// inference.RepositoryIndexResponse.
#[derive(Message)]
struct Index {
    #[prost(message, repeated, tag = "1")]
    models: Vec<ModelIndex>,
}

#[derive(Message)]
struct ModelIndex {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, tag = "3")]
    state: String,
    #[prost(string, tag = "4")]
    reason: String,
}

/// Health as the routing state gives it. Weak: the process's state owns what owns this.
struct Health {
    shared: Weak<Shared>,
}

/// Full names of all services that are offered, for reflection.
pub fn services() -> Vec<&'static str> {
    let mut seen = FxHashSet::default();
    method::all()
        .iter()
        .filter_map(|method| method.path.trim_start_matches('/').split_once('/'))
        .map(|(service, _)| service)
        .filter(|service| seen.insert(*service))
        .collect()
}

/// What health and reflection answer from.
pub fn local_services(shared: &Arc<Shared>, reflection: Arc<Reflection>) -> LocalServices {
    LocalServices {
        health: Arc::new(Health {
            shared: Arc::downgrade(shared),
        }),
        reflection,
    }
}

/// Answer one call of a method of kind `local`; return the code that it ended with.
pub async fn serve(
    worker: &Rc<Worker>,
    method: &'static Method,
    headers: HeaderMap,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    request_id: HeaderValue,
) -> Code {
    let started = Instant::now();
    let shared = &worker.shared;
    let mut extra = HeaderMap::with_capacity(2);
    extra.insert(metadata::X_REQUEST_ID, request_id);
    let idle = Duration::from_millis(shared.config.limits.body_timeout_ms);
    let call = LocalCall::new(&headers, body, respond, extra, MAX_REQUEST_BYTES, idle);
    let code = match method.path.as_str() {
        "/inference.GRPCInferenceService/ServerLive" => {
            call.unary(|_| Ok(Flag { is_set: true }.encode_to_vec()))
                .await
        }
        "/inference.GRPCInferenceService/ServerReady" => {
            call.unary(|_| {
                Ok(Flag {
                    is_set: shared.ready().is_ok(),
                }
                .encode_to_vec())
            })
            .await
        }
        "/inference.GRPCInferenceService/ServerMetadata" => {
            call.unary(|_| Ok(server_metadata().encode_to_vec())).await
        }
        "/inference.GRPCInferenceService/RepositoryIndex" => {
            // A request that does not parse asks for nothing special.
            let index = |request: Bytes| {
                shared.index(IndexRequest::decode(request).is_ok_and(|request| request.only_ready))
            };
            call.unary(|request| Ok(index(request).encode_to_vec()))
                .await
        }
        path => serve_local(path, call, &worker.local).await,
    };
    shared.unrouted.record(method.id, code, started.elapsed());
    code
}

fn server_metadata() -> ServerMetadata {
    ServerMetadata {
        name: "dl-inference".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: vec!["model_repository".to_owned()],
    }
}

impl Shared {
    /// Every routed model, with each version that has a route of its own.
    fn index(&self, only_ready: bool) -> Index {
        let state = self.state.load();
        let mut models = Vec::new();
        for model in state.routes.models.values() {
            let versions = model
                .versions
                .iter()
                .map(|(version, split)| (&**version, split));
            for (version, split) in model.split.iter().map(|split| ("", split)).chain(versions) {
                let is_live = split.targets().any(|(cluster, _)| cluster.is_live());
                models.push(ModelIndex {
                    name: model.name.to_string(),
                    version: version.to_owned(),
                    state: if is_live { "READY" } else { "UNAVAILABLE" }.to_owned(),
                    reason: if is_live {
                        String::new()
                    } else {
                        "no live endpoint".to_owned()
                    },
                });
            }
        }
        models.retain(|model| !only_ready || model.state == "READY");
        models.sort_unstable_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Index { models }
    }
}

// === impl Health ===

impl HealthSource for Health {
    fn status(&self, service: &str) -> Option<Serving> {
        let shared = self.shared.upgrade()?;
        let is_ready = shared.ready().is_ok();
        if service.is_empty() || is_service(service) {
            return Some(serving(is_ready));
        }
        let state = shared.state.load();
        state
            .routes
            .models
            .get(service)
            .map(|model| serving(is_ready && is_live(model)))
    }

    fn list(&self) -> Vec<(String, Serving)> {
        let Some(shared) = self.shared.upgrade() else {
            return Vec::new();
        };
        let is_ready = shared.ready().is_ok();
        let state = shared.state.load();
        let models = state
            .routes
            .models
            .values()
            .map(|model| (model.name.to_string(), serving(is_ready && is_live(model))));
        std::iter::once((String::new(), serving(is_ready)))
            .chain(models)
            .collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        // Without its process nothing changes any more: a receiver whose sender is gone ends the stream.
        self.shared
            .upgrade()
            .map_or_else(|| watch::channel(0).1, |shared| shared.health.subscribe())
    }

    fn is_draining(&self) -> bool {
        self.shared
            .upgrade()
            .is_none_or(|shared| shared.drain.phase() != Phase::Running)
    }
}

/// Whether a caller may ask for the health of this gRPC service by its full name.
fn is_service(name: &str) -> bool {
    let of_service = |method: &Method| {
        method
            .path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('/'))
    };
    method::all()
        .iter()
        .any(|method| method.kind != Kind::Local && of_service(method))
}

fn is_live(model: &Model) -> bool {
    let splits = model.split.iter().chain(model.versions.values());
    splits
        .flat_map(|split| split.targets())
        .any(|(cluster, _)| cluster.is_live())
}

fn serving(is_serving: bool) -> Serving {
    if is_serving {
        Serving::Serving
    } else {
        Serving::NotServing
    }
}
