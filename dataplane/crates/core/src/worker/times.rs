//! What a model server learns from its calls: how long a batch of so many rows takes, and how soon another call comes.

use std::collections::BTreeMap;
use std::time::Instant;

/// Last times that are kept for each number of rows; of so few the median forgets a pause at once.
const KEPT: usize = 5;

/// How long batches took, by their rows. Sizes near each other are one from five rows on: 5-6, 7-8, 9-12, 13-16 ...
#[derive(Debug, Default)]
pub struct Times {
    seen: BTreeMap<usize, Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    seconds: [f64; KEPT],
    count: usize,
}

/// The gaps between calls that came one after the other.
#[derive(Debug, Default)]
pub struct Gaps {
    seconds: [f64; Gaps::KEPT],
    count: usize,
    /// Of the last `MEAN_OF` or so.
    mean: f64,
    last: Option<Instant>,
}

// === impl Times ===

impl Times {
    pub fn add(&mut self, rows: usize, seconds: f64) {
        let recent = self.seen.entry(bucket(rows)).or_default();
        recent.seconds[recent.count % KEPT] = seconds;
        recent.count += 1;
    }

    /// Seconds that a batch takes; 0 where nothing is known yet.
    pub fn expected(&self, rows: usize) -> f64 {
        self.estimate(rows, |recent| recent.sorted(0.5))
    }

    /// The shortest that was seen lately.
    pub fn at_best(&self, rows: usize) -> f64 {
        self.estimate(rows, |recent| recent.sorted(0.0))
    }

    /// The longest that was seen lately.
    pub fn at_worst(&self, rows: usize) -> f64 {
        self.estimate(rows, |recent| recent.sorted(1.0))
    }

    /// Seconds of the model that `more` rows save when they go with `rows` others, and not after them; `None` where it
    /// is not even known whether more rows take longer.
    pub fn saved(&self, rows: usize, more: usize) -> Option<f64> {
        (self.seen.len() > 1)
            .then(|| self.expected(rows) + self.expected(more) - self.expected(rows + more))
    }

    /// Rows a second at the size at which the model does most; 0 where nothing is known yet.
    pub fn best_rate(&self) -> f64 {
        let rates = self
            .seen
            .iter()
            .map(|(&rows, recent)| rows as f64 / recent.sorted(0.5).max(1e-9));
        rates.fold(0.0, f64::max)
    }

    /// Between two sizes that were seen a straight line; beyond the last one as steep as up to it.
    fn estimate(&self, rows: usize, of: impl Fn(&Recent) -> f64) -> f64 {
        let at = bucket(rows);
        let below = self.seen.range(..=at).next_back();
        let above = self.seen.range(at..).next();
        match (below, above) {
            (None, None) => 0.0,
            (None, Some((_, more))) => of(more),
            (Some((low, less)), Some((high, more))) if high > low => {
                let share = (at - low) as f64 / (high - low) as f64;
                of(less) + (of(more) - of(less)) * share
            }
            (Some((low, less)), None) => {
                // Of one size alone it is not known whether more rows take longer: the next batch shows it.
                let before = self.seen.range(..low).next_back();
                let slope = before.map_or(0.0, |(lower, first)| {
                    ((of(less) - of(first)) / (low - lower) as f64).max(0.0)
                });
                of(less) + slope * (at - low) as f64
            }
            (Some((_, same)), Some(_)) => of(same),
        }
    }
}

impl Recent {
    /// A quantile of the last times, 0..=1.
    fn sorted(&self, quantile: f64) -> f64 {
        let mut kept = self.seconds;
        let kept = &mut kept[..self.count.min(KEPT)];
        kept.sort_unstable_by(f64::total_cmp);
        kept[((kept.len() - 1) as f64 * quantile).round() as usize]
    }
}

/// The largest size that counts as the same.
fn bucket(rows: usize) -> usize {
    let step = rows.max(1).next_power_of_two() / 4;
    if step < 2 {
        rows.max(1)
    } else {
        rows.div_ceil(step) * step
    }
}

// === impl Gaps ===

impl Gaps {
    const KEPT: usize = 32;
    const MEAN_OF: usize = 256;
    /// Of four calls three come within what is expected.
    const QUANTILE: f64 = 0.75;

    pub fn arrived(&mut self, now: Instant) {
        if let Some(last) = self.last {
            let gap = now.saturating_duration_since(last).as_secs_f64();
            self.seconds[self.count % Self::KEPT] = gap;
            self.count += 1;
            self.mean += (gap - self.mean) / self.count.min(Self::MEAN_OF) as f64;
        }
        self.last = Some(now);
    }

    /// Calls a second, on average over some hundred; 0 where that is not known.
    pub fn rate(&self) -> f64 {
        if self.mean > 0.0 {
            1.0 / self.mean
        } else {
            0.0
        }
    }

    /// Seconds within which the next call probably comes; `None` where that is not known, or it is overdue.
    pub fn next(&self, now: Instant) -> Option<f64> {
        if self.count < Self::KEPT / 4 {
            return None;
        }
        let mut kept = self.seconds;
        let kept = &mut kept[..self.count.min(Self::KEPT)];
        kept.sort_unstable_by(f64::total_cmp);
        let gap = kept[((kept.len() - 1) as f64 * Self::QUANTILE) as usize];
        let passed = now.saturating_duration_since(self.last?).as_secs_f64();
        (gap > passed).then_some(gap - passed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sizes_between_those_seen_lie_on_a_line() {
        let mut times = Times::default();
        times.add(1, 1.0);
        times.add(4, 4.0);
        assert!((times.expected(2) - 2.0).abs() < 1e-9);
        assert!((times.expected(8) - 8.0).abs() < 1e-9);
        assert!((times.expected(16) - 16.0).abs() < 1e-9);
    }

    #[test]
    fn one_slow_batch_is_forgotten_at_once() {
        let mut times = Times::default();
        for seconds in [1.0, 1.0, 60.0, 1.0] {
            times.add(1, seconds);
        }
        assert_eq!(times.expected(1), 1.0);
        assert_eq!(times.at_worst(1), 60.0);
        for _ in 0..KEPT {
            times.add(1, 1.0);
        }
        assert_eq!(times.at_worst(1), 1.0);
    }

    #[test]
    fn a_row_saves_what_it_would_take_alone_but_for_what_it_adds() {
        let mut times = Times::default();
        assert_eq!(times.saved(1, 1), None);
        times.add(1, 1.0);
        assert_eq!(times.saved(1, 1), None);
        times.add(2, 1.25);
        assert!((times.saved(1, 1).unwrap() - 0.75).abs() < 1e-9);
    }

    #[test]
    fn the_next_call_is_expected_by_the_gaps_before_and_not_when_it_is_overdue() {
        let start = Instant::now();
        let mut gaps = Gaps::default();
        let mut now = start;
        for _ in 0..Gaps::KEPT {
            gaps.arrived(now);
            now += Duration::from_millis(10);
        }
        let last = now - Duration::from_millis(10);
        assert!((gaps.next(last).unwrap() - 0.010).abs() < 1e-6);
        assert!((gaps.next(last + Duration::from_millis(4)).unwrap() - 0.006).abs() < 1e-6);
        assert_eq!(gaps.next(last + Duration::from_millis(11)), None);
    }

    #[test]
    fn sizes_near_each_other_are_one() {
        let buckets: Vec<usize> = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 64, 65]
            .map(bucket)
            .to_vec();
        assert_eq!(
            buckets,
            [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 16, 16, 24, 64, 96]
        );
    }
}
