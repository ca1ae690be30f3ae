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
            Resolution::Half,
        );
        page.finish()
    };
    histogram.record(Duration::from_micros(1));
    let before = bounds(&write());
    histogram.record(Duration::from_secs(3_600));
    let text = write();
    assert_eq!(bounds(&text), before);
    assert_eq!(before.len(), 84);
    assert!(
        text.ends_with("le=\"+Inf\"} 2\ndl_h_sum{a=\"b\"} 3600.000001\ndl_h_count{a=\"b\"} 2\n")
    );
}
