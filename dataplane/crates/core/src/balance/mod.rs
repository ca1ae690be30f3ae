//! Which endpoint gets the next call. Pure logic: no I/O, no clock, no lock; the cluster owns the lock.

pub mod dwrr;

/// How one attempt ended, as the balancer sees it (design.md, error table, last column).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered.
    Success,
    /// The endpoint is at fault.
    Failure,
    /// Nobody's fault, or the caller's: changes nothing.
    Neutral,
}

/// One endpoint of a set given to [`Picker::update`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Identity that survives updates; the cluster gives the same id to the same address.
    pub id: u64,
    /// Configured weight, 1..=65535.
    pub weight: u32,
    /// Whether the endpoint may be picked now.
    pub live: bool,
}

/// Chooses endpoints of one cluster. Indexes are positions in the last [`update`](Picker::update).
pub trait Picker: Send {
    /// Replace the whole set; entries whose id was there before keep their learned state.
    fn update(&mut self, entries: &[Entry]);
    /// Mask or unmask one endpoint.
    fn set_live(&mut self, index: usize, live: bool);
    /// The next endpoint that is live and not in `tried`; `None` when there is none.
    fn pick(&mut self, tried: &[usize]) -> Option<usize>;
    /// Learn from the end of an attempt.
    fn report(&mut self, index: usize, outcome: Outcome);
    /// Effective weight of one endpoint, in 1/256 of a configured weight of 1.
    fn effective_weight(&self, index: usize) -> u32;
    /// Whether one more success would change nothing.
    fn is_full(&self, index: usize) -> bool;
}

/// Names of all policies, as configuration spells them; Python validates against this list.
pub const NAMES: &[&str] = &["dwrr"];

/// Make a picker by its policy's name; `None` when the name is not in [`NAMES`].
pub fn picker(name: &str) -> Option<Box<dyn Picker>> {
    match name {
        "dwrr" => Some(Box::new(dwrr::Dwrr::default())),
        _ => None,
    }
}

#[cfg(test)]
mod contract_tests;
