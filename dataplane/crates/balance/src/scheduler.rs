//! Shares over time: earliest eligible virtual deadline first (Stoica, Abdel-Wahab 1995; WF²Q+ has the same rule).
//!
//! Virtual time advances with each pick by one pick's worth for all. A slot may be picked once its start has come, and
//! of those the one whose turn ends first is; a pick moves its start on by what a pick costs it, the more the smaller
//! its weight. So each slot is at every moment within one pick of its share. O(log n) a pick.

use super::heap::Heap;
use super::random::Random;

/// Virtual time that one pick costs a slot of weight 1.
const PICK: u64 = 1 << 62;
/// Part of a turn by which one of equals is first.
const TIE: f64 = 1e-6;
/// Where virtual time begins: so far from 0 that no start is below it.
const ORIGIN: u128 = 1 << 96;

#[derive(Debug)]
pub struct Scheduler {
    now: u128,
    /// What a pick advances `now` by.
    tick: u64,
    total: u64,
    weights: Vec<u32>,
    /// What a pick costs the slot: [`PICK`] / weight.
    costs: Vec<u64>,
    starts: Vec<u128>,
    /// Slots whose start has come, by the end of their turn.
    eligible: Heap,
    /// The others, by their start.
    waiting: Heap,
    /// Set aside during one pick.
    aside: Vec<usize>,
}

impl Scheduler {
    /// A scheduler of slots that have no weight yet.
    pub fn new(slots: usize) -> Self {
        Self {
            now: ORIGIN,
            tick: 0,
            total: 0,
            weights: vec![0; slots],
            costs: vec![0; slots],
            starts: vec![ORIGIN; slots],
            eligible: Heap::new(slots),
            waiting: Heap::new(slots),
            aside: Vec::new(),
        }
    }

    #[cfg(test)]
    pub fn weight(&self, slot: usize) -> u32 {
        self.weights[slot]
    }

    /// What the slot is owed, in picks (negative: it owes), and 0 where it has no weight.
    pub fn lag(&self, slot: usize) -> f64 {
        if self.weights[slot] == 0 {
            return 0.0;
        }
        let (now, start) = (self.now, self.starts[slot]);
        let picks = now.abs_diff(start) as f64 / self.costs[slot] as f64;
        if now >= start { picks } else { -picks }.clamp(-1.0, 1.0)
    }

    /// Give the slot a weight, 0 to leave it out. What it is owed, in picks, stays.
    ///
    /// Of those that are there from the beginning a random one is first, so that several access services do not begin
    /// with the same; one that comes later waits for a random part of a turn, so that it gains nothing by going and coming.
    pub fn set_weight(&mut self, slot: usize, weight: u32, random: &mut Random) {
        if self.weights[slot] == weight {
            return;
        }
        let before = self.lag(slot);
        let lag = match self.weights[slot] {
            0 if self.now == ORIGIN => random.fraction() * TIE,
            0 => -random.fraction(),
            _ => before,
        };
        self.set_weight_with_lag(slot, weight, lag);
        let after = if weight == 0 { 0.0 } else { lag };
        self.others_bear(after - before);
    }

    /// A scheduler of other slots at the same time; `places` are their slots in this one.
    pub fn renewed(&self, places: &[Option<usize>]) -> Self {
        let mut next = Self::new(places.len());
        next.now = self.now;
        for (slot, place) in places.iter().enumerate() {
            if let Some(old) = place.filter(|old| self.weights[*old] > 0) {
                next.set_weight_with_lag(slot, self.weights[old], 0.0);
                next.starts[slot] = self.starts[old];
                next.place(slot);
            }
        }
        next
    }

    fn set_weight_with_lag(&mut self, slot: usize, weight: u32, lag: f64) {
        self.total = self.total - u64::from(self.weights[slot]) + u64::from(weight);
        self.tick = PICK / self.total.max(1);
        self.weights[slot] = weight;
        if weight == 0 {
            self.eligible.remove(slot);
            self.waiting.remove(slot);
            return;
        }
        self.costs[slot] = PICK / u64::from(weight);
        let distance = (lag.abs().min(1.0) * self.costs[slot] as f64) as u128;
        self.starts[slot] = if lag >= 0.0 {
            self.now - distance
        } else {
            self.now + distance
        };
        self.place(slot);
    }

    /// The slot whose turn it is, but for those tried; it is not charged yet.
    pub fn propose(&mut self, tried: &[usize]) -> Option<usize> {
        let now = self.now;
        let found = loop {
            let Some(slot) = self.first() else {
                break None;
            };
            if !tried.contains(&slot) {
                break Some(slot);
            }
            self.eligible.remove(slot);
            self.aside.push(slot);
        };
        if !self.aside.is_empty() {
            // That time jumped because of those that this one call has tried is no reason to owe all others more.
            self.now = now;
        }
        while let Some(slot) = self.aside.pop() {
            self.place(slot);
        }
        found
    }

    /// Charge a slot for a pick, proposed or not.
    pub fn charge(&mut self, slot: usize) {
        if self.weights[slot] == 0 {
            return;
        }
        // One that was passed over is owed at most a pick, one that was picked out of turn owes at most one.
        let (tick, cost) = (u128::from(self.tick), u128::from(self.costs[slot]));
        let due = self.starts[slot] + cost;
        let start = due.clamp(self.now - tick, self.now + tick + cost);
        self.now += tick;
        self.starts[slot] = start;
        self.place(slot);
        if start != due {
            let picks = due.abs_diff(start) as f64 / cost as f64;
            self.others_bear(if due > start { picks } else { -picks });
        }
    }

    /// The slot had its turn and did not take it: what it was owed is gone.
    pub fn forfeit(&mut self, slot: usize) {
        if self.weights[slot] > 0 && self.starts[slot] < self.now {
            let lost = self.lag(slot);
            self.starts[slot] = self.now;
            self.place(slot);
            self.others_bear(-lost);
        }
    }

    /// All that is owed adds up to nothing: where one slot is given `picks` more without a pick, all are owed less.
    fn others_bear(&mut self, picks: f64) {
        let distance = (picks.abs() * self.tick as f64) as u128;
        if self.now > ORIGIN {
            self.now = if picks > 0.0 {
                self.now.saturating_sub(distance)
            } else {
                self.now + distance
            };
        }
    }

    /// When the slot's turn ends: of equals the earlier one is picked.
    pub fn end(&self, slot: usize) -> u128 {
        self.starts[slot] + u128::from(self.costs[slot])
    }

    fn first(&mut self) -> Option<usize> {
        loop {
            match self.waiting.top() {
                Some((start, slot)) if start <= self.now => {
                    self.waiting.remove(slot);
                    self.eligible.set(slot, self.end(slot));
                }
                next => {
                    match self.eligible.top() {
                        Some((_, slot)) if self.starts[slot] <= self.now => return Some(slot),
                        // Time went back a little.
                        Some((_, slot)) => {
                            self.place(slot);
                            continue;
                        }
                        None => {}
                    }
                    // Nobody's start has come: time jumps to the first one's.
                    self.now = next?.0;
                }
            }
        }
    }

    fn place(&mut self, slot: usize) {
        if self.starts[slot] <= self.now {
            self.waiting.remove(slot);
            self.eligible.set(slot, self.end(slot));
        } else {
            self.eligible.remove(slot);
            self.waiting.set(slot, self.starts[slot]);
        }
    }
}
