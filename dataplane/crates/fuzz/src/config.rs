//! The documents that the control plane hands over: refused with a reason or applied whole, whatever they say.

use std::sync::{LazyLock, Mutex, PoisonError};

use dl_core::{Proxy, ProxyConfig, StateConfig};
use serde_json::{Value, json};

use crate::input::Input;

/// What `access` gives, for reflection.
const DESCRIPTORS: &[u8] = include_bytes!("../../../../dl_inference/_wire.binpb");

/// A whole configuration, as the control plane writes it; and a whole state.
static CONFIG: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "listen": ["127.0.0.1:0"], "admin": null, "workers": 1, "expose_endpoints": false, "admin_methods": false, "owns_models": false,
        "access_log": null, "latency_buckets_ms": [1.0, 10.0],
        "limits": {
            "max_message_bytes": 1 << 20, "max_metadata_bytes": 65536, "max_connection_bytes": 4 << 20, "max_metadata_fields": 128, "max_streams": 100,
            "max_connections": 10_000, "max_connections_per_ip": 10_000, "max_in_flight": 100,
            "max_held_bytes": 1 << 20, "header_timeout_ms": 1000, "body_timeout_ms": 5000,
            "connection_idle_timeout_ms": 1000, "max_connection_age_ms": 1000, "max_connection_age_grace_ms": 1000,
            "frame_credit": 1000, "frame_credit_per_frame": 10, "stream_window_bytes": 65535,
            "connection_window_bytes": 65535, "max_frame_bytes": 16384, "tcp_user_timeout_ms": 0, "cors_origins": [],
        },
        "upstream": {
            "route_scan_limit_bytes": 1 << 20, "max_retry_bytes": 1 << 20, "stream_window_bytes": 65535,
            "max_unread_bytes": 1 << 20, "connect_timeout_ms": 100, "max_connections_per_endpoint": 1,
            "keepalive_ms": 0, "keepalive_timeout_ms": 0,
        },
        "uris": {"hosts": ["a.test"], "networks": ["10.0.0.0/8"], "types": [], "max_bytes": 1, "timeout_ms": 1},
    })
});
static STATE: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "clusters": [cluster("a"), cluster("b")],
        "models": [{
            "name": "m", "alias_of": null, "split": [{"cluster": "a", "weight": 9}, {"cluster": "b", "weight": 1}],
            "versions": {"2": [{"cluster": "b", "weight": 1}]}, "labels": {"stable": "2"}, "pass_through": true,
        }],
        "default_cluster": "a",
    })
});

/// Made once, which takes longer than all else; each run begins with an empty state.
static PROXY: LazyLock<Mutex<Proxy>> = LazyLock::new(|| {
    let config = serde_json::from_value(CONFIG.clone());
    let proxy = config.map(|config| Proxy::new(config, DESCRIPTORS));
    match proxy {
        Ok(Ok(proxy)) => Mutex::new(proxy),
        Ok(Err(error)) => panic!("{error}"),
        Err(error) => panic!("{error}"),
    }
});

fn cluster(name: &str) -> Value {
    json!({
        "name": name, "policy": "dwrr", "hash_key": null, "compare_in_flight": true, "avoid_slow": true, "eject": true,
        "admit_by_deadline": true, "use_load_reports": true, "slow_start_ms": 3000, "slow_start_new_ms": 10_000,
        "max_in_flight_per_endpoint": null,
        "endpoints": [{"address": "127.0.0.1:1", "weight": 1}, {"address": "unix:/run/e", "weight": 2}],
        "timeout_ms": 1000, "attempt_timeout_ms": 100, "priority": "low", "stream_idle_timeout_ms": 1000, "max_attempts": 2,
        "idempotent": true, "hedge": false, "hedge_budget_ratio": 0.05,
        "health_check": {"enabled": true, "interval_ms": 5000, "timeout_ms": 1000, "service": ""},
        "retry_codes": ["UNAVAILABLE"], "failure_codes": {"tfs": ["INTERNAL"], "seldon": [], "oip": []},
        "max_in_flight": 10, "retry_budget_ratio": 0.2, "retry_budget_per_second": 10.0, "retry_budget_cap": 100.0, "restart_wait_ms": 0, "unloaded": null,
    })
}

/// Documents a line each if the first byte opens one; else edits of whole documents.
pub fn run(data: &[u8]) {
    let mut proxy = PROXY.lock().unwrap_or_else(PoisonError::into_inner);
    let empty = StateConfig {
        clusters: Vec::new(),
        models: Vec::new(),
        default_cluster: None,
    };
    assert_eq!(proxy.apply(&empty), Ok(()));
    if data.first() == Some(&b'{') {
        for text in data.split(|byte| *byte == b'\n') {
            if let Ok(state) = serde_json::from_slice::<StateConfig>(text) {
                apply(&mut proxy, &state);
            }
            let _ = serde_json::from_slice::<ProxyConfig>(text).map(start);
        }
        return;
    }
    let mut input = Input::new(data);
    while !input.is_empty() {
        let mut document = if input.byte().is_multiple_of(4) {
            CONFIG.clone()
        } else {
            STATE.clone()
        };
        for _ in 0..=input.byte() % 4 {
            edit(&mut document, &mut input);
        }
        if document.get("listen").is_some() {
            let _ = serde_json::from_value::<ProxyConfig>(document).map(start);
        } else if let Ok(state) = serde_json::from_value::<StateConfig>(document) {
            apply(&mut proxy, &state);
        }
    }
}

/// Start nothing: what binds and what opens files is left out.
fn start(mut config: ProxyConfig) {
    config.access_log = None;
    match Proxy::new(config, DESCRIPTORS) {
        Ok(proxy) => show(&proxy),
        Err(error) => assert!(!error.is_empty()),
    }
}

fn apply(proxy: &mut Proxy, state: &StateConfig) {
    if let Err(error) = proxy.apply(state) {
        assert!(!error.is_empty());
        // What was applied before is still there, and the next good one is taken.
        show(proxy);
        let whole = serde_json::from_value(STATE.clone()).map(|good| proxy.apply(&good));
        assert!(matches!(whole, Ok(Ok(()))), "{whole:?}");
    }
    show(proxy);
}

fn show(proxy: &Proxy) {
    let status = proxy.control().status();
    let status = serde_json::from_str::<Value>(&status);
    assert!(status.is_ok_and(|status| status.is_object()));
}

/// Replace, remove or repeat something.
fn edit(document: &mut Value, input: &mut Input<'_>) {
    let mut place = document;
    // Most are no deeper.
    for _ in 0..=input.byte() % 6 {
        let which = usize::from(input.byte());
        let length = match &*place {
            Value::Array(rows) => rows.len(),
            Value::Object(rows) => rows.len(),
            _ => break,
        };
        if length == 0 {
            break;
        }
        let next = match place {
            Value::Array(rows) => rows.get_mut(which % length),
            Value::Object(rows) => rows.values_mut().nth(which % length),
            _ => None,
        };
        // It is below the length.
        let Some(next) = next else { return };
        place = next;
    }
    match (input.byte() % 4, place) {
        (0, Value::Array(rows)) => rows.extend(rows.first().cloned()),
        (1, Value::Array(rows)) => drop(rows.pop()),
        (0, Value::Object(rows)) => {
            let key = String::from_utf8_lossy(input.take(4)).into_owned();
            rows.insert(key, scalar(input));
        }
        (1, Value::Object(rows)) => {
            let key = rows.keys().next().cloned();
            key.and_then(|key| rows.remove(&key));
        }
        (_, place) => *place = scalar(input),
    }
}

fn scalar(input: &mut Input<'_>) -> Value {
    match input.byte() % 20 {
        0 => Value::Null,
        1 => true.into(),
        2 => 0.into(),
        3 => 1.into(),
        4 => (-1).into(),
        5 => u64::MAX.into(),
        6 => u32::MAX.into(),
        7 => 65536.into(),
        8 => 1e308.into(),
        9 => (-0.5).into(),
        10 => json!([]),
        11 => json!({}),
        12 => NAMES[usize::from(input.byte()) % NAMES.len()].into(),
        13 => input.u64().into(),
        14 => Value::from(input.f64()),
        15 => json!([Value::from(input.f64()), Value::from(input.f64())]),
        _ => {
            let length = input.byte() % 32;
            String::from_utf8_lossy(input.take(length.into())).into()
        }
    }
}

/// Words that mean something somewhere.
const NAMES: [&str; 16] = [
    "",
    "a",
    "b",
    "2",
    "stable",
    "dl",
    "maglev",
    "p2c",
    "OK",
    "CANCELLED",
    "x-user",
    "unix:",
    "[::1]:1",
    "h:65536",
    "user@h:1",
    "h\u{e9}:1",
];
