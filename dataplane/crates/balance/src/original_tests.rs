//! dl_inference's rule: `policy: dl` is it, and the default policy's weights are its weights, scaled.

use proptest::prelude::*;

use super::contract_tests::{balancer, call, config};
use super::swrr::Swrr;
use super::weight::Weight;
use super::*;

/// The rule of dl_inference's TensorflowServingBlockingStub, with the weights that it never set.
struct Original {
    weight: Vec<i64>,
    effective: Vec<i64>,
    current: Vec<i64>,
}

impl Original {
    fn new(weights: &[u32]) -> Self {
        let weight: Vec<i64> = weights.iter().map(|&weight| i64::from(weight)).collect();
        Self {
            effective: weight.clone(),
            current: vec![0; weight.len()],
            weight,
        }
    }

    fn pick(&mut self) -> usize {
        let (mut best, mut total) = (0, 0);
        for i in 0..self.weight.len() {
            self.current[i] += self.effective[i];
            total += self.effective[i];
            if self.current[best] < self.current[i] {
                best = i;
            }
        }
        self.current[best] -= total;
        best
    }

    fn end(&mut self, i: usize, ok: bool) {
        if ok {
            if self.effective[i] < self.weight[i] {
                self.effective[i] += (self.weight[i] - self.effective[i] + 1) >> 1;
            }
        } else if self.effective[i] != 1 {
            self.effective[i] >>= 1;
        }
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn the_policy_dl_weighs_and_picks_as_the_original(
        weights in prop::collection::vec(1u32..=65535, 1..10),
        ends in prop::collection::vec(any::<bool>(), 0..400)
    ) {
        let mut original = Original::new(&weights);
        let mut ours = balancer(&Settings::original(), &weights);
        for ok in ends {
            let outcome = if ok { Outcome::Success } else { Outcome::Hard };
            let slot = original.pick();
            prop_assert_eq!(call(&mut ours, 0, |_| outcome), slot);
            original.end(slot, ok);
        }
    }

    #[test]
    fn at_scale_one_the_effective_weights_are_the_originals(
        weight in 1u32..=65535, ends in prop::collection::vec(any::<bool>(), 0..300)
    ) {
        let (mut ours, mut original) = (Weight::new(weight, 1), Original::new(&[weight]));
        for ok in ends {
            if ok { ours.succeed() } else { ours.fail() }
            original.end(0, ok);
            prop_assert_eq!(i64::from(ours.effective()), original.effective[0]);
        }
    }
}

#[test]
fn the_originals_scan_gives_equal_turns_to_equals() {
    let mut swrr = Swrr::new(3);
    (0..3).for_each(|slot| swrr.set_weight(slot, 1));
    let picks: Vec<_> = (0..6).filter_map(|_| swrr.pick(&[])).collect();
    assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
}
