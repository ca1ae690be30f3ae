//! A fingerprint of what /status says beside its counters: a page that has it need not ask again while it stays.

use std::hash::{Hash, Hasher};
use std::sync::atomic::Ordering;

use rustc_hash::FxHasher;
use serde_json::Value;

use crate::balance::State;
use crate::proxy::state::Shared;

/// Numbers in what the control plane says that go on changing while nothing happens, by how their names end.
const MOVING: [&str; 4] = ["_bytes", "_s", "_ms", "requests"];
/// Weights change for the reader by so many 256ths.
const WEIGHT_STEP: u32 = 16;

/// Different whenever states, health, weights, routes or what the control plane says are.
pub fn fingerprint(shared: &Shared) -> String {
    let mut hasher = FxHasher::default();
    shared.ready().is_ok().hash(&mut hasher);
    shared.applied.load(Ordering::Relaxed).hash(&mut hasher);
    for cluster in &shared.state.load().clusters {
        for (endpoint, _, view) in cluster.endpoints() {
            let state = match view.state {
                State::Ejected { .. } => 1_u8,
                State::HalfOpen { .. } => 2,
                State::Warm => 3,
            };
            state.hash(&mut hasher);
            view.ejections.hash(&mut hasher);
            view.health.name().hash(&mut hasher);
            endpoint.address.is_live().hash(&mut hasher);
            (view.effective_weight / WEIGHT_STEP).hash(&mut hasher);
            (view.pick_weight / WEIGHT_STEP).hash(&mut hasher);
        }
    }
    shared.with_control_status(|control| said(control, &mut hasher));
    format!("{:016x}", hasher.finish())
}

fn said(value: &Value, hasher: &mut FxHasher) {
    match value {
        Value::Null => 0_u8.hash(hasher),
        Value::Bool(set) => set.hash(hasher),
        Value::Number(number) => number.hash(hasher),
        Value::String(text) => text.hash(hasher),
        Value::Array(items) => {
            items.len().hash(hasher);
            for item in items {
                said(item, hasher);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let is_moving = field.is_number() && MOVING.iter().any(|end| name.ends_with(end));
                if !is_moving {
                    name.hash(hasher);
                    said(field, hasher);
                }
            }
        }
    }
}
