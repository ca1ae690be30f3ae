//! The effective weight, by dl_inference's rule: a failure halves it, a success wins back half of what is missing.

/// Steps of the effective weight below a configured weight of 1.
pub const SCALE: u32 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    scale: u32,
    configured: u32,
    /// Configured weight x scale.
    full: u32,
    effective: u32,
}

impl Weight {
    /// Full weight. Configuration allows 1..=65535 only; a weight beyond it must not overflow, one of 0 not divide.
    pub fn new(configured: u32, scale: u32) -> Self {
        let configured = configured.clamp(1, 65535);
        let full = configured * scale;
        Self {
            scale,
            configured,
            full,
            effective: full,
        }
    }

    pub fn configured(self) -> u32 {
        self.configured
    }

    pub fn full(self) -> u32 {
        self.full
    }

    pub fn effective(self) -> u32 {
        self.effective
    }

    /// Effective weight in [`SCALE`]ths of a configured weight of 1, whatever the scale.
    pub fn scaled(self) -> u32 {
        self.effective * (SCALE / self.scale)
    }

    pub fn is_full(self) -> bool {
        self.effective == self.full
    }

    /// 1/256 of the full weight, and 1 at the original's scale of 1.
    pub fn floor(self) -> u32 {
        let floor = if self.scale == SCALE {
            self.full / SCALE
        } else {
            1
        };
        floor.max(1)
    }

    /// 0..1: how much of it is left.
    pub fn fraction(self) -> f64 {
        f64::from(self.effective) / f64::from(self.full)
    }

    pub fn succeed(&mut self) {
        if !self.is_full() {
            self.effective += (self.full - self.effective).div_ceil(2);
        }
    }

    pub fn fail(&mut self) {
        self.effective = (self.effective >> 1).max(self.floor());
    }

    /// Leave 1/`divisor` of it.
    pub fn set_part(&mut self, divisor: u32) {
        self.effective = (self.full / divisor).max(self.floor());
    }

    /// Take another configured weight; the fraction that is left stays, rounded to the nearest.
    pub fn reconfigure(&mut self, configured: u32) {
        let (before, next) = (u64::from(self.full), Self::new(configured, self.scale));
        let scaled = (u64::from(self.effective) * u64::from(next.full) + before / 2) / before;
        let scaled = u32::try_from(scaled).unwrap_or(next.full);
        (self.configured, self.full) = (next.configured, next.full);
        self.effective = scaled.clamp(self.floor(), self.full);
    }
}
