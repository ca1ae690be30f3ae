//! Nobody is locked out: chance deals out calls of very different cost, and what it did to an endpoint is soon forgotten.

use dl_simulate::{Order, simulate};
use serde_json::json;

const WINDOW_S: f64 = 10.0;

/// Attempts at each of four equal endpoints, bin by bin, and a bin's width in seconds.
fn attempts(policy: &str, cost: u32) -> Vec<(Vec<Vec<u32>>, f64)> {
    let order = json!({
        "scenario": {
            "duration_s": 30, "warmup_s": 1,
            "endpoints": {"count": 4, "slots": 4},
            "service": {"law": "lognormal", "mean_ms": 5, "sigma": 0.5},
            // 70 % of what they can do.
            "load": {"rate": 0.7 * 16.0 / (0.005 * (0.95 + 0.05 * f64::from(cost)))},
            "classes": [
                {"name": "light", "share": 0.95, "cost": 1},
                {"name": "heavy", "share": 0.05, "cost": cost},
            ],
        },
        "policies": [policy],
        "seeds": [1, 2, 3],
    });
    let order: Order = serde_json::from_value(order).expect("an order");
    let reports = simulate(&order).expect("it runs");
    let course = reports.into_iter().map(|report| report.course);
    course.map(|it| (it.attempts, it.bin_s)).collect()
}

#[test]
fn equal_endpoints_under_mixed_costs_keep_half_of_their_share_in_any_ten_seconds() {
    for policy in ["dwrr", "p2c", "least_request"] {
        for cost in [20, 100] {
            for (attempts, bin_s) in attempts(policy, cost) {
                let width = (WINDOW_S / bin_s).round() as usize;
                let bins = attempts[0].len();
                assert!(bins > width, "{bins} bins of {bin_s} s");
                for first in 0..bins - width {
                    let of = |endpoint: &Vec<u32>| -> u32 {
                        endpoint[first..first + width].iter().sum()
                    };
                    let all: u32 = attempts.iter().map(of).sum();
                    let least = attempts.iter().map(of).min().unwrap_or(0);
                    assert!(
                        least * 8 >= all,
                        "{policy}, cost {cost}, from {:.1} s: {least} of {all} calls",
                        first as f64 * bin_s
                    );
                }
            }
        }
    }
}
