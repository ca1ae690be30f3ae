//! Endpoints that come and go, connect and get lost, and who of them has a share.

use rustc_hash::FxHashMap;

use super::balancer::Balancer;
use super::endpoint::{Endpoint, State};
use super::policy::Policy;
use super::settings::Settings;
use super::weight::Weight;
use super::{Entry, Health, Nanos, SECOND};

/// How long what was learned of a removed endpoint is kept, and of how many.
const KEPT: Nanos = 60 * SECOND;
const MOST_KEPT: usize = 1000;
impl Balancer {
    /// Take new settings; what was learned stays, but for effective weights when their scale changes.
    pub fn configure(&mut self, settings: &Settings, now: Nanos) {
        if self.settings == *settings {
            return;
        }
        if self.settings.scale() != settings.scale() {
            for endpoint in &mut self.endpoints {
                endpoint.weight = Weight::new(endpoint.weight.configured(), settings.scale());
            }
            self.gone.clear();
        }
        let is_other = self.settings.policy != settings.policy;
        self.settings = settings.clone();
        if is_other {
            self.policy = Policy::new(&settings.policy, &self.endpoints);
            self.endpoints
                .iter_mut()
                .for_each(|endpoint| endpoint.share = 0);
        }
        if !settings.ejection {
            for endpoint in &mut self.endpoints {
                endpoint.state = State::Warm;
            }
        }
        self.mask(now);
    }

    /// Replace the whole set; endpoints whose id was there before, or until a minute ago, keep what was learned.
    pub fn update(&mut self, entries: &[Entry], now: Nanos) {
        let is_first = self.endpoints.is_empty() && self.gone.is_empty();
        let mut old: FxHashMap<u64, (Option<usize>, Endpoint)> = FxHashMap::default();
        self.gone.retain(|(_, at)| now.saturating_sub(*at) < KEPT);
        for (endpoint, _) in self.gone.drain(..) {
            old.insert(endpoint.id, (None, endpoint));
        }
        for (slot, endpoint) in self.endpoints.drain(..).enumerate() {
            old.insert(endpoint.id, (Some(slot), endpoint));
        }
        let (scale, slow_start) = (self.settings.scale(), self.settings.slow_start_new);
        let mut places = Vec::with_capacity(entries.len());
        for entry in entries {
            let (place, mut endpoint) = old.remove(&entry.id).unwrap_or_else(|| {
                let weight = Weight::new(entry.weight, scale);
                let mut endpoint = Endpoint::new(entry.id, weight, entry.live);
                if !is_first {
                    endpoint.start_slowly(slow_start, now);
                }
                (None, endpoint)
            });
            endpoint.weight.reconfigure(entry.weight);
            endpoint.is_live = entry.live;
            endpoint.share = 0;
            self.endpoints.push(endpoint);
            places.push(place);
        }
        self.gone.extend(old.into_values().map(|(_, mut endpoint)| {
            endpoint.forget_calls();
            (endpoint, now)
        }));
        self.gone.truncate(MOST_KEPT);
        if let [only] = &mut self.endpoints[..] {
            only.state = State::Warm;
        }
        self.scratch = Vec::with_capacity(self.endpoints.len());
        let before = std::mem::replace(&mut self.policy, Policy::LeastRequest);
        self.policy = before.renewed(&self.endpoints, &places);
        self.in_flight = self.endpoints.iter().map(|it| it.in_flight).sum();
        self.mask(now);
    }

    /// A connection to the endpoint is there, or none is left.
    pub fn set_live(&mut self, slot: usize, live: bool, now: Nanos) {
        let slow_start = self.settings.slow_start;
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        if endpoint.is_live == live {
            return;
        }
        endpoint.is_live = live;
        if live && endpoint.was_live {
            endpoint.start_slowly(slow_start, now);
        }
        endpoint.was_live |= live;
        self.mask(now);
    }

    /// What the endpoint says of its readiness.
    pub fn set_health(&mut self, slot: usize, health: Health, now: Nanos) {
        let slow_start = self.settings.slow_start;
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        let before = std::mem::replace(&mut endpoint.health, health);
        if before == health {
            return;
        }
        if matches!(before, Health::NotServing | Health::Loading) {
            endpoint.start_slowly(slow_start, now);
        }
        self.mask(now);
    }

    /// Decide who has a share: those that are usable; where none is, all that are connected.
    pub(super) fn mask(&mut self, now: Nanos) {
        let is_panic = !self.endpoints.iter().any(Endpoint::is_usable);
        self.weight = 0;
        self.heaviest = 0;
        for slot in 0..self.endpoints.len() {
            let endpoint = &mut self.endpoints[slot];
            let is_in = endpoint.is_usable() || (is_panic && endpoint.is_live);
            if !is_in {
                endpoint.share = 0;
                self.policy.set_weight(slot, 0, &mut self.random);
                continue;
            }
            self.weight += u64::from(endpoint.weight.configured());
            endpoint.share = self.policy.weight_of(endpoint, now);
            endpoint.room = endpoint.room_weight(now);
            let share = endpoint.share;
            self.heaviest = self.heaviest.max(share);
            self.policy.set_weight(slot, share, &mut self.random);
        }
    }
}
