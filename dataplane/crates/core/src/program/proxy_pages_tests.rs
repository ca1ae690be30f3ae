use serde_json::json;

use super::*;
use crate::proxy::state::tests::shared;

#[test]
fn ready_names_each_source_that_cannot_be_read_with_the_age_of_its_state() {
    let shared = shared();
    assert_eq!(remarks(&shared, SystemTime::now()), [""; 0]);
    shared.set_control_status(json!({"sources": [
        {"name": "nodefile a", "ok": true, "last_good_unix_s": 900.0},
        {"name": "zookeeper b", "ok": false, "error": "gone", "last_good_unix_s": 900.5},
        {"name": "dns\nc", "ok": false, "error": "gone", "last_good_unix_s": 0},
    ]}));
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_100);
    assert_eq!(
        remarks(&shared, now),
        [
            "source dns c has never been read: its `fallback` is used",
            "source zookeeper b cannot be read: its last good state is 100 s old",
        ]
    );
}

#[test]
fn sources_are_read_from_what_the_control_plane_says_however_little_that_is() {
    for nothing in [
        json!(null),
        json!({}),
        json!({"sources": 3}),
        json!({"sources": [1, {"ok": true}]}),
    ] {
        assert_eq!(sources(&nothing), [], "{nothing}");
    }
    let control = json!({"sources": [
        {"name": "b", "ok": true, "last_good_unix_s": 7, "skipped": 2},
        {"name": "a"},
        {"name": "b", "ok": false, "last_good_unix_s": 5.5, "skipped": 1},
    ]});
    let source = |name: &str, is_ok, last_good_unix_s, skipped| SourceView {
        name: name.to_owned(),
        is_ok,
        last_good_unix_s,
        skipped,
    };
    assert_eq!(
        sources(&control),
        [
            source("a", false, None, 0),
            source("b", false, Some(5.5), 2)
        ]
    );
}

#[test]
fn versions_in_quarantine_are_read_from_what_the_control_plane_says_however_little_that_is() {
    for nothing in [
        json!(null),
        json!({"folders": 3}),
        json!({"folders": [1, {"name": "m", "quarantined": "x"}]}),
    ] {
        assert_eq!(quarantined(&nothing), [], "{nothing}");
    }
    let control = json!({"folders": [
        {"name": "m", "quarantined": [
            {"version": 2, "step": "golden"},
            {"version": null, "step": "find"},
            {"version": 2, "step": "golden"},
        ]},
        {"name": "n", "quarantined": []},
    ]});
    let view = |version: &str, step: &str| QuarantineView {
        model: "m".to_owned(),
        version: version.to_owned(),
        step: step.to_owned(),
    };
    assert_eq!(
        quarantined(&control),
        [view("", "find"), view("2", "golden")]
    );
}
