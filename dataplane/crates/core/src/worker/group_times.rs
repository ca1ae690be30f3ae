//! How long batches take, by the group of their calls: another shape is another time. What is not known of a group is
//! what is known of all together.

use rustc_hash::FxHashMap;

use super::times::Times;

/// Groups that have times of their own; of more, those that were served last.
const KEPT: usize = 64;

#[derive(Debug, Default)]
pub struct GroupTimes {
    all: Times,
    groups: FxHashMap<u64, (Times, u64)>,
    /// Batches so far.
    count: u64,
}

// === impl GroupTimes ===

impl GroupTimes {
    /// A batch of one group took so long.
    pub fn add(&mut self, group: u64, rows: usize, seconds: f64) {
        self.add_to_all(rows, seconds);
        self.count += 1;
        if self.groups.len() == KEPT
            && !self.groups.contains_key(&group)
            && let Some(oldest) = self.groups.iter().min_by_key(|(_, (_, at))| *at)
        {
            let oldest = *oldest.0;
            self.groups.remove(&oldest);
        }
        let (times, at) = self.groups.entry(group).or_default();
        times.add(rows, seconds);
        *at = self.count;
    }

    /// A call of the model took so long, in a batch of several groups.
    pub fn add_to_all(&mut self, rows: usize, seconds: f64) {
        self.all.add(rows, seconds);
    }

    pub fn of(&self, group: u64) -> &Times {
        self.groups
            .get(&group)
            .map_or(&self.all, |(times, _)| times)
    }

    pub fn all(&self) -> &Times {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_its_own_times_and_a_strange_one_those_of_all() {
        let mut times = GroupTimes::default();
        times.add(1, 1, 1.0);
        times.add(2, 1, 9.0);
        assert_eq!(times.of(1).expected(1), 1.0);
        assert_eq!(times.of(2).expected(1), 9.0);
        let all = times.all().expected(1);
        assert_eq!(times.of(3).expected(1), all);
    }

    #[test]
    fn of_too_many_groups_the_one_that_was_served_longest_ago_is_forgotten() {
        let mut times = GroupTimes::default();
        for group in 0..KEPT as u64 {
            times.add(group, 1, 1.0);
        }
        times.add(0, 1, 1.0);
        times.add(KEPT as u64, 1, 1.0);
        assert_eq!(times.groups.len(), KEPT);
        assert!(times.groups.contains_key(&0) && !times.groups.contains_key(&1));
    }
}
