//! Which models a cluster's endpoints have answered for lately: what tells an endpoint that has not loaded a model yet
//! from a caller that asks for one that nobody has.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustc_hash::FxHasher;

use super::route_key::RouteKey;

/// Models that are remembered at most; beyond it the ones called last.
const PLACES: usize = 256;
/// So long a model that was answered for counts as there.
const LATELY: Duration = Duration::from_secs(600);

/// A fixed table without locks. A place holds half of a key's hash and the second of its last good answer; where two
/// models share a place, the one called last is remembered.
pub struct Loaded {
    started: Instant,
    places: Box<[AtomicU64; PLACES]>,
}

// === impl Loaded ===

impl Loaded {
    pub fn new(started: Instant) -> Self {
        Self {
            started,
            places: Box::new([const { AtomicU64::new(0) }; PLACES]),
        }
    }

    /// An endpoint answered OK for this model and version at this time.
    pub fn note(&self, key: &RouteKey, now: Instant) {
        if key.model.is_none() {
            return;
        }
        let (place, tag) = self.place(key);
        let entry = tag | self.seconds(now);
        // Written once a second: no cache line moves between workers for each call.
        if place.load(Relaxed) != entry {
            place.store(entry, Relaxed);
        }
    }

    /// Whether an endpoint answered for this model and version lately.
    pub fn has(&self, key: &RouteKey, now: Instant) -> bool {
        if key.model.is_none() {
            return false;
        }
        let (place, tag) = self.place(key);
        let entry = place.load(Relaxed);
        let age = self
            .seconds(now)
            .saturating_sub(entry & u64::from(u32::MAX));
        entry & !u64::from(u32::MAX) == tag && age <= LATELY.as_secs()
    }

    /// The key's place, and what marks it as the key's.
    fn place(&self, key: &RouteKey) -> (&AtomicU64, u64) {
        let mut hasher = FxHasher::default();
        (&key.model, &key.version, &key.label).hash(&mut hasher);
        let hash = hasher.finish();
        // Never 0, as an empty place is.
        let tag = (hash | 1 << 63) & !u64::from(u32::MAX);
        (&self.places[hash as usize % PLACES], tag)
    }

    fn seconds(&self, now: Instant) -> u64 {
        let seconds = now.saturating_duration_since(self.started).as_secs();
        seconds.min(u32::MAX.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(model: &str, version: Option<&str>) -> RouteKey {
        RouteKey {
            model: Some(model.to_owned()),
            version: version.map(str::to_owned),
            label: None,
        }
    }

    #[test]
    fn a_model_counts_as_there_for_ten_minutes_after_its_last_good_answer() {
        let start = Instant::now();
        let loaded = Loaded::new(start);
        assert!(!loaded.has(&key("m", None), start));
        loaded.note(&key("m", None), start);
        let later = |seconds| start + Duration::from_secs(seconds);
        assert!(loaded.has(&key("m", None), later(600)));
        assert!(!loaded.has(&key("m", None), later(601)));
    }

    #[test]
    fn another_version_another_model_and_no_model_do_not() {
        let start = Instant::now();
        let loaded = Loaded::new(start);
        loaded.note(&key("m", Some("1")), start);
        loaded.note(&RouteKey::default(), start);
        assert!(loaded.has(&key("m", Some("1")), start));
        for other in [
            key("m", Some("2")),
            key("m", None),
            key("n", Some("1")),
            RouteKey::default(),
        ] {
            assert!(!loaded.has(&other, start), "{other:?}");
        }
    }
}
