//! What is compared among the endpoints of a cluster, now and then and not with each call: who is slow, who fails while
//! others do not, whose time to come back has come.

use super::balancer::Balancer;
use super::ejection::{is_far_below, restore};
use super::endpoint::{Endpoint, Reason, State};
use super::share::Share;
use super::speed::ln;
use super::{Nanos, SECOND};

/// Times that differ by less are alike: ln 1.5.
const TOLERANCE: f64 = 0.405_5;
/// A standstill may be so much longer than a typical answer: ln 3.
const AGE_TOLERANCE: f64 = 1.098_6;
/// Below this share of successes of the others it is not the endpoint that fails.
const COMMON: f64 = 0.9;
/// How long a report of load is believed.
const REPORT_LIFE: Nanos = 2 * SECOND;
/// A half-open endpoint that no call could probe for so long comes back without.
const UNPROBED: Nanos = 5 * SECOND;
/// Utilization below which it says nothing of an endpoint's capacity.
const LEAST_UTILIZATION: f64 = 0.25;

impl Balancer {
    pub(super) fn refresh(&mut self, now: Nanos) {
        let all = self.totals(now);
        self.judge_rates(&all, now);
        self.judge_speeds(now);
        if self.settings.load_reports {
            self.judge_loads(now);
        }
        if self.return_ejected(now) {
            self.mask(now);
        } else {
            self.reweigh_all(now);
        }
    }

    /// Successes and neutral answers of all usable endpoints.
    fn totals(&mut self, now: Nanos) -> (Share, Share) {
        let (mut answers, mut neutral) = (Share::default(), Share::default());
        for endpoint in &mut self.endpoints {
            endpoint.answers.settle(now);
            endpoint.neutral.settle(now);
            if endpoint.is_usable() {
                answers.add(&endpoint.answers);
                neutral.add(&endpoint.neutral);
            }
        }
        (answers, neutral)
    }

    /// Correct weights for what all endpoints have in common, and eject who fails far more than the others.
    fn judge_rates(&mut self, (answers, neutral): &(Share, Share), now: Nanos) {
        for slot in 0..self.endpoints.len() {
            let endpoint = &mut self.endpoints[slot];
            if !endpoint.is_usable() {
                continue;
            }
            let others = answers.without(&endpoint.answers);
            let own = endpoint.answers;
            let is_common = own.total >= 5.0 && others.total >= 20.0 && others.ratio() < COMMON;
            endpoint.common = is_common.then(|| {
                let relative = (own.ratio() / others.ratio().max(1e-9)).min(1.0);
                if relative < 0.5 { 0.0 } else { relative }
            });
            let rest = neutral.without(&endpoint.neutral);
            // The same rule as for failures, with what was not neutral as the success.
            endpoint.is_suspect = is_far_below(&endpoint.neutral.rest(), &rest.rest());
            if is_far_below(&own, &others) {
                self.eject(slot, Reason::Rate, now);
            }
        }
    }

    /// Find out who is slower than the others, by what was answered and by what has not been.
    fn judge_speeds(&mut self, now: Nanos) {
        let mut means = std::mem::take(&mut self.scratch);
        means.clear();
        let usable = self.endpoints.iter().filter(|it| it.is_usable());
        means.extend(usable.filter_map(|it| it.speed.mean()));
        let median = median(&mut means);
        self.scratch = means;
        let is_on = self.settings.latency;
        for endpoint in &mut self.endpoints {
            endpoint.set_slowness(match median {
                Some(median) if is_on => {
                    let slow = endpoint.speed.excess(median, now) - TOLERANCE;
                    if endpoint.timed == 0 {
                        slow.max(0.0)
                    } else {
                        let stuck = ln(endpoint.standstill(now)) - median - AGE_TOLERANCE;
                        slow.max(stuck).max(0.0)
                    }
                }
                _ => 0.0,
            });
        }
    }

    /// What endpoints said of their load: requests of others that wait there, and how much they do for their effort.
    fn judge_loads(&mut self, now: Nanos) {
        let mut capacities = std::mem::take(&mut self.scratch);
        capacities.clear();
        let fresh = |endpoint: &Endpoint| {
            let (report, at) = endpoint.load?;
            (now.saturating_sub(at) < REPORT_LIFE).then_some(report)
        };
        let capacity = |endpoint: &Endpoint| {
            let report = fresh(endpoint)?;
            (report.utilization >= LEAST_UTILIZATION && report.rps > 0.0).then(|| {
                // gRFC A58: errors make a request dearer.
                let errors = (report.eps / report.rps).clamp(0.0, 1.0);
                report.rps / (report.utilization + errors)
            })
        };
        let usable = self.endpoints.iter().filter(|it| it.is_usable());
        capacities.extend(usable.filter_map(capacity));
        let median = median(&mut capacities);
        self.scratch = capacities;
        for endpoint in &mut self.endpoints {
            endpoint.load_factor = match (capacity(endpoint), median) {
                (Some(own), Some(median)) if own * 1.5 < median => (own * 1.5 / median).max(0.25),
                _ => 1.0,
            };
            if fresh(endpoint).is_none() {
                endpoint.others = 0;
            }
        }
    }

    /// Let the time to come back come, and end slow starts. True when an endpoint is usable again.
    fn return_ejected(&mut self, now: Nanos) -> bool {
        let slow_start = self.settings.slow_start;
        let mut has_returned = false;
        self.due = 0;
        for endpoint in &mut self.endpoints {
            match endpoint.state {
                State::Ejected { until } if until <= now => {
                    endpoint.state = State::HalfOpen {
                        since: now,
                        is_probed: false,
                    };
                }
                State::HalfOpen { since, is_probed } if !is_probed && since + UNPROBED <= now => {
                    restore(endpoint, slow_start, now);
                    has_returned = true;
                }
                _ => {}
            }
            if endpoint
                .slow_start
                .is_some_and(|(since, length)| since.saturating_add(length) <= now)
            {
                endpoint.slow_start = None;
            }
            endpoint.is_due = endpoint.may_answer()
                && match endpoint.state {
                    State::HalfOpen { is_probed, .. } => !is_probed,
                    // Calls that are there already will tell.
                    State::Warm => {
                        self.settings.ejection
                            && endpoint.in_flight == 0
                            && endpoint.is_forgotten(now)
                    }
                    State::Ejected { .. } => false,
                };
            self.due += u32::from(endpoint.is_due);
        }
        has_returned
    }
}

/// The lower median.
fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = (values.len() - 1) / 2;
    let (_, median, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*median)
}
