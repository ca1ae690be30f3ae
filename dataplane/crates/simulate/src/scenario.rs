//! What a scenario file says. docs/simulate.md describes every key.

use std::collections::BTreeMap;

use dl_core::balancing::{Code, Nanos};
use serde::Deserialize;

/// Bounds of what one run may cost: some seconds of computing and some 100 MB.
const MOST_CALLS: f64 = 5e6;
const MOST_WINDOWS: f64 = 1e4;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    #[serde(default)]
    pub about: String,
    pub duration_s: f64,
    #[serde(default)]
    pub warmup_s: f64,
    #[serde(default = "one")]
    pub proxies: usize,
    #[serde(default = "a_second")]
    pub deadline_ms: f64,
    #[serde(default = "network")]
    pub network_ms: f64,
    pub endpoints: Endpoints,
    #[serde(default)]
    pub service: Service,
    pub load: Load,
    #[serde(default)]
    pub classes: Vec<Class>,
    #[serde(default)]
    pub faults: Vec<Fault>,
    #[serde(default)]
    pub goals: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    pub count: usize,
    #[serde(default = "four")]
    pub slots: usize,
    #[serde(default = "weights")]
    pub weights: Vec<u32>,
    #[serde(default = "speeds")]
    pub speeds: Vec<f64>,
    #[serde(default)]
    pub queue: Option<usize>,
    /// Answers tell of the endpoint's load.
    #[serde(default)]
    pub reports: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Law {
    Constant,
    Exponential,
    Lognormal,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub law: Law,
    pub mean_ms: f64,
    #[serde(default)]
    pub sigma: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    #[serde(default)]
    pub rate: Option<f64>,
    /// Recorded calls instead: when each came, in s, and its service time, in ms.
    #[serde(default)]
    pub calls: Vec<(f64, f64)>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    pub name: String,
    pub share: f64,
    #[serde(default = "unit")]
    pub cost: f64,
    #[serde(default)]
    pub deadline_ms: Option<f64>,
    #[serde(default)]
    pub code: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Fail,
    Hang,
    Headers,
    Refuse,
    Restart,
    Freeze,
    Slow,
    Join,
    Overload,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub kind: Kind,
    #[serde(default)]
    pub endpoints: Option<Vec<usize>>,
    pub from_s: f64,
    #[serde(default)]
    pub to_s: Option<f64>,
    #[serde(default)]
    pub every_s: Option<f64>,
    #[serde(default)]
    pub active_s: Option<f64>,
    #[serde(default)]
    pub moves: bool,
    #[serde(default)]
    pub class: Option<String>,
    #[serde(default = "unit")]
    pub factor: f64,
    #[serde(default)]
    pub add_ms: f64,
    #[serde(default = "unit")]
    pub share: f64,
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default = "unit")]
    pub after_ms: f64,
}

// === impl Scenario ===

impl Scenario {
    /// Refuse what cannot be run. The text names the key, its value and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        within("duration_s", self.duration_s, 0.1, 86_400.0)?;
        within("warmup_s", self.warmup_s, 0.0, self.duration_s)?;
        within("deadline_ms", self.deadline_ms, 0.1, 3.6e6)?;
        within("network_ms", self.network_ms, 0.0, 1e4)?;
        within("proxies", self.proxies as f64, 1.0, 1000.0)?;
        within("endpoints.count", self.endpoints.count as f64, 1.0, 1000.0)?;
        within("endpoints.slots", self.endpoints.slots as f64, 1.0, 1e6)?;
        within("service.mean_ms", self.service.mean_ms, 1e-3, 3.6e6)?;
        within("service.sigma", self.service.sigma, 0.0, 5.0)?;
        self.check_lists()?;
        let classes = self.classes.iter().try_for_each(Class::check);
        classes?;
        let faults = self.faults.iter().enumerate();
        for (number, fault) in faults {
            fault
                .check(self)
                .map_err(|error| format!("faults[{number}].{error}"))?;
        }
        Ok(())
    }

    fn check_lists(&self) -> Result<(), String> {
        let endpoints = &self.endpoints;
        if endpoints.weights.is_empty() || endpoints.speeds.is_empty() {
            return Err(
                "endpoints.weights and endpoints.speeds have at least one value".to_owned(),
            );
        }
        for weight in &endpoints.weights {
            within("endpoints.weights", f64::from(*weight), 1.0, 65535.0)?;
        }
        for speed in &endpoints.speeds {
            within("endpoints.speeds", *speed, 1e-3, 1e3)?;
        }
        match self.load.rate {
            Some(rate) if self.load.calls.is_empty() => {
                within("load.rate", rate, 1e-3, MOST_CALLS / self.duration_s)
            }
            None if !self.load.calls.is_empty() => {
                let is_time = |value: &f64| (0.0..=86_400e3).contains(value);
                let is_call = |(at, cost): &&(f64, f64)| !(is_time(at) && is_time(cost));
                let wrong = self.load.calls.iter().find(is_call);
                wrong.map_or(Ok(()), |(at, cost)| {
                    Err(format!(
                        "load.calls: ({at} s, {cost} ms) is no time within a day"
                    ))
                })
            }
            _ => Err("load has either a rate or calls".to_owned()),
        }
    }

    pub fn weight(&self, endpoint: usize) -> u32 {
        self.endpoints.weights[endpoint % self.endpoints.weights.len()]
    }

    pub fn speed(&self, endpoint: usize) -> f64 {
        self.endpoints.speeds[endpoint % self.endpoints.speeds.len()]
    }

    /// The classes of calls, of which there is always one.
    pub fn classes(&self) -> Vec<Class> {
        if self.classes.is_empty() {
            let name = "all".to_owned();
            return vec![Class {
                name,
                share: 1.0,
                cost: 1.0,
                deadline_ms: None,
                code: None,
            }];
        }
        self.classes.clone()
    }
}

// === impl Class ===

impl Class {
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        within(&format!("classes {name}: share"), self.share, 0.0, 1e6)?;
        within(&format!("classes {name}: cost"), self.cost, 1e-6, 1e6)?;
        if let Some(deadline) = self.deadline_ms {
            within(
                &format!("classes {name}: deadline_ms"),
                deadline,
                0.1,
                3.6e6,
            )?;
        }
        code(self.code.as_deref(), Code::Unavailable).map(drop)
    }

    /// Whether its failures are the fleet's: not the caller's own fault, nor of its own haste.
    pub fn counts(&self) -> bool {
        self.code.is_none() && self.deadline_ms.is_none()
    }
}

// === impl Fault ===

impl Fault {
    fn check(&self, scenario: &Scenario) -> Result<(), String> {
        let count = scenario.endpoints.count;
        let end = self.to_s.unwrap_or(scenario.duration_s);
        within("from_s", self.from_s, 0.0, scenario.duration_s)?;
        within("to_s", end, self.from_s, scenario.duration_s)?;
        within("factor", self.factor, 1e-3, 1e6)?;
        within("add_ms", self.add_ms, 0.0, 3.6e6)?;
        within("share", self.share, 0.0, 1.0)?;
        within("after_ms", self.after_ms, 0.0, 3.6e6)?;
        code(self.code.as_deref(), Code::Unavailable)?;
        if let Some(every) = self.every_s {
            within(
                "every_s",
                every,
                scenario.duration_s / MOST_WINDOWS,
                86_400.0,
            )?;
            within("active_s", self.active_s.unwrap_or(every), 1e-3, every)?;
        }
        let known = |name: &String| scenario.classes().iter().any(|class| class.name == *name);
        if let Some(class) = self.class.as_ref().filter(|name| !known(name)) {
            return Err(format!("class: {class:?} is none of the classes"));
        }
        let endpoints = self.endpoints.as_deref().unwrap_or_default();
        if let Some(endpoint) = endpoints.iter().find(|endpoint| **endpoint >= count) {
            let last = count - 1;
            return Err(format!("endpoints: {endpoint} is none of 0 to {last}"));
        }
        if self.kind == Kind::Join && endpoints.is_empty() {
            return Err("endpoints: a join names those that join".to_owned());
        }
        Ok(())
    }
}

/// The code of that name.
pub fn code(name: Option<&str>, default: Code) -> Result<Code, String> {
    name.map_or(Ok(default), |name| {
        Code::from_name(name)
            .ok_or_else(|| format!("code: {name:?} is not the name of a gRPC code"))
    })
}

pub fn nanos(seconds: f64) -> Nanos {
    (seconds * 1e9).round() as Nanos
}

fn within(key: &str, value: f64, least: f64, most: f64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{key}: {value} is not from {least} to {most}"))
}

impl Default for Service {
    fn default() -> Self {
        Self {
            law: Law::Constant,
            mean_ms: 1.0,
            sigma: 0.0,
        }
    }
}

fn one() -> usize {
    1
}

fn four() -> usize {
    4
}

fn unit() -> f64 {
    1.0
}

fn a_second() -> f64 {
    1000.0
}

fn network() -> f64 {
    0.2
}

fn weights() -> Vec<u32> {
    vec![1]
}

fn speeds() -> Vec<f64> {
    vec![1.0]
}
