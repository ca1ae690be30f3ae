//! What the balancer keeps of one endpoint.

use super::capacity::Capacity;
use super::share::Share;
use super::speed::Speed;
use super::weight::Weight;
use super::{Health, LoadReport, Nanos, SECOND};

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Warm,
    /// It gets no calls until then.
    Ejected { until: Nanos },
    /// One call is to find out whether it has healed.
    HalfOpen { since: Nanos, is_probed: bool },
}

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// So many failures one after the other.
    Streak(u32),
    /// It failed far more often than the others.
    Rate,
    /// The call that was to find out whether it had healed failed.
    Probe,
}

#[derive(Debug)]
pub struct Endpoint {
    pub id: u64,
    pub weight: Weight,
    pub is_live: bool,
    pub health: Health,
    pub state: State,
    /// Attempts in flight, and of those that are no streams the number and the sum of the start times.
    pub in_flight: u32,
    pub timed: u32,
    pub starts: u64,
    pub speed: Speed,
    pub capacity: Capacity,
    /// Successes among successes and hard failures.
    pub answers: Share,
    /// Neutral statuses among all.
    pub neutral: Share,
    /// It gives far more neutral statuses than the others: a model that is missing there, not callers' mistakes.
    pub is_suspect: bool,
    /// Hard failures since the last success.
    pub streak: u32,
    pub last_success: Nanos,
    /// When it last answered, well or badly, or had nothing to answer.
    pub last_answer: Nanos,
    pub last_pick: Nanos,
    /// It said that it has no room; until then others are asked first.
    pub full_until: Nanos,
    /// Ejections without 30 s of health between them, and the last one.
    pub ejections: u32,
    pub all_ejections: u64,
    pub last_ejection: Option<(Nanos, Reason)>,
    /// When it came back or was new, and how long it takes to its full share.
    pub slow_start: Option<(Nanos, Nanos)>,
    /// Whether it has ever been live: what connects first is not slow-started.
    pub was_live: bool,
    pub load: Option<(LoadReport, Nanos)>,
    /// Requests of other callers that wait there, as it said last.
    pub others: u32,
    /// Factors of the pick weight, as the last refresh found them.
    pub speed_factor: f64,
    pub room_factor: f64,
    pub load_factor: f64,
    /// Weight in place of the effective one while all endpoints fail, 0..1 of the full one.
    pub common: Option<f64>,
    /// It has been weak for so long without a call that one is to find out how it is.
    pub is_due: bool,
    /// Weight by which it is picked; 0: it is not.
    pub share: u32,
    /// Weight by which its calls in flight are compared with those of others: as `share`, but milder to the slow, which
    /// are to be used before the others have queues.
    pub room: u32,
}

/// What people are told of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// In 1/256 of a configured weight of 1.
    pub effective_weight: u32,
    /// Weight by which it is picked, in the same unit: with slowness, slow start and load; 0: not picked.
    pub pick_weight: u32,
    pub state: State,
    pub health: Health,
    pub last_ejection: Option<(Nanos, Reason)>,
    pub ejections: u64,
    /// Typical time of an answer.
    pub latency: Option<Nanos>,
    pub in_flight: u32,
    pub utilization: Option<f64>,
}

/// Smallest part of its share that a slow endpoint keeps, and one that loads a model.
const LEAST_FACTOR: f64 = 1.0 / 64.0;

/// Power of slowness by which a slow endpoint's share falls: few of its calls are to be among the slowest percent.
const POWER: f64 = 3.0;

impl Endpoint {
    pub fn new(id: u64, weight: Weight, is_live: bool) -> Self {
        Self {
            id,
            weight,
            is_live,
            health: Health::Unknown,
            state: State::Warm,
            in_flight: 0,
            timed: 0,
            starts: 0,
            speed: Speed::default(),
            capacity: Capacity::default(),
            answers: Share::default(),
            neutral: Share::default(),
            is_suspect: false,
            streak: 0,
            last_success: 0,
            last_answer: 0,
            last_pick: 0,
            full_until: 0,
            ejections: 0,
            all_ejections: 0,
            last_ejection: None,
            slow_start: None,
            was_live: is_live,
            load: None,
            others: 0,
            speed_factor: 1.0,
            room_factor: 1.0,
            load_factor: 1.0,
            common: None,
            is_due: false,
            share: 0,
            room: 0,
        }
    }

    /// Whether it may get calls as others do.
    pub fn is_usable(&self) -> bool {
        self.may_answer() && self.state == State::Warm
    }

    /// Whether it is connected and does not ask to be left alone.
    pub fn may_answer(&self) -> bool {
        self.is_live && self.health != Health::NotServing
    }

    /// The weight by which it is picked while it is usable: at least 1.
    pub fn pick_weight(&self, now: Nanos) -> u32 {
        self.weight_with(self.speed_factor, now)
    }

    /// The weight by which its calls in flight are compared: a time that is k times longer makes each count k times.
    pub fn room_weight(&self, now: Nanos) -> u32 {
        self.weight_with(self.room_factor, now)
    }

    /// The weight with another factor in place of that for its speed.
    pub fn weight_with(&self, speed_factor: f64, now: Nanos) -> u32 {
        let full = f64::from(self.weight.full());
        let own = f64::from(self.weight.effective());
        let weight = self.common.map_or(own, |part| own.max(full * part));
        let factor = speed_factor * self.load_factor * self.start_factor(now);
        ((weight * factor) as u32).max(1)
    }

    /// The configured weight, and less while it starts slowly: for policies that learn nothing.
    pub fn configured_share(&self, now: Nanos) -> u32 {
        ((f64::from(self.weight.full()) * self.start_factor(now)) as u32).max(1)
    }

    fn start_factor(&self, now: Nanos) -> f64 {
        let loading = if self.health == Health::Loading {
            LEAST_FACTOR
        } else {
            1.0
        };
        let Some((since, length)) = self.slow_start else {
            return loading;
        };
        let part = now.saturating_sub(since) as f64 / length.max(1) as f64;
        part.clamp(1.0 / 8.0, 1.0) * loading
    }

    /// It comes back, or is new: its share grows over `length`.
    pub fn start_slowly(&mut self, length: Nanos, now: Nanos) {
        self.slow_start = (length > 0).then_some((now, length));
    }

    pub fn begin(&mut self, is_stream: bool, now: Nanos) {
        if self.in_flight == 0 {
            self.capacity.begin(now);
            self.last_answer = now;
        }
        self.in_flight += 1;
        if !is_stream {
            self.timed += 1;
            self.starts = self.starts.wrapping_add(now);
        }
        self.last_pick = now;
        self.is_due = false;
    }

    pub fn end(&mut self, started: Nanos, is_stream: bool, is_answer: bool, now: Nanos) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if !is_stream {
            self.timed = self.timed.saturating_sub(1);
            self.starts = if self.timed == 0 {
                0
            } else {
                self.starts.wrapping_sub(started)
            };
        }
        self.capacity.end(is_answer, now);
        if is_answer {
            self.last_answer = now;
        }
    }

    /// A call succeeded.
    pub fn succeed(&mut self, now: Nanos) {
        self.weight.succeed();
        self.streak = 0;
        self.last_success = now;
        self.answers.record(true, now);
    }

    /// Its calls in flight end elsewhere: it has left the set.
    pub fn forget_calls(&mut self) {
        (self.in_flight, self.timed, self.starts) = (0, 0, 0);
        self.share = 0;
        if let State::HalfOpen { is_probed, .. } = &mut self.state {
            *is_probed = false;
        }
    }

    /// For how long calls in flight have waited without any answer: their mean age, but not longer than it is since
    /// the last answer. One long call among short ones that end is no standstill.
    pub fn standstill(&self, now: Nanos) -> Nanos {
        if self.timed == 0 {
            return 0;
        }
        // Both sums may have wrapped; their difference, the sum of the ages, has not.
        let timed = u64::from(self.timed);
        let ages = now.wrapping_mul(timed).wrapping_sub(self.starts);
        (ages / timed).min(now.saturating_sub(self.last_answer))
    }

    /// Requests that wait at it or are worked on, with those of other callers as far as they are known.
    pub fn load(&self) -> u64 {
        u64::from(self.in_flight) + u64::from(self.others)
    }

    /// Set the factors of an endpoint whose times are `excess` (a logarithm) above what is tolerated: the inverse of its
    /// slowness where calls in flight are compared, the cube of that for its share.
    pub fn set_slowness(&mut self, excess: f64) {
        if excess == 0.0 {
            (self.room_factor, self.speed_factor) = (1.0, 1.0);
            return;
        }
        self.room_factor = (-excess).exp().max(LEAST_FACTOR);
        self.speed_factor = (-POWER * excess).exp().max(LEAST_FACTOR);
    }

    /// Whether it is well below its share for what it did, and nobody has asked for a second.
    pub fn is_forgotten(&self, now: Nanos) -> bool {
        self.pick_weight(now) <= self.weight.full() / 2
            && now.saturating_sub(self.last_pick) > SECOND
    }

    pub fn view(&self, now: Nanos) -> View {
        View {
            effective_weight: self.weight.scaled(),
            pick_weight: if self.share == 0 {
                0
            } else {
                self.pick_weight(now)
            },
            state: self.state,
            health: self.health,
            last_ejection: self.last_ejection,
            ejections: self.all_ejections,
            latency: self.speed.typical(),
            in_flight: self.in_flight,
            utilization: self.load.map(|(report, _)| report.utilization),
        }
    }
}
