//! The budget under requests, time and threads.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::budget::RetryBudget;

const SECOND: u64 = 1_000_000_000;

fn budget(ratio: f64, per_second: f64, cap: f64) -> RetryBudget {
    RetryBudget::new(ratio, per_second, cap, Instant::now())
}

fn try_retry(budget: &RetryBudget, now_ns: u64, caller_retries: bool) -> bool {
    budget.take_at(Duration::from_nanos(now_ns), caller_retries)
}

#[test]
fn a_budget_starts_full_and_a_retry_takes_one_token() {
    let budget = budget(0.2, 0.0, 3.0);
    assert_eq!(
        [0; 4].map(|now| try_retry(&budget, now, false)),
        [true, true, true, false]
    );
    (0..4).for_each(|_| budget.request());
    assert!(!try_retry(&budget, 0, false), "0.8 tokens are not one");
    budget.request();
    assert!(try_retry(&budget, 0, false));
}

#[test]
fn a_caller_that_retries_too_pays_double() {
    let budget = budget(0.0, 0.0, 3.0);
    assert!(try_retry(&budget, 0, true));
    assert!(!try_retry(&budget, 0, true));
    assert!(
        try_retry(&budget, 0, false),
        "the refused retry took nothing"
    );
}

#[test]
fn time_earns_tokens_up_to_the_cap() {
    let budget = budget(0.0, 10.0, 5.0);
    assert_eq!((0..9).filter(|_| try_retry(&budget, 0, false)).count(), 5);
    assert!(!try_retry(&budget, SECOND / 10 - 1, false));
    assert!(try_retry(&budget, SECOND / 10, false));
    assert!(
        !try_retry(&budget, SECOND / 10, false),
        "the same time earns once"
    );
    let later = 3600 * SECOND;
    assert_eq!(
        (0..9).filter(|_| try_retry(&budget, later, false)).count(),
        5
    );
    assert!(
        !try_retry(&budget, SECOND, false),
        "a clock that goes back earns nothing"
    );
}

#[test]
fn slow_rates_earn_although_asked_often() {
    let budget = budget(0.0, 0.001, 1.0);
    assert!(try_retry(&budget, 0, false));
    // Every 10 ms earns 10 millionths; 1,000 s earn a token.
    let granted = (1..=200_000u64)
        .filter(|i| try_retry(&budget, i * SECOND / 100, false))
        .count();
    assert_eq!(granted, 2);
}

#[test]
fn requests_do_not_raise_a_full_budget_above_its_cap() {
    let budget = budget(0.2, 10.0, 2.0);
    (0..100).for_each(|_| budget.request());
    assert_eq!(budget.tokens(), 2.0);
}

#[test]
fn new_settings_keep_the_tokens() {
    let budget = budget(0.0, 0.0, 10.0);
    (0..4).for_each(|_| assert!(try_retry(&budget, 0, false)));
    budget.configure(1.0, 0.0, 100.0);
    assert_eq!(budget.tokens(), 6.0);
    budget.request();
    assert_eq!(budget.tokens(), 7.0);
    budget.configure(1.0, 0.0, 2.0);
    assert_eq!(budget.tokens(), 2.0);
}

#[test]
fn numbers_that_are_none_leave_a_budget_without_tokens_or_at_its_cap() {
    for cap in [f64::NAN, -1.0, 0.0] {
        assert!(!try_retry(&budget(f64::NAN, -3.0, cap), SECOND, false));
    }
    let endless = budget(f64::INFINITY, f64::INFINITY, f64::INFINITY);
    endless.request();
    assert!(try_retry(&endless, u64::MAX, true));
}

#[test]
fn threads_never_take_more_than_there_is() {
    let budget = budget(0.25, 1.0, 50.0);
    let granted = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..20_000u64 {
                    budget.request();
                    granted.fetch_add(u64::from(try_retry(&budget, i * 1000, false)), Relaxed);
                }
            });
        }
    });
    // 50 at the start, 20,000 for the requests, and not one from 20 ms.
    let granted = granted.load(Relaxed);
    assert!((19_950..=20_050).contains(&granted), "{granted} retries");
}

#[test]
fn a_budget_reads_its_own_clock() {
    let budget = RetryBudget::new(0.0, 1e9, 1.0, Instant::now());
    assert!(budget.take(false));
    while !budget.take(false) {
        std::thread::yield_now();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn calls_that_all_fail_make_no_more_attempts_than_the_budgets_allow(
        steps in prop::collection::vec((0u64..2 * SECOND, 0u64..300, 0u32..4, any::<bool>()), 1..60)
    ) {
        // As a cluster has them by default.
        let (retries, hedges) = (budget(0.2, 10.0, 100.0), budget(0.05, 0.0, 20.0));
        let (mut requests, mut attempts, mut now) = (0u64, 0u64, 0u64);
        for (wait, calls, wanted, caller_retries) in steps {
            now += wait;
            for _ in 0..calls {
                (requests, attempts) = (requests + 1, attempts + 1);
                retries.request();
                hedges.request();
                attempts += (0..wanted).map(|_| u64::from(try_retry(&retries, now, caller_retries))).sum::<u64>();
                attempts += u64::from(try_retry(&hedges, now, false));
            }
            let (requests, seconds) = (requests as f64, now as f64 / SECOND as f64);
            let most = requests * (1.0 + 0.2 + 0.05) + 10.0 * seconds + 100.0 + 20.0;
            // A thousandth for what is rounded.
            prop_assert!(attempts as f64 <= most + 0.001, "{attempts} attempts, at most {most}");
        }
    }
}
