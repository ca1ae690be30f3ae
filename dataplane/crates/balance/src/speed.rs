//! How fast an endpoint answers, in logarithms: a few very long calls among many move a mean of times, and hardly a mean
//! of their logarithms; an endpoint that is k times slower moves it by ln k, whatever it serves.

use super::decay;
use super::{Nanos, SECOND};

/// Weight of one sample, once there are 20.
const ALPHA: f64 = 0.05;
/// Most weight of a sample that comes after a long time without any.
const SPARSE_ALPHA: f64 = 0.25;
/// Time without samples that adds 1 to the weight of the next one.
const SPARSE: f64 = 4.0 * SECOND as f64;
/// What was learned is forgotten by a factor of e in this time, so that a slow endpoint is tried again.
const MEMORY: f64 = 5.0 * SECOND as f64;
/// Samples before an estimate says anything.
const ENOUGH: u32 = 5;
/// A sample that is off by more, one after the other on the same side, is no chance: ln 2.
const JUMP: f64 = 0.693;
/// Most weight of a sample after several of those.
const JUMP_ALPHA: f64 = 0.35;
/// Variance that is assumed before there are samples: times of one model that differ by a factor of 1.65.
const PRIOR_VARIANCE: f64 = 0.25;
const PRIOR_SAMPLES: f64 = 4.0;

#[derive(Clone, Copy, Debug, Default)]
pub struct Speed {
    /// Mean of the logarithms, which follows a jump at once; and one that does not.
    mean: f64,
    steady: f64,
    variance: f64,
    samples: u32,
    /// Samples in a row that were far above the mean; below it, negative.
    run: i32,
    at: Nanos,
}

impl Speed {
    /// Learn from a call that took so long.
    pub fn record(&mut self, took: Nanos, now: Nanos) {
        let sample = ln(took);
        if self.samples == 0 {
            (self.mean, self.steady) = (sample, sample);
        }
        self.samples = self.samples.saturating_add(1);
        let off = sample - self.mean;
        let gap = now.saturating_sub(self.at) as f64 * (1.0 / SPARSE);
        let usual = (1.0 / f64::from(self.samples)).max(ALPHA.max(gap.min(SPARSE_ALPHA)));
        let jump = ALPHA * f64::from(1 + 2 * self.run.abs());
        let alpha = usual.max(jump.min(JUMP_ALPHA));
        self.run = match off {
            off if off > JUMP => self.run.max(0) + 1,
            off if off < -JUMP => self.run.min(0) - 1,
            _ => 0,
        };
        self.mean += alpha * off;
        self.steady += usual * (sample - self.steady);
        self.variance = (1.0 - alpha) * (self.variance + alpha * off * off);
        self.at = now;
    }

    /// Mean of the logarithms, once there are enough samples.
    pub fn mean(&self) -> Option<f64> {
        (self.samples >= ENOUGH).then_some(self.mean)
    }

    /// A typical time (the geometric mean), for people.
    pub fn typical(&self) -> Option<Nanos> {
        (self.samples > 0).then(|| self.steady.exp() as Nanos)
    }

    /// By how much (as a logarithm) it is surely slower than `median`: two standard errors are the benefit of doubt, and
    /// what is old counts less.
    pub fn excess(&self, median: f64, now: Nanos) -> f64 {
        let Some(mean) = self.mean() else { return 0.0 };
        let count = f64::from(self.samples).min(2.0 / ALPHA - 1.0);
        let variance =
            (self.variance * count + PRIOR_VARIANCE * PRIOR_SAMPLES) / (count + PRIOR_SAMPLES);
        let sure = mean - median - 2.0 * (variance / count).sqrt();
        if sure <= 0.0 {
            return 0.0;
        }
        sure * decay::kept(now.saturating_sub(self.at) as f64 * (1.0 / MEMORY))
    }
}

/// Logarithm of a time, which is at least a microsecond: what is faster is not told apart.
pub fn ln(time: Nanos) -> f64 {
    decay::ln(time.max(1000) as f64)
}
