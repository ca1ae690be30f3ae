//! How a caller's calls ended.

use crate::stats::CodeCounters;

/// Callers that have a series of their own in /metrics; the others share one.
const MOST_SERIES: usize = 1000;

pub struct Counts {
    /// Kept as long as the caller is in the document: what is counted never moves from one series to another.
    pub has_own_series: bool,
    pub codes: CodeCounters,
}

// === impl Counts ===

impl Counts {
    /// `others`: callers that have a series of their own already.
    pub fn new(others: usize) -> Self {
        Self {
            has_own_series: others < MOST_SERIES,
            codes: CodeCounters::default(),
        }
    }
}
