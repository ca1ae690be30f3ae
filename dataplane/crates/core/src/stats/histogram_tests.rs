use proptest::prelude::*;

use super::*;

/// The definition that `bucket` makes cheap.
fn bucket_by_search(nanos: u64) -> usize {
    BOUNDS.partition_point(|&bound| bound < nanos)
}

#[test]
fn the_bounds_reach_from_50_us_to_60_s_and_never_step_by_more_than_9_1_percent() {
    assert!(BOUNDS[0] <= 50_000);
    assert!(BOUNDS[BOUND_COUNT - 1] >= 60_000_000_000);
    for pair in BOUNDS.windows(2) {
        assert!(pair[1] > pair[0]);
        assert!(pair[1] as f64 / pair[0] as f64 <= 1.091, "{pair:?}");
    }
}

#[test]
fn each_bound_and_its_neighbours_fall_into_the_bucket_that_a_search_finds() {
    let edges = BOUNDS
        .iter()
        .flat_map(|&bound| [bound - 1, bound, bound + 1]);
    let powers = (0..64).flat_map(|i| [1_u64 << i, (1_u64 << i) - 1, (1_u64 << i) + 1]);
    for nanos in edges.chain(powers).chain([0, u64::MAX]) {
        assert_eq!(bucket(nanos), bucket_by_search(nanos), "{nanos} ns");
    }
}

#[test]
fn the_cumulative_counts_end_with_all_but_the_overflow() {
    let histogram = Histogram::default();
    for millis in [1, 10, 100, 100_000] {
        histogram.record(Duration::from_millis(millis));
    }
    let snapshot = histogram.snapshot();
    assert_eq!(snapshot.cumulative().count(), BOUND_COUNT);
    let last = (BOUNDS[BOUND_COUNT - 1], 3);
    assert_eq!(snapshot.cumulative().last(), Some(last));
    assert_eq!(snapshot.count(), 4);
    assert_eq!(snapshot.sum_seconds(), 100.111);
}

#[test]
fn an_empty_histogram_has_no_quantile_and_an_overflowing_one_gives_the_last_bound() {
    let histogram = Histogram::default();
    assert_eq!(histogram.quantile(0.5), None);
    histogram.record(Duration::from_secs(1_000_000));
    assert_eq!(histogram.quantile(0.5), Some(68.719_476_736));
}

/// A standard normal value out of two uniform ones (Box and Muller).
fn normal(u: f64, v: f64) -> f64 {
    (-2.0 * u.max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn any_duration_falls_into_the_bucket_that_a_search_finds(nanos: u64, shift in 0_u32..64) {
        prop_assert_eq!(bucket(nanos >> shift), bucket_by_search(nanos >> shift));
    }

    #[test]
    fn quantiles_of_lognormal_samples_are_right_within_10_percent(
        median_us in 100.0..1_000_000.0_f64,
        sigma in 0.0..1.2_f64,
        uniform in prop::collection::vec((0.0..1.0_f64, 0.0..1.0_f64), 1_000),
    ) {
        let histogram = Histogram::default();
        let mut samples: Vec<f64> = uniform
            .iter()
            .map(|&(u, v)| (median_us * (sigma * normal(u, v)).exp()).clamp(50.0, 60e6) / 1e6)
            .collect();
        for &seconds in &samples {
            histogram.record(Duration::from_secs_f64(seconds));
        }
        samples.sort_by(f64::total_cmp);
        for q in [0.5, 0.9, 0.99] {
            let exact = samples[(q * samples.len() as f64).ceil() as usize - 1];
            let estimate = histogram.quantile(q).unwrap();
            prop_assert!((estimate / exact - 1.0).abs() < 0.1, "q {q}: {estimate} for {exact}");
        }
    }
}
