//! Dynamic weighted round robin: smooth weighted round robin over effective weights that halve with each
//! failure and win back half of what is missing with each success. O(n) per pick, no allocation.
//!
//! - **Credit is kept in picks**, not in units of weight: a pick gives each endpoint its share of one pick
//!   and takes one whole pick from the winner. While weights stand still this picks exactly as the classic
//!   rule (add the weight, subtract the total). When they change it does not: classic credit from before a
//!   collapse of the weights is worth up to 256 times as many picks after it, all on one endpoint.
//! - **Masked** endpoints (not live) neither earn nor pay. A mask drops what the endpoint was owed (no burst
//!   on its return) and keeps what it owes, measured from the mean of the live ones (an endpoint that flaps
//!   after each pick gains nothing by it).
//! - **Tried** endpoints had their turn in this call: a retry is a round among the others, and leaves the
//!   credit of the tried ones as it was.
//! - **A new endpoint** starts at full weight and at the mean of the live ones: its share at once, no burst.
//!   Equal credits go to the lower index, so several proxies started at once would all begin with entry 0: a
//!   cluster that shuffles its entries once, when it is made, spreads their first picks.

use rustc_hash::FxHashMap;

use super::{Entry, Outcome, Picker};

/// Steps of the effective weight below a configured weight of 1.
const SCALE: u32 = 256;

/// Credit of one pick. Credits stay below n + 1 picks, so 2^46 has room for 10^5 endpoints in an i64, and it is
/// 400 times the largest sum of effective weights (65535 x 256 x 10^4), which bounds the rounding of shares.
const PICK: i64 = 1 << 46;

/// Credit of an endpoint that cannot be picked: below every real one, and unmoved by a step of 0.
const MASKED: i64 = i64::MIN;

/// Picker of one cluster: one array per property, so that a pick walks two of them.
pub struct Dwrr {
    scale: u32,
    ids: Vec<u64>,
    /// Full effective weight: configured weight x scale.
    full: Vec<u32>,
    effective: Vec<u32>,
    live: Vec<bool>,
    /// Picks owed to the endpoint (negative: owed by it), in 1/[`PICK`]; [`MASKED`] when not live.
    credit: Vec<i64>,
    /// What one pick adds to `credit`; valid unless `stale`.
    step: Vec<i64>,
    /// Sum of `step`: what the winner pays.
    price: i64,
    /// Effective weights or the live set changed since `step` was computed.
    stale: bool,
    /// Credit of endpoints while masked: 0 or what they owe.
    parked: Vec<i64>,
    /// Credits of tried endpoints during one pick; kept for its capacity.
    aside: Vec<(usize, i64)>,
}

impl Default for Dwrr {
    fn default() -> Self {
        Self::with_scale(SCALE)
    }
}

impl Dwrr {
    fn with_scale(scale: u32) -> Self {
        Self {
            scale,
            ids: Vec::new(),
            full: Vec::new(),
            effective: Vec::new(),
            live: Vec::new(),
            credit: Vec::new(),
            step: Vec::new(),
            price: 0,
            stale: true,
            parked: Vec::new(),
            aside: Vec::new(),
        }
    }

    /// Least effective weight: 1/256 of the full one, and 1 at the original's scale of 1.
    fn floor(&self, full: u32) -> u32 {
        (full / self.scale * (self.scale / SCALE)).max(1)
    }

    /// Recompute every endpoint's share of one pick.
    fn refresh(&mut self) {
        let shares = self.effective.iter().zip(&self.credit);
        let total: i64 = shares
            .map(|(&e, &credit)| if credit == MASKED { 0 } else { i64::from(e) })
            .sum();
        // Whole units only: the steps then add up to the price exactly, and credits to 0 for ever.
        let unit = PICK / total.max(1);
        for ((step, &e), &credit) in self.step.iter_mut().zip(&self.effective).zip(&self.credit) {
            *step = if credit == MASKED {
                0
            } else {
                i64::from(e) * unit
            };
        }
        self.price = total * unit;
        self.stale = false;
    }

    /// One round among the endpoints that are not masked; the first of the best wins.
    fn round(&mut self) -> Option<usize> {
        if self.stale {
            self.refresh();
        }
        let (winner, best) = accrue(&mut self.credit, &self.step);
        if best == MASKED {
            return None;
        }
        self.credit[winner] -= self.price;
        Some(winner)
    }

    /// Shift live credits so that they add up to 0 again; the order of the live ones stays.
    fn rebase(&mut self) {
        let live = self.credit.iter().filter(|&&credit| credit != MASKED);
        let (count, sum) = live.fold((0i64, 0i64), |(count, sum), &credit| {
            (count + 1, sum + credit)
        });
        if count == 0 {
            return;
        }
        let (mean, mut rest) = (sum.div_euclid(count), sum.rem_euclid(count));
        for credit in self.credit.iter_mut().filter(|credit| **credit != MASKED) {
            *credit -= mean + i64::from(rest > 0);
            rest -= i64::from(rest > 0);
        }
    }

    fn mask(&mut self, index: usize) {
        let credit = std::mem::replace(&mut self.credit[index], MASKED);
        // Live credits add up to 0, so the credit itself is the distance from their mean.
        self.parked[index] = credit.min(0);
        self.live[index] = false;
    }

    fn unmask(&mut self, index: usize) {
        self.credit[index] = self.parked[index];
        self.live[index] = true;
    }
}

// === impl Picker ===

impl Picker for Dwrr {
    fn update(&mut self, entries: &[Entry]) {
        let before = std::mem::replace(self, Self::with_scale(self.scale));
        let known: FxHashMap<u64, usize> = before
            .ids
            .iter()
            .enumerate()
            .map(|(i, &id)| (id, i))
            .collect();
        for (index, entry) in entries.iter().enumerate() {
            // Configuration allows 1..=65535 only; a weight beyond it must not overflow, one of 0 not divide.
            let full = entry.weight.clamp(1, 65535) * self.scale;
            let old = known.get(&entry.id).copied();
            let effective =
                old.map_or(full, |i| rescale(before.effective[i], before.full[i], full));
            self.ids.push(entry.id);
            self.full.push(full);
            self.effective.push(effective.clamp(self.floor(full), full));
            self.step.push(0);
            self.live.push(true);
            self.credit.push(old.map_or(0, |i| {
                if before.live[i] {
                    before.credit[i]
                } else {
                    before.parked[i]
                }
            }));
            self.parked.push(0);
            if !entry.live {
                self.mask(index);
            }
        }
        self.rebase();
    }

    fn set_live(&mut self, index: usize, live: bool) {
        if self.live.get(index).is_none_or(|&now| now == live) {
            return;
        }
        if live {
            self.unmask(index);
        } else {
            self.mask(index);
        }
        self.rebase();
        self.stale = true;
    }

    fn pick(&mut self, tried: &[usize]) -> Option<usize> {
        if tried.is_empty() {
            return self.round();
        }
        for &index in tried {
            match self.credit.get_mut(index) {
                Some(credit) if *credit != MASKED => {
                    self.aside.push((index, std::mem::replace(credit, MASKED)));
                }
                _ => {} // masked, named twice, or of an older and larger set
            }
        }
        self.stale |= !self.aside.is_empty();
        let winner = self.round();
        self.stale |= !self.aside.is_empty();
        for (index, credit) in self.aside.drain(..) {
            self.credit[index] = credit;
        }
        winner
    }

    fn report(&mut self, index: usize, outcome: Outcome) {
        let (Some(&now), Some(&full)) = (self.effective.get(index), self.full.get(index)) else {
            return; // of an older and larger set: nothing left to learn about
        };
        let next = match outcome {
            Outcome::Success => now + (full - now).div_ceil(2),
            Outcome::Failure => (now >> 1).max(self.floor(full)),
            Outcome::Neutral => now,
        };
        self.effective[index] = next;
        self.stale |= next != now;
    }

    fn effective_weight(&self, index: usize) -> u32 {
        self.effective.get(index).copied().unwrap_or(0)
    }

    fn is_full(&self, index: usize) -> bool {
        self.effective.get(index) == self.full.get(index)
    }
}

/// The effective weight that is to `full` what `effective` was to `before`, rounded to the nearest.
fn rescale(effective: u32, before: u32, full: u32) -> u32 {
    let scaled =
        (u64::from(effective) * u64::from(full) + u64::from(before) / 2) / u64::from(before);
    u32::try_from(scaled).unwrap_or(full)
}

/// Lanes of [`accrue`]: independent chains of comparisons keep the processor busy (measured at n = 1000: a single
/// pass 0.80 us, four lanes 0.68 us, a maximum and a search for it 1.1 us).
const LANES: usize = 4;

/// Add the steps to the credits; the first index of the largest credit, and that credit.
fn accrue(credits: &mut [i64], steps: &[i64]) -> (usize, i64) {
    let mut lanes = [(usize::MAX, MASKED); LANES];
    let mut blocks = credits.chunks_exact_mut(LANES);
    let mut step_blocks = steps.chunks_exact(LANES);
    let mut base = 0;
    for (block, block_steps) in (&mut blocks).zip(&mut step_blocks) {
        for lane in 0..LANES {
            block[lane] += block_steps[lane];
            if block[lane] > lanes[lane].1 {
                lanes[lane] = (base + lane, block[lane]);
            }
        }
        base += LANES;
    }
    let first_of_best = |a: (usize, i64), b: (usize, i64)| {
        if b.1 > a.1 || (b.1 == a.1 && b.0 < a.0) {
            b
        } else {
            a
        }
    };
    let mut best = lanes.into_iter().fold((usize::MAX, MASKED), first_of_best);
    let rest = blocks
        .into_remainder()
        .iter_mut()
        .zip(step_blocks.remainder());
    for (index, (credit, &step)) in (base..).zip(rest) {
        *credit += step;
        best = first_of_best(best, (index, *credit));
    }
    best
}

#[cfg(test)]
#[path = "dwrr_tests.rs"]
mod tests;
