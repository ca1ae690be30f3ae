//! What each call is: drawn by chance, and the same again for the same seed and number.

use std::time::Duration;

/// How messages go to and fro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One message each way.
    Unary,
    /// A stream whose next message waits for the answer to the one before.
    Turns,
    /// A stream of messages that wait for nothing.
    Stream,
}

/// How fast the caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Quick,
    SlowWriter,
    SlowReader,
}

/// What ends a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its answer, or its deadline, which is far.
    Answer,
    /// The caller cancels after this time, if there is no answer by then.
    Cancel(Duration),
    /// The caller cancels once the first message is answered.
    CancelAnswered,
    /// A deadline that is short. The caller waits to be told.
    Deadline(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Distinguishes its content from all others.
    pub call: u64,
    pub shape: Shape,
    /// Bytes of content by message.
    pub sizes: Vec<usize>,
    pub pace: Pace,
    pub end: End,
}

/// The largest message that the service takes is 16 MiB, with what is around the content.
const LARGEST: usize = (16 << 20) - 100;
/// Beyond this a caller is not slow too: a call would take minutes.
const SLOW_MOST: usize = 256 << 10;
const MOST_MESSAGES: usize = 12;

// === impl Plan ===

impl Plan {
    #[must_use]
    pub fn draw(seed: u64, call: u64) -> Plan {
        let mut random =
            fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (call << 1));
        let shape = match random.u32(..100) {
            ..80 => Shape::Unary,
            80..90 => Shape::Turns,
            _ => Shape::Stream,
        };
        let size = match random.u32(..10_000) {
            ..200 => 0,
            200..7000 => random.usize(1..2048),
            7000..9800 => between(&mut random, 2 << 10, 256 << 10),
            9800..9997 => between(&mut random, 256 << 10, 4 << 20),
            _ => LARGEST,
        };
        let count = match shape {
            Shape::Unary => 1,
            _ if size == LARGEST => 2,
            _ => random.usize(1..=MOST_MESSAGES),
        };
        let pace = match random.u32(..100) {
            ..3 if size <= SLOW_MOST => Pace::SlowWriter,
            3..6 if size <= SLOW_MOST => Pace::SlowReader,
            _ => Pace::Quick,
        };
        let end = match random.u32(..100) {
            ..10 => End::Cancel(Duration::from_micros(random.u64(..30_000))),
            10..15 => End::Deadline(Duration::from_millis(random.u64(1..60))),
            _ => End::Answer,
        };
        Plan {
            call: seed << 40 | call,
            shape,
            sizes: cut(&mut random, size, count),
            pace,
            end,
        }
    }

    /// Of ten small calls four are cancelled before their answer or while it comes, two within it, and four are not. More
    /// than half before the answer would be an attack.
    #[must_use]
    pub fn draw_small(seed: u64, call: u64) -> Plan {
        let mut random = fastrand::Rng::with_seed(seed ^ (call << 1));
        let (shape, end) = match call % 10 {
            0 | 3 | 5 | 8 => (
                Shape::Unary,
                End::Cancel(Duration::from_micros(random.u64(..3000))),
            ),
            1 | 6 => (Shape::Turns, End::CancelAnswered),
            _ => (Shape::Unary, End::Answer),
        };
        Plan {
            call: seed << 40 | call,
            shape,
            sizes: match shape {
                Shape::Unary => vec![random.usize(1..300)],
                _ => vec![random.usize(1..300), 1],
            },
            pace: Pace::Quick,
            end,
        }
    }

    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.shape != Shape::Unary
    }

    /// What it is counted as.
    #[must_use]
    pub fn name(&self) -> String {
        let end = match self.end {
            End::Answer => "",
            End::Cancel(_) => ", cancelled",
            End::CancelAnswered => ", cancelled within",
            End::Deadline(_) => ", short deadline",
        };
        format!("{:?} {:?}{end}", self.shape, self.pace).to_lowercase()
    }
}

/// Each factor as likely as another.
fn between(random: &mut fastrand::Rng, least: usize, most: usize) -> usize {
    let factor = (most as f64 / least as f64).powf(random.f64());
    (least as f64 * factor) as usize
}

/// A sum in so many parts, some of them empty.
fn cut(random: &mut fastrand::Rng, sum: usize, count: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (1..count).map(|_| random.usize(..=sum)).collect();
    cuts.extend([0, sum]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_of_call_is_drawn_and_the_same_again() {
        let plans: Vec<Plan> = (0..20_000).map(|call| Plan::draw(1, call)).collect();
        assert_eq!(plans[7], Plan::draw(1, 7));
        let names: BTreeSet<String> = plans.iter().map(Plan::name).collect();
        assert_eq!(names.len(), 3 * 3 * 3, "{names:?}");
        let sums: Vec<usize> = plans.iter().map(|it| it.sizes.iter().sum()).collect();
        for (least, most) in [
            (0, 1),
            (1, 2048),
            (1 << 20, 4 << 20),
            (LARGEST, LARGEST + 1),
        ] {
            assert!(
                sums.iter().any(|sum| (least..most).contains(sum)),
                "{least}"
            );
        }
        let calls: BTreeSet<u64> = plans.iter().map(|it| it.call).collect();
        assert_eq!(calls.len(), plans.len());
    }
}
