//! Methods that the access service answers itself: health, reflection, and what OIP asks of a server.

use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use serde_json::Value;
use tokio::sync::watch;

use super::caller::Who;
use super::method::{self, Kind, Method};
use super::route::Model;
use super::state::Shared;
use super::worker::Worker;
use crate::call::responder::Responder;
use crate::callers::allow::Allow;
use crate::code::Code;
use crate::headers::Headers;
use crate::local::call::LocalCall;
use crate::local::health::{HealthSource, Serving};
use crate::local::oip::{self, Inventory, ModelIndex};
use crate::local::services::LocalServices;
use crate::net::drain::Phase;
use crate::net::stream::Body;

/// Health and inventory as the routing state gives them. Weak: the process's state owns what owns this.
struct View {
    shared: Weak<Shared>,
}

/// The models that a caller may do anything with.
struct Seen {
    all: Arc<dyn Inventory>,
    allow: Arc<Allow>,
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

/// What local methods are answered from.
pub fn local_services(shared: &Arc<Shared>) -> LocalServices {
    let view = Arc::new(View {
        shared: Arc::downgrade(shared),
    });
    LocalServices {
        health: view.clone(),
        inventory: view,
        reflection: shared.reflection.clone(),
    }
}

/// Answer one call of a method of kind `local`; return the code that it ended with.
pub async fn serve(
    worker: &Rc<Worker>,
    method: &'static Method,
    (headers, body): (&Headers, Body),
    responder: Responder,
    who: &Who,
) -> Code {
    let started = Instant::now();
    let shared = &worker.shared;
    let idle = Duration::from_millis(shared.config.limits.body_timeout_ms);
    let call = LocalCall::new(headers, body, responder, idle);
    let code = match who.check(method) {
        Ok(()) => answer(worker, &method.path, call, who).await,
        Err(error) => {
            shared.server.stats.errors.add(error.kind);
            call.fail(error.into())
        }
    };
    shared.unrouted.record(method.id, code, started.elapsed());
    who.count(code);
    code
}

/// Answer a call as far as its caller may see what there is.
pub async fn answer(worker: &Worker, path: &str, call: LocalCall, who: &Who) -> Code {
    let Some(identity) = who.known() else {
        return worker.local.serve(path, call).await;
    };
    let seen = Seen {
        all: worker.local.inventory.clone(),
        allow: identity.caller().allow.clone(),
    };
    let local = LocalServices {
        health: worker.local.health.clone(),
        inventory: Arc::new(seen),
        reflection: worker.local.reflection.clone(),
    };
    local.serve(path, call).await
}

// === impl View, Seen ===

impl Inventory for Seen {
    fn is_ready(&self) -> bool {
        self.all.is_ready()
    }

    fn models(&self) -> Vec<ModelIndex> {
        let mut models = self.all.models();
        models.retain(|model| self.allow.sees(&model.name));
        models
    }
}

impl Inventory for View {
    fn is_ready(&self) -> bool {
        let shared = self.shared.upgrade();
        shared.is_some_and(|shared| shared.ready().is_ok())
    }

    /// Every routed model, by its own name: with each version that has a route, else without one. Then the folders of
    /// which no model could be made.
    fn models(&self) -> Vec<ModelIndex> {
        let Some(shared) = self.shared.upgrade() else {
            return Vec::new();
        };
        let control = shared.control_status();
        let state = shared.state.load();
        let mut entries = Vec::new();
        let models = state.routes.models.values();
        for model in models.filter(|model| model.alias_of.is_none()) {
            let mut splits: Vec<_> = model.routed_versions().collect();
            if splits.is_empty() {
                splits.extend(model.split.iter().map(|split| ("", split)));
            }
            for (version, split) in splits {
                let reason = (!split.is_live()).then(|| why_not(&control, &model.name, version));
                entries.push(oip::entry(&model.name, version, reason.as_deref()));
            }
        }
        for folder in folders(&control) {
            let name = folder["name"].as_str().unwrap_or_default();
            if !state.routes.models.contains_key(name) {
                entries.push(oip::entry(name, "", Some(&why_not(&control, name, ""))));
            }
        }
        entries
    }
}

impl HealthSource for View {
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
            .is_none_or(|shared| shared.server.drain.phase() != Phase::Running)
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

/// What the control plane says of the model folders; none where the models are not its own.
fn folders(control: &Value) -> impl Iterator<Item = &Value> {
    control["folders"].as_array().into_iter().flatten()
}

/// Why a version has no live endpoint, as far as the control plane knows.
fn why_not(control: &Value, name: &str, version: &str) -> String {
    let unknown = || "no live endpoint".to_owned();
    let Some(folder) = folders(control).find(|folder| folder["name"] == name) else {
        return unknown();
    };
    let mut quarantined = folder["quarantined"].as_array().into_iter().flatten();
    let of_version = |row: &&Value| {
        row["version"].is_null()
            || row["version"].as_u64().map(|it| it.to_string()).as_deref() == Some(version)
    };
    if let Some(row) = quarantined.find(of_version) {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        return format!("{}: {}; {}", text("step"), text("reason"), text("remedy"));
    }
    match folder["away"].as_str() {
        Some(away) if !away.is_empty() => format!("not loaded: {away}"),
        _ if folder["state"] == "loading" => "loading".to_owned(),
        _ => unknown(),
    }
}

fn is_live(model: &Model) -> bool {
    let splits = model.split.iter().chain(model.versions.values());
    splits.into_iter().any(|split| split.is_live())
}

fn serving(is_serving: bool) -> Serving {
    if is_serving {
        Serving::Serving
    } else {
        Serving::NotServing
    }
}
