use serde_json::{Value, json};

use super::*;
use crate::balance::Outcome;
use crate::config::StateConfig;
use crate::error::{Error, ErrorKind};
use crate::proxy::cluster::Need;
use crate::proxy::route::VersionUse;
use crate::proxy::route_key::RouteKey;

pub(crate) fn shared() -> Shared {
    let upstream = json!({
        "route_scan_limit_bytes": 1 << 20, "max_retry_bytes": 1 << 20, "connect_timeout_ms": 100,
        "stream_window_bytes": 65535, "max_unread_bytes": 1 << 20,
        "max_connections_per_endpoint": 1, "keepalive_ms": 0, "keepalive_timeout_ms": 0,
    });
    let config = json!({
        "listen": ["127.0.0.1:0"], "admin": null, "workers": 1, "expose_endpoints": false, "admin_methods": false, "owns_models": false,
        "access_log": null, "latency_buckets_ms": [1.0], "limits": crate::testing::limits(), "upstream": upstream,
        "uris": crate::testing::uris(),
    });
    let config = serde_json::from_value(config).expect("a whole configuration");
    let reflection = Reflection::new(&[], &[]).expect("nothing to offer");
    Shared::new(config, reflection).expect("no access log to open")
}

fn cluster(name: &str, endpoints: &[(&str, u32)]) -> Value {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(address, weight)| json!({"address": address, "weight": weight}))
        .collect();
    json!({
        "name": name, "policy": "dwrr", "endpoints": endpoints, "timeout_ms": 1000, "attempt_timeout_ms": null, "priority": null,
        "health_check": {"enabled": true, "interval_ms": 5000, "timeout_ms": 1000, "service": ""},
        "stream_idle_timeout_ms": 1000, "max_attempts": 2, "idempotent": true, "hedge": false, "hedge_budget_ratio": 0.05, "retry_codes": ["UNAVAILABLE"],
        "failure_codes": {"tfs": [], "seldon": [], "oip": []}, "max_in_flight": 10, "retry_budget_ratio": 0.2,
        "retry_budget_per_second": 10.0, "retry_budget_cap": 100.0, "restart_wait_ms": 0, "unloaded": null,
        "compare_in_flight": true, "avoid_slow": true, "eject": true, "admit_by_deadline": true,
        "use_load_reports": true, "slow_start_ms": 3000, "slow_start_new_ms": 10_000,
        "max_in_flight_per_endpoint": null,
    })
}

fn state(clusters: &[Value], models: Value) -> StateConfig {
    let document = json!({"clusters": clusters, "models": models, "default_cluster": null});
    serde_json::from_value(document).expect("a whole state")
}

fn model(name: &str, split: &[(&str, u32)]) -> Value {
    let split: Vec<_> = split
        .iter()
        .map(|(cluster, weight)| json!({"cluster": cluster, "weight": weight}))
        .collect();
    json!({"name": name, "split": split, "versions": {}, "labels": {}, "pass_through": true})
}

fn key(model: &str) -> RouteKey {
    RouteKey {
        model: Some(model.to_owned()),
        ..RouteKey::default()
    }
}

#[test]
fn a_reload_keeps_clusters_endpoints_learned_weights_and_statistics() {
    let shared = shared();
    let models = json!([model("m", &[("a", 1)])]);
    let first = [("127.0.0.1:1", 1), ("127.0.0.1:2", 1)];
    shared
        .apply(&state(&[cluster("a", &first)], models.clone()))
        .expect("good");
    let before = shared.state.load_full();
    let cluster_before = before.clusters[0].clone();
    let endpoint = cluster_before.endpoints()[0].0.clone();
    let address = endpoint.address.text.clone();
    cluster_before
        .lease(endpoint.clone(), &Need::default())
        .expect("it is there")
        .finish(Outcome::Hard, false, None, Instant::now().into());

    let second = [("127.0.0.1:3", 1), (&*address, 2)];
    shared
        .apply(&state(&[cluster("a", &second)], models))
        .expect("good");
    let after = shared.state.load_full();

    assert!(Arc::ptr_eq(&cluster_before, &after.clusters[0]));
    let weights = after.clusters[0].endpoints();
    let kept = weights.iter().find(|(one, ..)| Arc::ptr_eq(one, &endpoint));
    let (_, weight, view) = kept.expect("the endpoint is the same object");
    assert_eq!(
        (*weight, view.effective_weight),
        (2, 256),
        "half of its new full weight"
    );
    let stats = |state: &State| state.routes.models["m"].stats.clone();
    assert!(Arc::ptr_eq(&stats(&before), &stats(&after)));
}

#[test]
fn a_wrong_state_is_refused_whole_with_its_place() {
    let shared = shared();
    let good = cluster("a", &[("127.0.0.1:1", 1)]);
    shared
        .apply(&state(
            std::slice::from_ref(&good),
            json!([model("m", &[("a", 1)])]),
        ))
        .expect("good");
    let with = |name: &str, value: Value| {
        let mut cluster = good.clone();
        cluster[name] = value;
        vec![cluster]
    };
    let cases: Vec<(Vec<Value>, Value, &str)> = vec![
        (
            vec![good.clone(), good.clone()],
            json!([]),
            "cluster a appears twice",
        ),
        (
            vec![good.clone()],
            json!([model("m", &[("b", 1)])]),
            "b is not a cluster",
        ),
        (
            with("priority", json!("urgent")),
            json!([]),
            "cluster a: priority urgent is not high, normal or low",
        ),
        (
            with("policy", json!("rr")),
            json!([]),
            "unknown policy rr; known: dwrr, p2c, ",
        ),
        (with("retry_codes", json!(["NOPE"])), json!([]), "NOPE"),
        (vec![cluster("a", &[("nowhere", 1)])], json!([]), "nowhere"),
        (
            vec![cluster("a", &[("127.0.0.1:1", 0)])],
            json!([]),
            "weight 0 of 127.0.0.1:1",
        ),
        (
            vec![cluster("a", &[("127.0.0.1:1", 1), ("127.0.0.1:1", 1)])],
            json!([]),
            "appears twice",
        ),
    ];
    for (clusters, models, text) in cases {
        let error = shared.apply(&state(&clusters, models)).expect_err(text);
        assert!(error.contains(text), "{error}");
        assert!(shared.state.load().routes.models.contains_key("m"));
        assert_eq!(shared.applied.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_split_keeps_close_to_its_weights_from_the_first_call_on() {
    let shared = shared();
    let clusters = [cluster("a", &[]), cluster("b", &[])];
    let models = json!([model("m", &[("a", 95), ("b", 5)])]);
    shared.apply(&state(&clusters, models)).expect("good");
    let state = shared.state.load_full();
    let mut to_b = 0_i32;
    for call in 1..=2000_i32 {
        let route = state.routes.find(&key("m"), false).expect("routed");
        to_b += i32::from(&*route.cluster.name == "b");
        let due = f64::from(call) * 0.05;
        assert!((f64::from(to_b) - due).abs() < 3.0, "{to_b} of {call}");
    }
}

#[test]
fn a_share_whose_endpoints_are_all_dead_goes_to_the_heaviest_of_the_others() {
    let shared = shared();
    let clusters = [
        cluster("a", &[("127.0.0.1:1", 1)]),
        cluster("b", &[("127.0.0.1:2", 1)]),
        cluster("c", &[("127.0.0.1:3", 1)]),
        cluster("empty", &[]),
    ];
    let models = json!([model("m", &[("a", 1), ("b", 2), ("c", 6), ("empty", 1)])]);
    shared.apply(&state(&clusters, models)).expect("good");
    let state = shared.state.load_full();
    let addresses: Vec<_> = state.clusters[..3]
        .iter()
        .map(|cluster| cluster.endpoints()[0].0.address.clone())
        .collect();
    let counts = || {
        let mut counts = [0_u32; 4];
        for _ in 0..1000 {
            let route = state.routes.find(&key("m"), false).expect("routed");
            let place = ["a", "b", "c", "empty"]
                .iter()
                .position(|name| *name == &*route.cluster.name);
            counts[place.expect("one of them")] += 1;
        }
        counts
    };
    let near = |counts: [u32; 4], wanted: [u32; 4]| {
        for (count, wanted) in counts.into_iter().zip(wanted) {
            assert!(count.abs_diff(wanted) <= 5, "{counts:?}");
        }
    };
    near(counts(), [100, 200, 700, 0]); // nothing has been tried yet: each may turn out live
    for address in &addresses {
        address.connected();
    }
    near(counts(), [100, 200, 700, 0]);
    addresses[2].disconnected();
    addresses[2].connect_failed(String::new());
    near(counts(), [100, 900, 0, 0]);
    addresses[2].connected();
    near(counts(), [100, 200, 700, 0]);
}

#[test]
fn an_unknown_model_is_told_the_nearest_known_names() {
    let shared = shared();
    let models = json!([
        model("digits", &[("a", 1)]),
        model("ranking", &[("a", 1)]),
        model("69", &[("a", 1)])
    ]);
    shared
        .apply(&state(&[cluster("a", &[])], models))
        .expect("good");
    let state = shared.state.load_full();
    let error = state
        .routes
        .find(&key("digit"), false)
        .err()
        .expect("not routed");
    assert_eq!(error.kind, ErrorKind::NoRoute);
    assert!(error.message.contains("nearest known: digits"), "{error}");
    let error = state
        .routes
        .find(&RouteKey::default(), false)
        .err()
        .expect("not routed");
    assert_eq!(error.kind, ErrorKind::BadRouteKey);
    assert!(error.message.contains("x-model"), "{error}");
    assert!(state.routes.find(&key("textcnn-69"), false).is_err());
    let route = state
        .routes
        .find(&key("textcnn-69"), true)
        .expect("by its task id");
    assert_eq!(route.model.map(|model| &*model.name), Some("69"));
}

#[test]
fn a_routed_version_wins_and_others_pass_through() {
    let shared = shared();
    let clusters = [cluster("a", &[]), cluster("b", &[])];
    let mut routed = model("m", &[("a", 1)]);
    routed["versions"] = json!({"3": [{"cluster": "b", "weight": 1}]});
    shared
        .apply(&state(&clusters, json!([routed])))
        .expect("good");
    let state = shared.state.load_full();
    let cluster_of = |version: &str| {
        let key = RouteKey {
            version: Some(version.to_owned()),
            ..key("m")
        };
        state
            .routes
            .find(&key, false)
            .expect("routed")
            .cluster
            .name
            .to_string()
    };
    assert_eq!(
        (cluster_of("3"), cluster_of("4")),
        ("b".to_owned(), "a".to_owned())
    );
}

/// A model with version 3 at b, version 4 at c, the label stable for version 3, and calls without a version at a.
fn released(pass_through: bool) -> Shared {
    let shared = shared();
    let clusters = [cluster("a", &[]), cluster("b", &[]), cluster("c", &[])];
    let mut routed = model("m", &[("a", 1)]);
    routed["versions"] = json!({
        "3": [{"cluster": "b", "weight": 1}], "4": [{"cluster": "c", "weight": 1}],
    });
    routed["labels"] = json!({"stable": "3", "old": "1"});
    routed["pass_through"] = json!(pass_through);
    shared
        .apply(&state(&clusters, json!([routed, model("n", &[("a", 1)])])))
        .expect("good");
    shared
}

/// The cluster that a call for a version or label of m goes to, and the version that it must ask for there.
fn routed(shared: &Shared, asked: Option<&str>) -> Result<(String, Option<String>), Error> {
    let state = shared.state.load_full();
    let key = RouteKey {
        version: asked.map(str::to_owned),
        ..key("m")
    };
    let route = state.routes.find(&key, false)?;
    Ok((
        route.cluster.name.to_string(),
        route.version.map(str::to_owned),
    ))
}

#[test]
fn a_label_leads_to_the_version_that_it_stands_for_and_must_be_asked_for_as_that() {
    for pass_through in [true, false] {
        let shared = released(pass_through);
        let to = |cluster: &str, version: Option<&str>| {
            Some((cluster.to_owned(), version.map(str::to_owned)))
        };
        assert_eq!(routed(&shared, Some("stable")).ok(), to("b", Some("3")));
        assert_eq!(routed(&shared, Some("4")).ok(), to("c", None));
        assert_eq!(routed(&shared, None).ok(), to("a", None));
        let unrouted = routed(&shared, Some("old")).ok();
        assert_eq!(unrouted, pass_through.then(|| to("a", Some("1"))).flatten());
    }
}

#[test]
fn a_version_without_a_route_goes_nowhere_unless_it_may_pass_through() {
    assert_eq!(routed(&released(true), Some("5")).expect("routed").0, "a");
    let shared = released(false);
    let mut config = state(&[cluster("a", &[])], json!([]));
    let error = routed(&shared, Some("5")).expect_err("not routed");
    assert_eq!(error.kind, ErrorKind::NoRoute);
    let said = "model m has no route for version 5; routed versions: 3, 4; \
                labels: old (version 1), stable (version 3)";
    assert_eq!(error.message, said);

    // The default cluster, too, would be another version's.
    let mut strict = model("m", &[("a", 1)]);
    strict["pass_through"] = json!(false);
    config.models = vec![serde_json::from_value(strict).expect("a model")];
    config.default_cluster = Some("a".to_owned());
    shared.apply(&config).expect("good");
    let error = routed(&shared, Some("5")).expect_err("not routed");
    assert!(error.message.contains("routed versions: (none)"), "{error}");
    assert!(routed(&shared, None).is_ok());
}

#[test]
fn what_a_version_does_is_known_by_name_and_by_task_id() {
    let shared = released(true);
    let state = shared.state.load_full();
    let uses = |model: &str, asked| {
        let VersionUse { matters, is_alias } = state.routes.version_use(Some(model), asked, true);
        (matters, is_alias)
    };
    assert_eq!(uses("m", None), (true, false));
    assert_eq!(uses("m", Some("3")), (true, false));
    assert_eq!(uses("m", Some("stable")), (true, true));
    assert_eq!(uses("n", Some("stable")), (false, false));
    assert_eq!(uses("unknown", Some("stable")), (false, false));

    let mut numbered = model("69", &[("a", 1)]);
    numbered["pass_through"] = json!(false);
    shared
        .apply(&self::state(&[cluster("a", &[])], json!([numbered])))
        .expect("good");
    let state = shared.state.load_full();
    let matters = |with_task_id| {
        let uses = state.routes.version_use(Some("x-69"), None, with_task_id);
        uses.matters
    };
    assert!(matters(true) && !matters(false));
}

#[test]
fn a_label_that_could_be_a_version_is_refused() {
    let shared = shared();
    for label in ["3", "-1", "routed"] {
        let mut labelled = model("m", &[("a", 1)]);
        labelled["versions"] = json!({"routed": [{"cluster": "a", "weight": 1}]});
        labelled["labels"] = json!({label: "7"});
        let error = shared
            .apply(&state(&[cluster("a", &[])], json!([labelled])))
            .expect_err("refused");
        assert!(
            error.contains(&format!("label {label} is a version")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn calls_that_are_given_up_while_they_wait_for_a_connection_leave_room_for_others_to_wait() {
    let shared = shared();
    let models = json!([model("m", &[("a", 1)])]);
    shared
        .apply(&state(&[cluster("a", &[("127.0.0.1:1", 1)])], models))
        .expect("good");
    let cluster = shared.state.load().clusters[0].clone();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    // More than may wait at one time.
    for given_up in 0..2000 {
        let wait = cluster.wait_live(std::time::Duration::from_secs(60), std::future::pending());
        let wait = std::pin::pin!(wait);
        assert!(wait.poll(&mut context).is_pending(), "after {given_up}");
    }
}
