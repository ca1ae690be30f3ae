//! What goes wrong when: the faults of a scenario as windows of time.

use std::ops::Range;

use dl_core::balancing::{Code, Nanos};

use crate::scenario::{Fault, Kind, Scenario, code, nanos};

/// One stretch of time in which a fault is active.
#[derive(Clone, Debug)]
pub struct Window {
    pub time: Range<Nanos>,
    pub kind: Kind,
    pub endpoints: Vec<usize>,
    /// Only calls of this class.
    pub class: Option<usize>,
    pub factor: f64,
    pub add: Nanos,
    pub share: f64,
    pub code: Code,
    pub after: Nanos,
}

/// All windows of a scenario.
pub struct Timeline {
    pub windows: Vec<Window>,
    /// Of each endpoint, the numbers of its windows.
    of: Vec<Vec<usize>>,
}

// === impl Timeline ===

impl Timeline {
    /// # Errors
    /// A fault with an unknown code.
    pub fn new(scenario: &Scenario) -> Result<Self, String> {
        let mut windows = Vec::new();
        for fault in &scenario.faults {
            unroll(fault, scenario, &mut windows)?;
        }
        let of = |endpoint| {
            let is_its = |(_, window): &(usize, &Window)| window.endpoints.contains(&endpoint);
            let its = windows.iter().enumerate().filter(is_its);
            its.map(|(number, _)| number).collect()
        };
        let of = (0..scenario.endpoints.count).map(of).collect();
        Ok(Self { windows, of })
    }

    /// What is wrong with an endpoint now.
    pub fn active(&self, endpoint: usize, now: Nanos) -> impl Iterator<Item = &Window> {
        let windows = self.of[endpoint]
            .iter()
            .map(|number| &self.windows[*number]);
        windows.filter(move |window| window.time.contains(&now))
    }

    /// Whether an endpoint takes no connections now.
    pub fn refuses(&self, endpoint: usize, now: Nanos) -> bool {
        self.active(endpoint, now)
            .any(|window| matches!(window.kind, Kind::Refuse | Kind::Restart))
    }

    /// When a frozen endpoint goes on; None where it is not frozen.
    pub fn thaw(&self, endpoint: usize, now: Nanos) -> Option<Nanos> {
        let frozen = self.active(endpoint, now);
        let frozen = frozen.filter(|window| window.kind == Kind::Freeze);
        frozen.map(|window| window.time.end).max()
    }

    /// How much longer a call that begins now holds its slot: times, and plus.
    pub fn slowness(&self, endpoint: usize, class: usize, now: Nanos) -> (f64, Nanos) {
        self.active(endpoint, now)
            .filter(|window| window.kind == Kind::Slow && window.concerns(class))
            .fold((1.0, 0), |(factor, add), window| {
                (factor * window.factor, add + window.add)
            })
    }

    /// By how much the rate is higher now.
    pub fn surge(&self, now: Nanos) -> f64 {
        let active = self.windows.iter();
        let active = active.filter(|one| one.kind == Kind::Overload && one.time.contains(&now));
        active.map(|window| window.factor).product()
    }

    /// From the first fault to the end of the last; a join is none.
    pub fn span(&self) -> Option<Range<Nanos>> {
        let faults = || self.windows.iter().filter(|one| one.kind != Kind::Join);
        let start = faults().map(|window| window.time.start).min()?;
        let end = faults().map(|window| window.time.end).max()?;
        Some(start..end)
    }

    /// The endpoints that are there from the start, and when each of the others joins.
    pub fn joins(&self, count: usize) -> (usize, Vec<Nanos>) {
        let join = |endpoint: usize| {
            let windows = self.of[endpoint]
                .iter()
                .map(|number| &self.windows[*number]);
            let mut joins = windows.filter(|window| window.kind == Kind::Join);
            joins.next().map(|window| window.time.start)
        };
        let late: Vec<Nanos> = (0..count).filter_map(join).collect();
        (count - late.len(), late)
    }
}

// === impl Window ===

impl Window {
    pub fn concerns(&self, class: usize) -> bool {
        self.class.is_none_or(|only| only == class)
    }
}

/// Add the windows of one fault.
fn unroll(fault: &Fault, scenario: &Scenario, windows: &mut Vec<Window>) -> Result<(), String> {
    let all = || (0..scenario.endpoints.count).collect();
    let endpoints: Vec<usize> = fault.endpoints.clone().unwrap_or_else(all);
    let end = fault.to_s.unwrap_or(scenario.duration_s);
    let every = fault.every_s.unwrap_or(end - fault.from_s).max(1e-9);
    let active = fault.active_s.unwrap_or(every);
    let class = |name: &String| scenario.classes().iter().position(|one| one.name == *name);
    let rounds = ((end - fault.from_s) / every - 1e-9).ceil().max(0.0) as usize;
    for round in 0..rounds {
        let from = fault.from_s + round as f64 * every;
        let endpoints = match fault.moves {
            true => vec![endpoints[round % endpoints.len()]],
            false => endpoints.clone(),
        };
        windows.push(Window {
            time: nanos(from)..nanos((from + active).min(end)),
            kind: fault.kind,
            endpoints,
            class: fault.class.as_ref().and_then(class),
            factor: fault.factor,
            add: nanos(fault.add_ms / 1e3),
            share: fault.share,
            code: code(fault.code.as_deref(), Code::Unavailable)?,
            after: nanos(fault.after_ms / 1e3),
        });
    }
    Ok(())
}
