//! Shares over time: earliest eligible virtual deadline first (Stoica, Abdel-Wahab 1995; WF²Q+ has the same rule).
//!
//! Virtual time advances with each pick by one pick's worth for all. A slot may be picked once its start has come, and
//! of those the one whose turn ends first is; a pick moves its start on by what a pick costs it, the more the smaller
//! its weight. So each slot is at every moment within one pick of its share. O(log n) a pick.

use super::random::Random;
use super::turns::Turns;

/// Virtual time that one pick costs a slot of weight 1.
const PICK: u64 = 1 << 56;
/// Part of a turn by which one of equals is first.
const TIE: f64 = 1e-6;
/// Where virtual time begins: so far from 0 that starts are not below it.
const ORIGIN: u64 = 1 << 60;
/// Where it is set back, so that no sum overflows: after 112 turns of all slots at least.
const LATEST: u64 = 1 << 63;

#[derive(Debug)]
pub struct Scheduler {
    now: u64,
    /// What a pick advances `now` by.
    tick: u64,
    total: u64,
    /// A slot was picked.
    has_begun: bool,
    slots: Vec<Slot>,
    turns: Turns,
    /// Set aside during one pick.
    aside: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    start: u64,
    /// What a pick costs it: [`PICK`] / weight.
    cost: u64,
    weight: u32,
}

impl Scheduler {
    /// A scheduler of slots that have no weight yet.
    pub fn new(slots: usize) -> Self {
        let slot = Slot {
            start: ORIGIN,
            cost: 0,
            weight: 0,
        };
        Self {
            now: ORIGIN,
            tick: 0,
            total: 0,
            has_begun: false,
            slots: vec![slot; slots],
            turns: Turns::new(slots),
            aside: Vec::with_capacity(slots),
        }
    }

    #[cfg(test)]
    pub fn weight(&self, slot: usize) -> u32 {
        self.slots[slot].weight
    }

    /// What the slot is owed, in picks (negative: it owes), and 0 where it has no weight.
    pub fn lag(&self, slot: usize) -> f64 {
        let Slot {
            start,
            cost,
            weight,
        } = self.slots[slot];
        if weight == 0 {
            return 0.0;
        }
        let picks = self.now.abs_diff(start) as f64 / cost as f64;
        if self.now >= start { picks } else { -picks }.clamp(-1.0, 1.0)
    }

    /// Give the slot a weight, 0 to leave it out. What it is owed, in picks, stays.
    ///
    /// Of those that are there from the beginning a random one is first, so that several access services do not begin
    /// with the same; one that comes later waits for a random part of a turn, so that it gains nothing by going and coming.
    pub fn set_weight(&mut self, slot: usize, weight: u32, random: &mut Random) {
        let before = self.slots[slot].weight;
        if before == weight {
            return;
        }
        let owed = self.lag(slot);
        let lag = match before {
            0 if !self.has_begun => random.fraction() * TIE,
            0 => -random.fraction(),
            _ => owed,
        };
        self.set_weight_with_lag(slot, weight, lag);
        let after = if weight == 0 { 0.0 } else { lag };
        self.others_bear(after - owed);
    }

    /// A scheduler of other slots at the same time; `places` are their slots in this one.
    pub fn renewed(&self, places: &[Option<usize>]) -> Self {
        let mut next = Self::new(places.len());
        (next.now, next.has_begun) = (self.now, self.has_begun);
        for (slot, place) in places.iter().enumerate() {
            if let Some(old) = place.filter(|old| self.slots[*old].weight > 0) {
                let Slot { start, weight, .. } = self.slots[old];
                next.set_weight_with_lag(slot, weight, 0.0);
                next.slots[slot].start = start;
                next.place(slot);
            }
        }
        next
    }

    fn set_weight_with_lag(&mut self, slot: usize, weight: u32, lag: f64) {
        let it = &mut self.slots[slot];
        self.total = self.total - u64::from(it.weight) + u64::from(weight);
        self.tick = PICK / self.total.max(1);
        it.weight = weight;
        if weight == 0 {
            self.turns.leave(slot);
            return;
        }
        it.cost = PICK / u64::from(weight);
        let distance = (lag.abs().min(1.0) * it.cost as f64) as u64;
        it.start = if lag >= 0.0 {
            self.now.saturating_sub(distance)
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
            self.turns.leave(slot);
            self.aside.push(slot);
        };
        if !self.aside.is_empty() {
            // That time jumped because of those that this one call has tried is no reason to owe all others more.
            self.now = now;
            while let Some(slot) = self.aside.pop() {
                self.place(slot);
            }
        }
        found
    }

    /// Charge a slot for a pick, proposed or not.
    pub fn charge(&mut self, slot: usize) {
        let Slot {
            start,
            cost,
            weight,
        } = self.slots[slot];
        if weight == 0 {
            return;
        }
        self.has_begun = true;
        // One that was passed over is owed at most a pick, one that was picked out of turn owes at most one.
        let due = start + cost;
        let least = self.now.saturating_sub(self.tick);
        let start = due.clamp(least, self.now + self.tick + cost);
        self.slots[slot].start = start;
        self.advance(self.tick);
        self.place(slot);
        if start != due {
            let picks = due.abs_diff(start) as f64 / cost as f64;
            self.others_bear(if due > start { picks } else { -picks });
        }
    }

    /// The slot had its turn and did not take it: what it was owed is gone.
    pub fn forfeit(&mut self, slot: usize) {
        if self.slots[slot].weight > 0 && self.slots[slot].start < self.now {
            let lost = self.lag(slot);
            self.slots[slot].start = self.now;
            self.place(slot);
            self.others_bear(-lost);
        }
    }

    /// All that is owed adds up to nothing: where one slot is given `picks` more without a pick, all are owed less.
    fn others_bear(&mut self, picks: f64) {
        let distance = (picks.abs() * self.tick as f64) as u64;
        if !self.has_begun {
            return;
        }
        if picks > 0.0 {
            self.now = self.now.saturating_sub(distance);
        } else {
            self.advance(distance);
        }
    }

    fn advance(&mut self, by: u64) {
        self.now += by;
        if self.now > LATEST {
            self.set_back();
        }
    }

    /// When the slot's turn ends: of equals the earlier one is picked.
    pub fn end(&self, slot: usize) -> u64 {
        self.slots[slot].start + self.slots[slot].cost
    }

    fn first(&mut self) -> Option<usize> {
        loop {
            let next = self.turns.first_to_start();
            if let Some(slot) = next.filter(|slot| self.slots[*slot].start <= self.now) {
                self.turns.begin(slot, self.end(slot));
                continue;
            }
            match self.turns.first_to_end() {
                Some(slot) if self.slots[slot].start <= self.now => return Some(slot),
                // Time went back a little.
                Some(slot) => self.place(slot),
                // Nobody's start has come: time jumps to the first one's.
                None => self.now = self.slots[next?].start,
            }
        }
    }

    fn place(&mut self, slot: usize) {
        let start = self.slots[slot].start;
        if start <= self.now {
            self.turns.begin(slot, self.end(slot));
        } else {
            self.turns.wait(slot, start);
        }
    }

    /// Move all times so that it is [`ORIGIN`] again.
    #[cold]
    fn set_back(&mut self) {
        let by = self.now - ORIGIN;
        self.now = ORIGIN;
        for slot in 0..self.slots.len() {
            let start = &mut self.slots[slot].start;
            *start = start.saturating_sub(by);
            if self.slots[slot].weight > 0 {
                self.place(slot);
            }
        }
    }
}
