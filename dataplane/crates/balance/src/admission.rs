//! Whether an endpoint would answer one more call in time, and who has room where the chosen one has none.

use super::balancer::Balancer;
use super::{Ask, Nanos, Refusal, SECOND};

/// Part of a call's time left that a queue may take, and for calls of low priority and hedges.
const PATIENCE: f64 = 0.8;
const LOW_PATIENCE: f64 = 0.4;
/// Calls in flight that an endpoint may always have, however slow it was, and for calls of low priority and hedges.
const LEAST_ROOM: u32 = 8;
const LEAST_LOW_ROOM: u32 = 4;
impl Balancer {
    /// How many calls an endpoint may have so that one more ends in time; without end where that is not known.
    fn room(&self, slot: usize, ask: &Ask<'_>, now: Nanos) -> f64 {
        let endpoint = &self.endpoints[slot];
        let most = self.settings.max_in_flight.map_or(f64::INFINITY, f64::from);
        if !self.settings.admission {
            return most;
        }
        let rate = endpoint.capacity.per_second(endpoint.in_flight > 0, now);
        let patience = if ask.is_second() {
            LOW_PATIENCE
        } else {
            PATIENCE
        };
        match (ask.left, rate) {
            (Some(left), Some(rate)) => {
                let in_time = patience * left as f64 / SECOND as f64 * rate;
                in_time.max(f64::from(least_room(ask))).min(most)
            }
            _ => most,
        }
    }

    pub(super) fn has_room(&self, slot: usize, ask: &Ask<'_>, now: Nanos) -> bool {
        let in_flight = self.endpoints[slot].in_flight;
        let most = self.settings.max_in_flight.unwrap_or(u32::MAX);
        // Most of the time so few are there that their times need not be looked at.
        (in_flight < least_room(ask) && in_flight < most)
            || f64::from(in_flight) < self.room(slot, ask, now)
    }

    /// The endpoint with the most room, when the chosen one has none.
    pub(super) fn roomiest(&self, ask: &Ask<'_>, now: Nanos) -> Result<usize, Refusal> {
        let used = |slot: usize| {
            f64::from(self.endpoints[slot].in_flight) / self.room(slot, ask, now).max(1e-9)
        };
        let slots = 0..self.endpoints.len();
        let may = |slot: &usize| self.endpoints[*slot].share > 0 && !ask.tried.contains(slot);
        let best = slots
            .filter(may)
            .min_by(|a, b| used(*a).total_cmp(&used(*b)));
        let slot = best.ok_or(Refusal::NoneLive)?;
        if used(slot) < 1.0 {
            return Ok(slot);
        }
        let rate = self.endpoints[slot].capacity.per_second(true, now);
        let over = f64::from(self.endpoints[slot].in_flight) - self.room(slot, ask, now) + 1.0;
        let wait = rate.map_or(0.1, |rate| (over / rate).clamp(0.01, 1.0));
        Err(Refusal::Overloaded {
            retry_after: (wait * SECOND as f64) as Nanos,
        })
    }
}

/// How many calls in flight an endpoint may always have, when one more is this one.
fn least_room(ask: &Ask<'_>) -> u32 {
    if ask.is_second() {
        LEAST_LOW_ROOM
    } else {
        LEAST_ROOM
    }
}
