//! The endpoints of one cluster: who may get a call, who gets it, and what its end teaches.

use super::ejection::{eject, may_eject, restore, streak_limit};
use super::endpoint::{Endpoint, Reason, State, View};
use super::policy::{Fleet, Policy};
use super::quantile::Quantile;
use super::random::Random;
use super::settings::Settings;
use super::share::Share;
use super::{Ask, Done, LoadReport, MILLISECOND, Nanos, Outcome, Picked, Refusal, SECOND};

/// Failures one after the other that are never chance, whatever the others do; and of an endpoint that has just come back
/// from an ejection.
const STREAK: u32 = 5;
const TRIAL_STREAK: u32 = 2;
/// How long an endpoint that said it is full is asked last.
const FULL: Nanos = 50 * MILLISECOND;
/// Time-outs count for ejection only where nothing succeeded for so long: a busy endpoint makes progress.
const NO_PROGRESS: Nanos = 2 * SECOND;

#[derive(Debug)]
pub struct Balancer {
    pub(super) settings: Settings,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) policy: Policy,
    pub(super) random: Random,
    pub(super) in_flight: u32,
    /// Sum of the configured weights of endpoints that have a share.
    pub(super) weight: u64,
    /// Largest share of one.
    pub(super) heaviest: u32,
    /// Endpoints that wait for a call that finds out how they are.
    pub(super) due: u32,
    refresh_at: Nanos,
    slow: Quantile,
    /// Removed endpoints, and when.
    pub(super) gone: Vec<(Endpoint, Nanos)>,
    /// Room for a number of each endpoint.
    pub(super) scratch: Vec<f64>,
}

impl Balancer {
    /// A balancer of no endpoints. The seed decides what is random: order of first picks, samples, jitter.
    pub fn new(settings: &Settings, seed: u64) -> Self {
        Self {
            policy: Policy::new(&settings.policy, &[]),
            settings: settings.clone(),
            endpoints: Vec::new(),
            random: Random::new(seed),
            in_flight: 0,
            weight: 0,
            heaviest: 0,
            due: 0,
            refresh_at: 0,
            slow: Quantile::new(0.95),
            gone: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// What the endpoint says of its load.
    pub fn report_load(&mut self, slot: usize, report: &LoadReport, now: Nanos) {
        if let Some(endpoint) = self.endpoints.get_mut(slot) {
            let sane = |value: f64| {
                if value.is_finite() {
                    value.max(0.0)
                } else {
                    0.0
                }
            };
            let report = LoadReport {
                utilization: sane(report.utilization),
                queue: report.queue,
                rps: sane(report.rps),
                eps: sane(report.eps),
            };
            endpoint.load = Some((report, now));
            // Its own calls are counted here; the rest is of others.
            endpoint.others = report.queue.saturating_sub(endpoint.in_flight);
        }
    }

    /// Choose the endpoint of an attempt and count it in flight there.
    ///
    /// # Errors
    /// There is none, or none that would answer in time.
    pub fn pick(&mut self, ask: &Ask<'_>, now: Nanos) -> Result<Picked, Refusal> {
        if now >= self.refresh_at {
            self.refresh_at = now + Settings::refresh_interval(self.endpoints.len());
            self.refresh(now);
        }
        if self.due > 0
            && ask.can_probe
            && !ask.is_stream
            && let Some(slot) = self.take_due(ask)
        {
            let is_probe = self.endpoints[slot].state != State::Warm;
            return Ok(self.begin(slot, is_probe, ask, now));
        }
        let fleet = Fleet {
            endpoints: &self.endpoints,
            in_flight: self.in_flight,
            weight: self.weight,
            heaviest: self.heaviest,
            compares: self.settings.in_flight,
            now,
        };
        let chosen = self.policy.choose(&fleet, ask, &mut self.random);
        let mut slot = chosen.ok_or(Refusal::NoneLive)?;
        if !self.has_room(slot, ask, now) {
            slot = self.roomiest(ask, now)?;
        }
        Ok(self.begin(slot, false, ask, now))
    }

    fn begin(&mut self, slot: usize, is_probe: bool, ask: &Ask<'_>, now: Nanos) -> Picked {
        self.endpoints[slot].begin(ask.is_stream, now);
        self.in_flight += 1;
        Picked { slot, is_probe }
    }

    /// Use an endpoint again although it was tried: it never saw the call.
    pub fn repeat(&mut self, slot: usize, is_stream: bool, now: Nanos) -> Option<Picked> {
        self.endpoints.get(slot)?;
        let ask = Ask {
            is_stream,
            ..Ask::default()
        };
        Some(self.begin(slot, false, &ask, now))
    }

    /// An endpoint that waits for a call to find out how it is.
    fn take_due(&mut self, ask: &Ask<'_>) -> Option<usize> {
        let slot = (0..self.endpoints.len()).find(|slot| {
            let endpoint = &self.endpoints[*slot];
            endpoint.is_due && endpoint.may_answer() && !ask.tried.contains(slot)
        })?;
        // Where it is the only one, a failure has nowhere else to go.
        let is_other = |(other, it): (usize, &Endpoint)| other != slot && it.share > 0;
        if !self.endpoints.iter().enumerate().any(is_other) {
            return None;
        }
        let endpoint = &mut self.endpoints[slot];
        endpoint.is_due = false;
        if let State::HalfOpen { is_probed, .. } = &mut endpoint.state {
            *is_probed = true;
        }
        self.due = self.due.saturating_sub(1);
        Some(slot)
    }

    /// End an attempt and learn from it.
    pub fn finish(&mut self, slot: usize, done: &Done, now: Nanos) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return;
        };
        let before = endpoint.weight.effective();
        endpoint.end(done.started, done.is_stream, done.is_timed, now);
        self.in_flight = self.in_flight.saturating_sub(1);
        let took = now.saturating_sub(done.started);
        if done.is_timed && !done.is_stream {
            if done.outcome == Outcome::Success {
                endpoint.speed.record(took, now);
                self.slow.record(took);
            }
            endpoint
                .neutral
                .record(done.outcome == Outcome::Neutral, now);
        } else if done.outcome == Outcome::Soft && !done.is_stream {
            // It would have taken longer still.
            endpoint.speed.record(took, now);
        }
        let outcome = match done.outcome {
            // Far more of these than the others have: the model is missing there.
            Outcome::Neutral if done.is_timed && endpoint.is_suspect => Outcome::Soft,
            outcome => outcome,
        };
        match outcome {
            Outcome::Success => endpoint.succeed(now),
            Outcome::Hard => self.failed(slot, true, now),
            Outcome::Soft => self.failed(slot, false, now),
            Outcome::Full => endpoint.full_until = now + FULL,
            Outcome::Neutral => {}
        }
        if done.is_probe {
            self.probed(slot, outcome, done.is_timed, now);
        }
        // Everything else that a share depends on is looked at by the refresh.
        if self.endpoints[slot].weight.effective() != before {
            self.reweigh(slot, now);
        }
    }

    fn failed(&mut self, slot: usize, is_hard: bool, now: Nanos) {
        let endpoint = &mut self.endpoints[slot];
        endpoint.weight.fail();
        if is_hard {
            endpoint.answers.record(false, now);
        }
        if is_hard || now.saturating_sub(endpoint.last_success) > NO_PROGRESS {
            endpoint.streak += 1;
        }
        let streak = endpoint.streak;
        // One that has just come back has less credit.
        let is_on_trial = endpoint.ejections > 0 && endpoint.slow_start.is_some();
        let least = if is_on_trial { TRIAL_STREAK } else { STREAK };
        if streak >= least && streak >= streak_limit(self.health_without(slot), least) {
            self.eject(slot, Reason::Streak(streak), now);
        }
    }

    /// How well the other usable endpoints do, 0..1: what is left of their weights, or how many of their calls succeed,
    /// whichever is less. Weights follow at once, and are noisy; rates are steady, and late.
    fn health_without(&self, slot: usize) -> f64 {
        let others = self.endpoints.iter().enumerate();
        let others = others.filter(|(other, it)| *other != slot && it.is_usable());
        let (mut count, mut weights, mut answers) = (0, 0.0, Share::default());
        for (_, it) in others {
            count += 1;
            weights += it.weight.fraction();
            answers.add(&it.answers);
        }
        (weights / f64::from(count.max(1))).min(answers.ratio())
    }

    /// The call that was to find out whether an endpoint has healed is over.
    fn probed(&mut self, slot: usize, outcome: Outcome, is_answer: bool, now: Nanos) {
        let (slow_start, endpoint) = (self.settings.slow_start, &mut self.endpoints[slot]);
        if endpoint.state == State::Warm {
            // It was taken back meanwhile: nobody is ejected any more, or it is the only one.
            return;
        }
        match outcome {
            Outcome::Success => restore(endpoint, slow_start, now),
            Outcome::Neutral | Outcome::Full if is_answer => restore(endpoint, slow_start, now),
            Outcome::Hard | Outcome::Soft => {
                eject(endpoint, Reason::Probe, &mut self.random, now);
            }
            // The caller went away: it says nothing, and the next call may tell.
            Outcome::Neutral | Outcome::Full => {
                endpoint.state = State::HalfOpen {
                    since: now,
                    is_probed: false,
                };
            }
        }
        self.mask(now);
    }

    pub(super) fn eject(&mut self, slot: usize, reason: Reason, now: Nanos) {
        if !self.settings.ejection
            || self.endpoints[slot].state != State::Warm
            || !may_eject(&self.endpoints)
        {
            return;
        }
        eject(&mut self.endpoints[slot], reason, &mut self.random, now);
        self.mask(now);
    }

    /// Take a changed weight into account.
    fn reweigh(&mut self, slot: usize, now: Nanos) {
        let endpoint = &mut self.endpoints[slot];
        if endpoint.share == 0 {
            return;
        }
        let share = self.policy.weight_of(endpoint, now);
        endpoint.room = endpoint.room_weight(now);
        if share != endpoint.share {
            endpoint.share = share;
            self.policy.set_weight(slot, share, &mut self.random);
        }
    }

    pub(super) fn reweigh_all(&mut self, now: Nanos) {
        (0..self.endpoints.len()).for_each(|slot| self.reweigh(slot, now));
        self.heaviest = self.endpoints.iter().map(|it| it.share).max().unwrap_or(0);
    }

    /// The time that 95 % of the cluster's calls take at most, once there were enough of them.
    pub fn hedge_delay(&self) -> Option<Nanos> {
        self.slow.get()
    }

    /// What people are told of an endpoint.
    pub fn view(&self, slot: usize, now: Nanos) -> Option<View> {
        self.endpoints.get(slot).map(|endpoint| endpoint.view(now))
    }

    /// Whether the endpoint's effective weight is full.
    pub fn is_full(&self, slot: usize) -> bool {
        self.endpoints
            .get(slot)
            .is_none_or(|it| it.weight.is_full())
    }

    /// Attempts in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }
}
