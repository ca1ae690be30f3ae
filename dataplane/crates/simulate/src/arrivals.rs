//! The calls of a run: when each comes, and what it costs. The same seed gives every policy the same calls.

use dl_core::balancing::Nanos;
use fastrand::Rng;

use crate::scenario::{Class, Law, Scenario, nanos};
use crate::timeline::Timeline;

/// One call as it arrives.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub at: Nanos,
    pub class: usize,
    /// How long it holds a slot of an endpoint of speed 1.
    pub work: Nanos,
    pub proxy: usize,
}

/// All calls of a run, by time.
pub fn arrivals(scenario: &Scenario, timeline: &Timeline, seed: u64) -> Vec<Arrival> {
    let mut rng = Rng::with_seed(seed);
    match scenario.load.rate {
        Some(rate) => poisson(scenario, timeline, rate, &mut rng),
        None => recorded(scenario, &mut rng),
    }
}

/// An open loop: whether calls come does not depend on how earlier ones fare.
fn poisson(scenario: &Scenario, timeline: &Timeline, rate: f64, rng: &mut Rng) -> Vec<Arrival> {
    let classes = scenario.classes();
    let total: f64 = classes.iter().map(|class| class.share).sum();
    // Thinning: candidates come at the highest rate, and are kept in proportion to the rate of their moment.
    let starts = timeline.windows.iter().map(|window| window.time.start);
    let highest = starts.map(|at| timeline.surge(at)).fold(1.0, f64::max);
    let end = nanos(scenario.duration_s);
    let (mut found, mut at) = (Vec::new(), 0.0);
    loop {
        at += exponential(rng) / (rate * highest);
        let now = nanos(at);
        if now >= end {
            return found;
        }
        if rng.f64() * highest >= timeline.surge(now) {
            continue;
        }
        let class = choose(&classes, rng.f64() * total);
        let work_ms = scenario.service.mean_ms * classes[class].cost * factor(scenario, rng);
        found.push(Arrival {
            at: now,
            class,
            work: nanos(work_ms / 1e3),
            proxy: rng.usize(..scenario.proxies),
        });
    }
}

fn recorded(scenario: &Scenario, rng: &mut Rng) -> Vec<Arrival> {
    let call = |(at, cost): &(f64, f64)| Arrival {
        at: nanos(*at),
        class: 0,
        work: nanos(cost / 1e3),
        proxy: rng.usize(..scenario.proxies),
    };
    let mut found: Vec<_> = scenario.load.calls.iter().map(call).collect();
    found.sort_by_key(|arrival| arrival.at);
    found
}

fn choose(classes: &[Class], mut point: f64) -> usize {
    for (number, class) in classes.iter().enumerate() {
        point -= class.share;
        if point < 0.0 {
            return number;
        }
    }
    classes.len() - 1
}

/// A draw of the service law, of mean 1.
fn factor(scenario: &Scenario, rng: &mut Rng) -> f64 {
    match scenario.service.law {
        Law::Constant => 1.0,
        Law::Exponential => exponential(rng),
        Law::Lognormal => {
            let sigma = scenario.service.sigma;
            (sigma * normal(rng) - sigma * sigma / 2.0).exp()
        }
    }
}

fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

/// Box and Muller's transform.
fn normal(rng: &mut Rng) -> f64 {
    (2.0 * exponential(rng)).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}
