//! A quantile of times that is followed as they come, without keeping them: each time moves the estimate by a small step
//! up or down, so many steps up for one down as the quantile says (stochastic approximation).

use super::Nanos;

/// Largest step, as a fraction of the estimate.
const STEP: f64 = 0.02;
/// Times before the estimate is told.
const ENOUGH: u32 = 50;

#[derive(Clone, Copy, Debug)]
pub struct Quantile {
    quantile: f64,
    estimate: f64,
    samples: u32,
}

impl Quantile {
    pub fn new(quantile: f64) -> Self {
        Self {
            quantile,
            estimate: 0.0,
            samples: 0,
        }
    }

    pub fn record(&mut self, took: Nanos) {
        let took = took.max(1) as f64;
        self.samples = self.samples.saturating_add(1);
        if self.samples == 1 {
            self.estimate = took;
        }
        // The first ones move it far: it begins at whatever came first.
        let step = STEP * (1.0 + 50.0 / f64::from(self.samples));
        self.estimate *= if took > self.estimate {
            1.0 + step * self.quantile
        } else {
            1.0 - step * (1.0 - self.quantile)
        };
    }

    pub fn get(&self) -> Option<Nanos> {
        (self.samples >= ENOUGH).then_some(self.estimate as Nanos)
    }
}
