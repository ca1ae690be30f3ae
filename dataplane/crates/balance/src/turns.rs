//! Slots by when their turn begins, and by when it ends: a tree of the least of both, in which a slot moves in as many
//! steps as the tree has levels, each a comparison of two neighbours. A heap would take more of them, and move rows.

/// No time: the slot is not among those with such a time.
const NEVER: u64 = u64::MAX;

/// The least times of a slot, or of all below a node. Their lowest bits are the slot's number: whose time is the least
/// stands at the top, without a way down; of equals the first slot is first.
#[derive(Clone, Copy, Debug)]
struct Times {
    end: u64,
    start: u64,
}

#[derive(Debug)]
pub struct Turns {
    /// The pair at 0 is not used; those at n are the children of node n, whose own children are 2n and 2n + 1.
    pairs: Vec<[Times; 2]>,
    least: Times,
}

impl Turns {
    /// Room for slots below `slots`, none of which has a turn.
    pub fn new(slots: usize) -> Self {
        let none = Times {
            end: NEVER,
            start: NEVER,
        };
        Self {
            pairs: vec![[none; 2]; slots.next_power_of_two()],
            least: none,
        }
    }

    /// The slot's turn has begun, and ends then.
    pub fn begin(&mut self, slot: usize, end: u64) {
        let (end, start) = (self.numbered(slot, end), NEVER);
        self.set(slot, Times { end, start });
    }

    /// The slot's turn will begin then.
    pub fn wait(&mut self, slot: usize, start: u64) {
        let (end, start) = (NEVER, self.numbered(slot, start));
        self.set(slot, Times { end, start });
    }

    /// The slot has no turn.
    pub fn leave(&mut self, slot: usize) {
        let (end, start) = (NEVER, NEVER);
        self.set(slot, Times { end, start });
    }

    /// The slot whose turn ends first of those that have begun.
    pub fn first_to_end(&self) -> Option<usize> {
        self.slot(self.least.end)
    }

    /// The slot whose turn begins first of those that have not.
    pub fn first_to_start(&self) -> Option<usize> {
        self.slot(self.least.start)
    }

    fn set(&mut self, slot: usize, times: Times) {
        let (mut node, mut least) = (self.pairs.len() + slot, times);
        while node > 1 {
            let (pair, side) = (&mut self.pairs[node / 2], node % 2);
            pair[side] = least;
            let other = pair[1 - side];
            least = Times {
                end: least.end.min(other.end),
                start: least.start.min(other.start),
            };
            node /= 2;
        }
        self.least = least;
    }

    /// The bits that are the slot's number.
    fn mask(&self) -> u64 {
        self.pairs.len() as u64 - 1
    }

    fn numbered(&self, slot: usize, time: u64) -> u64 {
        time & !self.mask() | slot as u64
    }

    fn slot(&self, time: u64) -> Option<usize> {
        (time != NEVER).then_some((time & self.mask()) as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Turns;
    use crate::contract_tests::config;

    proptest! {
        #![proptest_config(config(200))]

        #[test]
        fn the_first_of_each_kind_is_found_however_slots_move(
            slots in 1usize..40, moves in prop::collection::vec((0usize..40, 0u64..30, 0u8..3), 1..200)
        ) {
            let mut turns = Turns::new(slots);
            let (mut ends, mut starts) = (vec![u64::MAX; slots], vec![u64::MAX; slots]);
            for (slot, time, kind) in moves {
                // Times that differ by less than there are slots are alike.
                let (slot, time) = (slot % slots, time * 64);
                (ends[slot], starts[slot]) = (u64::MAX, u64::MAX);
                match kind {
                    0 => turns.leave(slot),
                    1 => {
                        ends[slot] = time;
                        turns.begin(slot, time);
                    }
                    _ => {
                        starts[slot] = time;
                        turns.wait(slot, time);
                    }
                }
                let first = |of: &[u64]| (0..slots).filter(|&slot| of[slot] < u64::MAX).min_by_key(|&slot| of[slot]);
                prop_assert_eq!(turns.first_to_end(), first(&ends));
                prop_assert_eq!(turns.first_to_start(), first(&starts));
            }
        }
    }
}
