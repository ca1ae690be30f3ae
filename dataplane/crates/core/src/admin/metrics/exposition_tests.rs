use std::time::Duration;

use super::*;
use crate::stats::Histogram;

#[test]
fn a_family_has_one_head_and_labels_are_escaped() {
    let mut page = Exposition::default();
    let mut family = page.family("dl_x_total", Kind::Counter, "Line one\nback\\slash \"q\".");
    family.sample(&[("model", "a\"b\\c\nd"), ("code", "OK")], 3);
    family.sample(&[], 4);
    page.family("dl_y", Kind::Gauge, "Y.").sample(&[], 0.5);
    assert_eq!(
        page.finish(),
        concat!(
            "# HELP dl_x_total Line one\\nback\\\\slash \"q\".\n",
            "# TYPE dl_x_total counter\n",
            "dl_x_total{model=\"a\\\"b\\\\c\\nd\",code=\"OK\"} 3\n",
            "dl_x_total 4\n",
            "# HELP dl_y Y.\n",
            "# TYPE dl_y gauge\n",
            "dl_y 0.5\n",
        )
    );
}

#[test]
fn bounds_are_written_in_seconds_without_trailing_zeros() {
    assert_eq!(seconds(65_536), "0.000065536");
    assert_eq!(seconds(1_000_000_000), "1");
    assert_eq!(seconds(68_719_476_736), "68.719476736");
}

#[test]
fn the_buckets_of_a_histogram_are_the_same_whatever_was_recorded() {
    let histogram = Histogram::default();
    let bounds = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains("_bucket"));
        lines
            .map(|line| line.split_once(' ').unwrap().0.to_owned())
            .collect()
    };
    let write = || {
        let mut page = Exposition::default();
        page.family("dl_h", Kind::Histogram, "H.").histogram(
            &[("a", "b")],
            &histogram.snapshot(),
            &Buckets::nearest(&[1.0, 10.0, 100.0]),
        );
        page.finish()
    };
    histogram.record(Duration::from_micros(1));
    let before = bounds(&write());
    histogram.record(Duration::from_secs(3_600));
    let text = write();
    assert_eq!(bounds(&text), before);
    assert_eq!(before.len(), 4);
    assert!(
        text.ends_with("le=\"+Inf\"} 2\ndl_h_sum{a=\"b\"} 3600.000001\ndl_h_count{a=\"b\"} 2\n")
    );
}

#[test]
fn a_bound_shown_is_one_that_is_recorded_within_5_percent_of_the_one_asked_for() {
    let asked = [
        0.05, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 100.0, 1_000.0, 10_000.0, 60_000.0,
    ];
    let buckets = Buckets::nearest(&asked);
    assert_eq!(buckets.shown.len(), asked.len());
    for ((position, le), wanted) in buckets.shown.iter().zip(asked) {
        let exact = BOUNDS[*position] as f64 / 1e6;
        assert!((exact / wanted - 1.0).abs() < 0.05, "{exact} for {wanted}");
        assert_eq!(*le, seconds(BOUNDS[*position]));
    }
    let outside = Buckets::nearest(&[0.000_1, 0.001, 1e9]);
    let positions: Vec<_> = outside.shown.iter().map(|(at, _)| *at).collect();
    assert_eq!(positions, [0, BOUNDS.len() - 1]);
}

#[test]
fn each_count_is_exact_at_the_bound_that_its_label_names() {
    let histogram = Histogram::default();
    let buckets = Buckets::nearest(&[1.0, 10.0]);
    for (position, _) in &buckets.shown {
        histogram.record(Duration::from_nanos(BOUNDS[*position]));
        histogram.record(Duration::from_nanos(BOUNDS[*position] + 1));
    }
    let mut page = Exposition::default();
    page.family("dl_h", Kind::Histogram, "H.")
        .histogram(&[], &histogram.snapshot(), &buckets);
    let counts: Vec<_> = page
        .finish()
        .lines()
        .filter_map(|line| line.strip_prefix("dl_h_bucket")?.rsplit_once(' '))
        .map(|(_, count)| count.to_owned())
        .collect();
    assert_eq!(counts, ["1", "3", "4"]);
}
