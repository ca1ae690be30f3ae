//! An overload ends when its cause does: what it leaves behind (queues, weights, ejections, retries) keeps nothing going.

use dl_simulate::{Order, simulate};
use serde_json::json;

const DEADLINE_S: f64 = 0.5;
const END_S: f64 = 14.0;
/// Calls a second that the endpoints can answer: 8 with 4 slots, 20 ms each.
const CAPACITY: f64 = 1600.0;
const RATE: f64 = 1040.0;

/// (calls, errors) that came after the overload, two deadlines, and the time in which what waited is done.
fn after(policy: &str, factor: f64) -> Vec<(usize, usize)> {
    let order = json!({
        "scenario": {
            "duration_s": 24, "warmup_s": 1, "deadline_ms": 1e3 * DEADLINE_S,
            "endpoints": {"count": 8, "slots": 4},
            "service": {"law": "lognormal", "mean_ms": 20, "sigma": 0.5},
            "load": {"rate": RATE},
            "faults": [{"kind": "overload", "factor": factor, "from_s": 4, "to_s": END_S}],
        },
        "policies": [policy],
        "seeds": [1, 2, 3, 4],
    });
    let order: Order = serde_json::from_value(order).expect("an order");
    // No call waits longer than its deadline, so that no more wait than are answered in that time.
    let drain = DEADLINE_S * CAPACITY / (CAPACITY - RATE);
    let from = END_S + 2.0 * DEADLINE_S + drain;
    let reports = simulate(&order).expect("it runs");
    let late = reports.iter().map(|report| {
        let course = &report.course;
        let first = (from / course.bin_s).ceil() as usize;
        (
            course.calls[first..].iter().sum(),
            course.errors[first..].iter().sum(),
        )
    });
    late.collect()
}

#[test]
fn after_an_overload_errors_end_within_two_deadlines_and_the_time_to_drain() {
    for factor in [1.3, 2.0, 4.0, 10.0] {
        for (calls, errors) in after("dwrr", factor) {
            assert!(calls > 5000, "{calls} calls");
            assert!(
                errors * 1000 < calls,
                "{errors} of {calls} calls failed after {factor} times the load"
            );
        }
    }
}
