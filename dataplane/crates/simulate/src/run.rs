//! One run: a scenario's calls through proxies with one rule, event by event.

mod calls;
mod endpoints;

use dl_core::balancing::{Code, Nanos};
use fastrand::Rng;

use crate::arrivals::{Arrival, arrivals};
use crate::events::{Event, Events};
use crate::proxy::Proxy;
use crate::rule::{Finished, Rule};
use crate::scenario::{Class, Scenario, code, nanos};
use crate::station::Station;
use crate::timeline::Timeline;

/// A call, from its arrival to its end.
pub struct Call {
    pub arrival: Arrival,
    pub deadline: Nanos,
    /// What the caller got, and when; None while it waits.
    pub end: Option<(Code, Nanos)>,
    tried: Vec<usize>,
    /// Attempts that are under way.
    open: Vec<usize>,
    /// Attempts that were sent.
    sent: u32,
    /// Attempts that found no connection.
    unsent: u32,
}

/// One attempt of a call at an endpoint.
pub struct Attempt {
    pub call: usize,
    pub slot: usize,
    pub started: Nanos,
    is_probe: bool,
    has_headers: bool,
    /// The proxy knows its end.
    is_over: bool,
    /// It is among those that the endpoint has in flight.
    is_there: bool,
    /// When it came there, and how many the endpoint had in flight then.
    came: (Nanos, u32),
    epoch: u32,
}

/// What a class of calls is given.
struct Terms {
    deadline: Nanos,
    /// Answered without being served.
    code: Option<Code>,
}

pub struct Run<'a> {
    pub scenario: &'a Scenario,
    pub timeline: &'a Timeline,
    pub calls: Vec<Call>,
    pub attempts: Vec<Attempt>,
    terms: Vec<Terms>,
    proxies: Vec<Proxy>,
    stations: Vec<Station>,
    /// How long recent calls took at each endpoint, for probes: (in flight, time).
    recent: Vec<endpoints::Recent>,
    events: Events,
    now: Nanos,
    /// Half of the way there and back.
    way: Nanos,
    rng: Rng,
}

// === impl Run ===

impl<'a> Run<'a> {
    /// Make everything ready. `rule` makes the rule of one proxy from its seed.
    pub fn new(
        scenario: &'a Scenario,
        timeline: &'a Timeline,
        seed: u64,
        rule: impl Fn(u64) -> Box<dyn Rule>,
    ) -> Result<Self, String> {
        let endpoints = &scenario.endpoints;
        let arrivals = arrivals(scenario, timeline, seed);
        let terms: Result<Vec<_>, _> = scenario
            .classes()
            .iter()
            .map(|one| terms(one, scenario))
            .collect();
        let seeds = |number: usize| seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number as u64;
        let proxies =
            (1..=scenario.proxies).map(|number| Proxy::new(rule(seeds(number)), seeds(number)));
        let station = || Station::new(endpoints.slots, endpoints.queue);
        let mut run = Self {
            scenario,
            timeline,
            calls: Vec::with_capacity(arrivals.len()),
            attempts: Vec::with_capacity(arrivals.len() * 5 / 4),
            terms: terms?,
            proxies: proxies.collect(),
            stations: (0..endpoints.count).map(|_| station()).collect(),
            recent: (0..endpoints.count)
                .map(|_| endpoints::Recent::default())
                .collect(),
            events: Events::default(),
            now: 0,
            way: nanos(scenario.network_ms / 2e3),
            rng: Rng::with_seed(seed ^ 0xFA17),
        };
        run.prepare(arrivals);
        Ok(run)
    }

    fn prepare(&mut self, arrivals: Vec<Arrival>) {
        let (first, _) = self.timeline.joins(self.scenario.endpoints.count);
        self.update(first);
        for (number, window) in self.timeline.windows.iter().enumerate() {
            self.events.at(window.time.start, Event::Begin(number));
            self.events.at(window.time.end, Event::Finish(number));
        }
        for number in 0..self.proxies.len() {
            if let Some(tick) = self.proxies[number].habits.tick {
                self.events.at(tick, Event::Tick(number));
            }
        }
        for arrival in arrivals {
            let deadline = arrival.at + self.terms[arrival.class].deadline;
            self.calls.push(Call {
                arrival,
                deadline,
                end: None,
                tried: Vec::new(),
                open: Vec::new(),
                sent: 0,
                unsent: 0,
            });
        }
        if let Some(first) = self.calls.first() {
            self.events.at(first.arrival.at, Event::Arrive(0));
        }
    }

    /// Tell every proxy how many endpoints there are now.
    fn update(&mut self, count: usize) {
        let weights: Vec<u32> = (0..count).map(|one| self.scenario.weight(one)).collect();
        for proxy in &mut self.proxies {
            proxy.update(&weights, self.now);
        }
    }

    /// Let it all happen.
    pub fn run(&mut self) {
        while let Some((at, event)) = self.events.next() {
            self.now = at;
            match event {
                Event::Arrive(call) => self.arrive(call),
                Event::Retry(call) => self.send(call, false),
                Event::Waited(call) => self.waited(call),
                Event::Hedge(call) => self.hedge(call),
                Event::Deadline(call) => self.give_up(call),
                Event::Reach(attempt) => self.reach(attempt),
                Event::Served(attempt) => self.served(attempt),
                Event::Ended(attempt, end) => self.ended(attempt, end),
                Event::Connect(proxy, endpoint) => self.connect(proxy, endpoint),
                Event::Tick(proxy) => self.tick(proxy),
                Event::Probed {
                    proxy,
                    endpoint,
                    in_flight,
                    latency,
                } => {
                    let rule = &mut self.proxies[proxy].rule;
                    rule.probed(endpoint, in_flight, latency, at);
                }
                Event::Begin(window) => self.begin(window),
                Event::Finish(window) => self.finish(window),
            }
        }
    }

    fn tick(&mut self, number: usize) {
        let proxy = &mut self.proxies[number];
        proxy.rule.tick(self.now);
        let last = self.calls.last().map_or(0, |call| call.arrival.at);
        if let Some(tick) = proxy.habits.tick.filter(|_| self.now < last) {
            self.events.at(self.now + tick, Event::Tick(number));
        }
    }

    fn proxy_of(&mut self, call: usize) -> &mut Proxy {
        &mut self.proxies[self.calls[call].arrival.proxy]
    }

    /// The proxy sees the end of an attempt: its rule learns, the endpoint is rid of it.
    fn close(&mut self, number: usize, end: crate::rule::End) {
        let attempt = &mut self.attempts[number];
        attempt.is_over = true;
        let finished = Finished {
            end,
            started: attempt.started,
            is_probe: attempt.is_probe,
            has_headers: attempt.has_headers,
        };
        let (call, slot) = (attempt.call, attempt.slot);
        if std::mem::take(&mut attempt.is_there) {
            self.stations[slot].in_flight -= 1;
            self.stations[slot].forget(number);
        }
        self.calls[call].open.retain(|one| *one != number);
        let now = self.now;
        self.proxy_of(call).rule.finish(slot, &finished, now);
    }
}

fn terms(class: &Class, scenario: &Scenario) -> Result<Terms, String> {
    let given = class.code.as_deref();
    let answer = given.map(|name| code(Some(name), Code::Ok));
    Ok(Terms {
        deadline: nanos(class.deadline_ms.unwrap_or(scenario.deadline_ms) / 1e3),
        code: answer.transpose()?,
    })
}
