//! When an endpoint gets no calls for a while. All limits are relative to the others: while all fail alike nobody is
//! ejected, and of few endpoints never more than half.

use super::endpoint::{Endpoint, Reason, State};
use super::random::Random;
use super::share::Share;
use super::{Nanos, SECOND};

/// Chance of a streak of an endpoint that is as good as the others: ln 1e-6.
const CHANCE: f64 = -13.815_5;
/// Samples before a rate says anything; and of an endpoint whose peers hardly ever fail.
const ENOUGH: f64 = 20.0;
const ENOUGH_AMONG_GOOD: f64 = 8.0;
const GOOD: f64 = 0.995;
const FIRST: Nanos = SECOND;
const LONGEST: Nanos = 3 * SECOND;
/// Health for so long makes earlier ejections forgotten.
const FORGET: Nanos = 30 * SECOND;

/// Failures in a row that eject an endpoint when the others keep `health` (0..1) of their weight; `least` of them are
/// enough while the others are well.
pub fn streak_limit(health: f64, least: u32) -> u32 {
    let health = health.clamp(0.001, 0.999);
    let chance = (CHANCE / (1.0 - health).ln()).ceil();
    (chance as u32).max(least)
}

/// Whether a rate of successes is far below that of the others: 0.3, and four standard errors of its samples.
pub fn is_far_below(own: &Share, others: &Share) -> bool {
    let usual = others.ratio();
    let enough = if usual > GOOD {
        ENOUGH_AMONG_GOOD
    } else {
        ENOUGH
    };
    if own.total < enough || others.total < ENOUGH {
        return false;
    }
    let deviation = (usual * (1.0 - usual) / own.total).sqrt();
    own.ratio() < usual - (4.0 * deviation).max(0.3)
}

/// Whether one more of `all` endpoints may be ejected: half of them at most, and half of them stay usable.
pub fn may_eject(endpoints: &[Endpoint]) -> bool {
    let all = endpoints.len();
    let count = |is: fn(&Endpoint) -> bool| endpoints.iter().filter(|it| is(it)).count();
    let ejected = count(|it| it.state != State::Warm);
    let usable = count(Endpoint::is_usable);
    all > 1 && ejected < (all / 2).max(1) && usable > 1 && (usable - 1) * 2 >= all
}

/// Take an endpoint out for a second, and longer each time, 20 % either way.
pub fn eject(endpoint: &mut Endpoint, reason: Reason, random: &mut Random, now: Nanos) {
    if let Some((last, _)) = endpoint.last_ejection
        && now.saturating_sub(last) > LONGEST + FORGET
    {
        endpoint.ejections = 0;
    }
    let length = (FIRST << endpoint.ejections.min(8)).min(LONGEST) as f64;
    let jitter = 0.8 + 0.4 * random.fraction();
    endpoint.ejections += 1;
    endpoint.all_ejections += 1;
    endpoint.last_ejection = Some((now, reason));
    endpoint.state = State::Ejected {
        until: now + (length * jitter) as Nanos,
    };
}

/// Take an endpoint back whose probe succeeded, or that nobody could probe: with 1/8 of its weight.
pub fn restore(endpoint: &mut Endpoint, slow_start: Nanos, now: Nanos) {
    endpoint.state = State::Warm;
    endpoint.weight.set_part(8);
    endpoint.streak = 0;
    endpoint.answers = Share::default();
    endpoint.start_slowly(slow_start, now);
}
