//! The dynamic weighted round robin of dl_inference, with weights of 100 (it never set any): halved by any error, half
//! of what is missing back by a success; one attempt.
//!
//! Source: dl_inference 7f8ba388, TensorflowServingBlockingStub.java, TensorflowServingService.java.

use dl_core::balancing::Nanos;

use crate::rule::{Ask, End, Finished, Habits, Picked, Refusal, Rule};

const SCALE: i64 = 100;

#[derive(Default)]
pub struct Seed {
    nodes: Vec<Node>,
}

struct Node {
    weight: i64,
    effective: i64,
    current: i64,
}

impl Rule for Seed {
    fn habits(&self) -> Habits {
        Habits::default()
    }

    fn update(&mut self, weights: &[u32], _now: Nanos) {
        for weight in &weights[self.nodes.len()..] {
            let weight = i64::from(*weight) * SCALE;
            self.nodes.push(Node {
                weight,
                effective: weight,
                current: 0,
            });
        }
    }

    fn pick(&mut self, _ask: &Ask<'_>, _now: Nanos) -> Result<Picked, Refusal> {
        let (mut total, mut best) = (0, None);
        for (slot, node) in self.nodes.iter_mut().enumerate() {
            node.current += node.effective;
            total += node.effective;
            if best.is_none_or(|(_, highest)| node.current > highest) {
                best = Some((slot, node.current));
            }
        }
        let (slot, _) = best.ok_or(Refusal::NoneLive)?;
        self.nodes[slot].current -= total;
        Ok(Picked {
            slot,
            is_probe: false,
        })
    }

    fn finish(&mut self, slot: usize, finished: &Finished, _now: Nanos) {
        let node = &mut self.nodes[slot];
        if finished.end.is_ok() {
            node.effective += (node.weight - node.effective + 1) >> 1;
        } else if node.effective != 1 {
            node.effective >>= 1;
        }
    }

    fn retries(&self, _end: End) -> bool {
        false
    }
}
