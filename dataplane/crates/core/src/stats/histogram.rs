//! A latency histogram of fixed, log-spaced buckets: two relaxed atomic additions per record.
//!
//! Eight buckets per doubling make each bound 9.05 % above the one before, so every quantile that is
//! interpolated within a bucket (as Prometheus's `histogram_quantile` does) is within 9.05 % of the true
//! one, whatever the distribution. Buckets that are linear within a doubling are cheaper to index but
//! would need 16 per doubling for the same promise.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets per doubling.
const PER_OCTAVE: usize = 8;
/// 2^(i/8): the bounds within one doubling.
const STEPS: [f64; PER_OCTAVE] = [
    1.0,
    1.090_507_732_665_257_7,
    1.189_207_115_002_721,
    1.296_839_554_651_009_6,
    std::f64::consts::SQRT_2,
    1.542_210_825_407_940_7,
    1.681_792_830_507_429,
    1.834_008_086_409_342_4,
];
/// The first bound is 2^15.5 ns = 46 us, the last one 2^36 ns = 68.7 s, counted in eighths of a doubling.
const FIRST: usize = 15 * PER_OCTAVE + 4;
const LAST: usize = 36 * PER_OCTAVE;
/// Number of finite bounds.
pub const BOUND_COUNT: usize = LAST - FIRST + 1;

/// Upper bounds of the buckets, inclusive, in nanoseconds; above the last one is the overflow bucket.
pub const BOUNDS: [u64; BOUND_COUNT] = bounds();

/// Leading bits below the first one that select a row of [`GUESS`]. A cell is 1/64 of an octave wide,
/// narrower than any bucket, so that at most one bound lies in it.
const CELL_BITS: u32 = 6;
/// For each cell of an octave, how many of the octave's bounds certainly lie at or below its start.
const GUESS: [u8; 1 << CELL_BITS] = guess();

const fn bounds() -> [u64; BOUND_COUNT] {
    let mut bounds = [0; BOUND_COUNT];
    let mut i = 0;
    while i < BOUND_COUNT {
        let eighths = FIRST + i;
        let octave = (1_u64 << (eighths / PER_OCTAVE)) as f64;
        bounds[i] = (STEPS[eighths % PER_OCTAVE] * octave) as u64;
        i += 1;
    }
    bounds
}

const fn guess() -> [u8; 1 << CELL_BITS] {
    let mut guess = [0; 1 << CELL_BITS];
    let mut cell = 0;
    while cell < guess.len() {
        let start = 1.0 + cell as f64 / guess.len() as f64;
        let mut below = 0;
        while below < PER_OCTAVE && STEPS[below] <= start {
            below += 1;
        }
        guess[cell] = below as u8;
        cell += 1;
    }
    guess
}

/// Position of the bucket that a duration belongs to; [`BOUND_COUNT`] is the overflow.
fn bucket(nanos: u64) -> usize {
    if nanos <= BOUNDS[0] {
        return 0;
    }
    // Bounds are inclusive: `nanos <= bound` is `below < bound`.
    let below = nanos - 1;
    let octave = below.ilog2();
    if octave as usize * PER_OCTAVE >= LAST {
        return BOUND_COUNT;
    }
    let cell = (below << (63 - octave) << 1) >> (64 - CELL_BITS);
    let eighths = octave as usize * PER_OCTAVE + usize::from(GUESS[cell as usize]);
    let mut index = eighths.saturating_sub(FIRST);
    // At most one bound lies in the cell, and rounding down may have moved one more below its start.
    while index < BOUND_COUNT && below >= BOUNDS[index] {
        index += 1;
    }
    index
}

/// Durations counted by bucket.
#[derive(Debug)]
pub struct Histogram {
    /// The last one is the overflow.
    buckets: [AtomicU64; BOUND_COUNT + 1],
    /// Wraps after 584 years of recorded time, which Prometheus takes as a restart.
    sum_ns: AtomicU64,
}

// === impl Histogram ===

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BOUND_COUNT + 1],
            sum_ns: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Count one duration.
    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(nanos, Relaxed);
    }

    /// Copy the counts, so that what is derived from them agrees.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            buckets: std::array::from_fn(|i| self.buckets[i].load(Relaxed)),
            sum_ns: self.sum_ns.load(Relaxed),
        }
    }

    /// The `q`-quantile, 0..=1, in seconds; `None` when nothing was recorded.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        self.snapshot().quantile(q)
    }
}

/// Counts of one [`Histogram`] at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    buckets: [u64; BOUND_COUNT + 1],
    sum_ns: u64,
}

// === impl Snapshot ===

impl Snapshot {
    /// Of a histogram that nothing was recorded in.
    pub const EMPTY: Self = Self {
        buckets: [0; BOUND_COUNT + 1],
        sum_ns: 0,
    };

    /// What was recorded since an earlier snapshot of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            buckets: std::array::from_fn(|i| self.buckets[i].saturating_sub(earlier.buckets[i])),
            sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns),
        }
    }

    /// Add the counts of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum_ns += other.sum_ns;
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Sum of the durations in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// Pairs of (upper bound in ns, durations up to it), without the overflow.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut total = 0;
        self.buckets.iter().zip(BOUNDS).map(move |(count, bound)| {
            total += count;
            (bound, total)
        })
    }

    /// The `q`-quantile in seconds, interpolated as `histogram_quantile` does; beyond the last bound it is
    /// that bound.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * count as f64;
        let (mut lower, mut below) = (0, 0);
        for (bound, total) in self.cumulative() {
            if total as f64 >= rank && total > below {
                let share = (rank - below as f64) / (total - below) as f64;
                return Some((lower as f64 + (bound - lower) as f64 * share) / 1e9);
            }
            (lower, below) = (bound, total);
        }
        Some(BOUNDS[BOUND_COUNT - 1] as f64 / 1e9)
    }
}

#[cfg(test)]
#[path = "histogram_tests.rs"]
mod tests;
