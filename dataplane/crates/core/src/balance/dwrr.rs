//! Dynamic weighted round robin.

use super::{Entry, Outcome, Picker};

#[derive(Default)]
pub struct Dwrr {}

impl Picker for Dwrr {
    fn update(&mut self, _entries: &[Entry]) {}
    fn set_live(&mut self, _index: usize, _live: bool) {}
    fn pick(&mut self, _tried: &[usize]) -> Option<usize> {
        None
    }
    fn report(&mut self, _index: usize, _outcome: Outcome) {}
    fn effective_weight(&self, _index: usize) -> u32 {
        0
    }
}
