//! The policies: each chooses among the endpoints that have a share.

use super::endpoint::Endpoint;
use super::maglev::Maglev;
use super::random::Random;
use super::scheduler::Scheduler;
use super::swrr::Swrr;
use super::{Ask, Nanos};

/// Up to so many endpoints all are compared, of more a random sample.
const SMALL: usize = 16;
const SAMPLE: usize = 8;
/// Most calls in flight at an endpoint, relative to its share of all: 5/4.
const BOUND: (u64, u64) = (5, 4);
/// Time that is assumed of an endpoint that has not answered yet, where only relations count.
const UNKNOWN_TIME: f64 = 1e6;

#[derive(Debug)]
pub enum Policy {
    /// Dynamic weighted round robin.
    Dwrr(Scheduler),
    /// Round robin by configured weights.
    RoundRobin(Scheduler),
    /// The original's rule.
    Original(Swrr),
    /// The better of two random ones, by time and calls in flight.
    TwoChoices,
    /// The fewest calls in flight.
    LeastRequest,
    /// By the hash of a key.
    Maglev(Maglev),
}

/// The endpoints of a cluster as a policy sees them.
pub struct Fleet<'a> {
    pub endpoints: &'a [Endpoint],
    /// Attempts in flight at all of them.
    pub in_flight: u32,
    /// Sum of the configured weights of those that have a share.
    pub weight: u64,
    /// Largest share of one.
    pub heaviest: u32,
    /// Whether calls in flight decide (`dwrr`).
    pub compares: bool,
    pub now: Nanos,
}

/// An endpoint as calls in flight are compared.
#[derive(Clone, Copy)]
struct Candidate {
    slot: usize,
    /// It has said so.
    is_full: bool,
    /// In flight, with one more.
    calls: u64,
    room: u64,
}

impl Candidate {
    /// Whether it has fewer calls for its room; of equals the lower `order` is better.
    fn is_better(&self, other: &Self, order: impl Fn(usize) -> u64) -> bool {
        if self.is_full != other.is_full {
            return other.is_full;
        }
        let (own, others) = (self.calls * other.room, other.calls * self.room);
        own < others || (own == others && order(self.slot) < order(other.slot))
    }
}

impl Policy {
    /// The policy of this name over endpoints that have no share yet.
    pub fn new(name: &str, endpoints: &[Endpoint]) -> Self {
        let slots = endpoints.len();
        match name {
            "round_robin" => Self::RoundRobin(Scheduler::new(slots)),
            "dl" => Self::Original(Swrr::new(slots)),
            "p2c" => Self::TwoChoices,
            "least_request" => Self::LeastRequest,
            "maglev" => Self::Maglev(Maglev::new(&identities(endpoints))),
            _ => Self::Dwrr(Scheduler::new(slots)),
        }
    }

    /// The policy for another set of endpoints; `places` are their slots in the last one. What they were owed stays.
    pub fn renewed(self, endpoints: &[Endpoint], places: &[Option<usize>]) -> Self {
        match self {
            Self::Dwrr(before) => Self::Dwrr(before.renewed(places)),
            Self::RoundRobin(before) => Self::RoundRobin(before.renewed(places)),
            Self::Original(before) => Self::Original(before.renewed(places)),
            Self::Maglev(table) => {
                let identities = identities(endpoints);
                if table.is_of(&identities) {
                    return Self::Maglev(table);
                }
                Self::Maglev(Maglev::new(&identities))
            }
            same @ (Self::TwoChoices | Self::LeastRequest) => same,
        }
    }

    /// The weight by which an endpoint would be picked.
    pub fn weight_of(&self, endpoint: &Endpoint, now: Nanos) -> u32 {
        match self {
            Self::RoundRobin(_) => endpoint.configured_share(now),
            Self::Original(_) => endpoint.weight.effective(),
            // It compares times itself.
            Self::TwoChoices => endpoint.weight_with(1.0, now),
            _ => endpoint.pick_weight(now),
        }
    }

    pub fn set_weight(&mut self, slot: usize, weight: u32, random: &mut Random) {
        match self {
            Self::Dwrr(scheduler) | Self::RoundRobin(scheduler) => {
                scheduler.set_weight(slot, weight, random);
            }
            Self::Original(swrr) => swrr.set_weight(slot, weight),
            Self::TwoChoices | Self::LeastRequest | Self::Maglev(_) => {}
        }
    }

    /// The endpoint of the next call.
    pub fn choose(
        &mut self,
        fleet: &Fleet<'_>,
        ask: &Ask<'_>,
        random: &mut Random,
    ) -> Option<usize> {
        match self {
            Self::Dwrr(scheduler) => {
                let first = scheduler.propose(ask.tried)?;
                let chosen = fleet.instead_of(first, scheduler, ask, random);
                if chosen != first {
                    scheduler.forfeit(first);
                }
                scheduler.charge(chosen);
                Some(chosen)
            }
            Self::RoundRobin(scheduler) => {
                let slot = scheduler.propose(ask.tried)?;
                scheduler.charge(slot);
                Some(slot)
            }
            Self::Original(swrr) => swrr.pick(ask.tried),
            Self::TwoChoices => {
                let one = fleet.any(ask.tried, random)?;
                let other = fleet.any_but(one, ask.tried, random).unwrap_or(one);
                Some(fleet.better_of(one, other))
            }
            Self::LeastRequest => {
                let start = fleet.any(ask.tried, random)?;
                if fleet.is_idle(start) {
                    return Some(start);
                }
                Some(fleet.least(start, ask.tried, |_| 0, random))
            }
            Self::Maglev(table) => {
                // Without a key a call may go anywhere.
                let key = ask.key.unwrap_or_else(|| random.next());
                let tries = 64 * fleet.endpoints.len();
                let fits = |slot: &usize| fleet.may_take(*slot, ask.tried) && !fleet.is_over(*slot);
                let found = table.order(key).take(tries).find(fits);
                found.or_else(|| fleet.any(ask.tried, random))
            }
        }
    }
}

fn identities(endpoints: &[Endpoint]) -> Vec<(u64, u32)> {
    let identity = |it: &Endpoint| (it.id, it.weight.configured());
    endpoints.iter().map(identity).collect()
}

impl Fleet<'_> {
    fn may_take(&self, slot: usize, tried: &[usize]) -> bool {
        self.endpoints[slot].share > 0 && !tried.contains(&slot)
    }

    /// The proposed endpoint, or one that has fewer calls in flight for its weight.
    fn instead_of(
        &self,
        first: usize,
        scheduler: &Scheduler,
        ask: &Ask<'_>,
        random: &mut Random,
    ) -> usize {
        if !self.compares || self.is_idle(first) {
            return first;
        }
        // Of equals the one whose turn ends first: the order of round robin.
        self.least(first, ask.tried, |slot| scheduler.end(slot), random)
    }

    /// The least loaded endpoint for its weight: of all if they are few, else of a sample and `start`.
    fn least(
        &self,
        start: usize,
        tried: &[usize],
        order: impl Fn(usize) -> u64,
        random: &mut Random,
    ) -> usize {
        let all = self.endpoints.len();
        let mut best = self.candidate(start);
        let mut look = |slot: usize| {
            let one = self.candidate(slot);
            if one.is_better(&best, &order) && self.may_take(slot, tried) {
                best = one;
            }
        };
        if all <= SMALL {
            (0..all).for_each(look);
            return best.slot;
        }
        (0..SAMPLE).for_each(|_| look(random.below(all)));
        if self.is_over(best.slot) {
            (0..all).for_each(|slot| {
                let one = self.candidate(slot);
                if one.is_better(&best, &order) && self.may_take(slot, tried) {
                    best = one;
                }
            });
        }
        best.slot
    }

    fn candidate(&self, slot: usize) -> Candidate {
        let endpoint = &self.endpoints[slot];
        Candidate {
            slot,
            is_full: endpoint.full_until > self.now,
            calls: endpoint.load() + 1,
            room: u64::from(endpoint.room),
        }
    }

    /// Whether one more call would be more than a quarter above the endpoint's share of all calls in flight.
    pub fn is_over(&self, slot: usize) -> bool {
        let endpoint = &self.endpoints[slot];
        let (own, all) = (u64::from(endpoint.in_flight), u64::from(self.in_flight) + 1);
        // One more than `own` is above a bound that is rounded up where `own` has reached it.
        let share = u64::from(endpoint.weight.configured());
        own > 0 && own * self.weight * BOUND.1 >= all * share * BOUND.0
    }

    /// Nothing waits there, and it has not just said that it is full.
    fn is_idle(&self, slot: usize) -> bool {
        let endpoint = &self.endpoints[slot];
        endpoint.load() == 0 && endpoint.full_until <= self.now
    }

    /// A random endpoint that may be taken, by weight.
    fn any(&self, tried: &[usize], random: &mut Random) -> Option<usize> {
        self.any_but(usize::MAX, tried, random)
    }

    fn any_but(&self, but: usize, tried: &[usize], random: &mut Random) -> Option<usize> {
        let all = self.endpoints.len();
        if all == 0 {
            return None;
        }
        let fits = |slot: &usize| *slot != but && self.may_take(*slot, tried);
        for _ in 0..2 * SAMPLE {
            let slot = random.below(all);
            let weight = self.endpoints[slot].share as usize;
            if fits(&slot) && random.below(self.heaviest.max(1) as usize) < weight {
                return Some(slot);
            }
        }
        let start = random.below(all);
        (0..all).map(|step| (start + step) % all).find(fits)
    }

    /// The one of two on which a call takes less time. While the first has nothing to do, only a much faster one is
    /// better: an endpoint with a lower weight is to get its share.
    fn better_of(&self, one: usize, other: usize) -> usize {
        let time = |slot: usize| self.endpoints[slot].speed.typical();
        let is_slow = match (time(one), time(other)) {
            (Some(one), Some(other)) => one > other + other / 2,
            _ => false,
        };
        if (self.is_idle(one) && !is_slow) || self.expected_time(one) <= self.expected_time(other) {
            one
        } else {
            other
        }
    }

    /// How long a call would take, relative to the other endpoints.
    fn expected_time(&self, slot: usize) -> f64 {
        let endpoint = &self.endpoints[slot];
        let time = endpoint
            .speed
            .typical()
            .map_or(UNKNOWN_TIME, |time| time as f64);
        let full = f64::from(u8::from(endpoint.full_until > self.now)) * 1e3;
        time * (endpoint.load() as f64 + 1.0 + full) / f64::from(endpoint.share)
    }
}
