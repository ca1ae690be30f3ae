//! The endpoints' side: attempts come, wait, are served; faults begin and end.

use std::collections::VecDeque;

use dl_core::balancing::{Code, Nanos};

use super::Run;
use crate::events::Event;
use crate::rule::End;
use crate::scenario::Kind;
use crate::station::Admitted;

/// How long a call of a class with a code of its own takes.
const AT_ONCE: Nanos = 1_000_000;
/// Calls that an endpoint remembers for probes.
const REMEMBERED: usize = 32;

/// What an endpoint tells a probe: how many it had in flight when a call came, and how long that took.
#[derive(Default)]
pub struct Recent(VecDeque<(u32, Nanos)>);

/// What becomes of an attempt that comes.
enum Fate {
    Served,
    /// Answered after a time, without a slot.
    Answered(Code, Nanos),
    Swallowed {
        has_headers: bool,
    },
    Frozen,
}

// === impl Run ===

impl Run<'_> {
    /// An attempt comes to its endpoint.
    pub(super) fn reach(&mut self, number: usize) {
        let attempt = &self.attempts[number];
        if attempt.is_over {
            return;
        }
        let (slot, class) = (attempt.slot, self.calls[attempt.call].arrival.class);
        if self.loses(slot) {
            return self.answer(number, End::Lost, 0);
        }
        let fate = self.fate(slot, class);
        self.stations[slot].pass(self.now);
        let attempt = &mut self.attempts[number];
        attempt.is_there = true;
        attempt.epoch = self.stations[slot].epoch;
        attempt.came = (self.now, self.stations[slot].in_flight);
        self.stations[slot].in_flight += 1;
        match fate {
            Fate::Answered(code, after) => self.answer(number, End::Status(code), after),
            Fate::Swallowed { has_headers } => attempt.has_headers = has_headers,
            Fate::Frozen => self.stations[slot].hold(number),
            Fate::Served => match self.stations[slot].admit(number) {
                Admitted::Served => self.serve(number),
                Admitted::Queued => {}
                Admitted::Full => self.answer(number, End::Status(Code::ResourceExhausted), 0),
            },
        }
    }

    /// Whether what comes to an endpoint now is lost with its connection.
    fn loses(&self, endpoint: usize) -> bool {
        let mut active = self.timeline.active(endpoint, self.now);
        active.any(|window| window.kind == Kind::Refuse)
    }

    fn fate(&mut self, endpoint: usize, class: usize) -> Fate {
        let active = self.timeline.active(endpoint, self.now);
        for window in active.filter(|window| window.concerns(class)) {
            match window.kind {
                Kind::Freeze => return Fate::Frozen,
                Kind::Hang => return Fate::Swallowed { has_headers: false },
                Kind::Headers => return Fate::Swallowed { has_headers: true },
                Kind::Fail if window.share >= 1.0 || self.rng.f64() < window.share => {
                    return Fate::Answered(window.code, window.after);
                }
                _ => {}
            }
        }
        match self.terms[class].code {
            Some(code) => Fate::Answered(code, AT_ONCE),
            None => Fate::Served,
        }
    }

    fn answer(&mut self, attempt: usize, end: End, after: Nanos) {
        let at = self.now + after + self.way;
        let slot = self.attempts[attempt].slot;
        self.stations[slot].pass(self.now);
        self.stations[slot].answered(end.is_ok());
        self.events.at(at, Event::Ended(attempt, end));
    }

    /// A slot begins with an attempt.
    fn serve(&mut self, number: usize) {
        let attempt = &self.attempts[number];
        let arrival = &self.calls[attempt.call].arrival;
        let (factor, add) = self
            .timeline
            .slowness(attempt.slot, arrival.class, self.now);
        let speed = self.scenario.speed(attempt.slot);
        let time = (arrival.work as f64 * factor / speed) as Nanos + add;
        self.events.at(self.now + time, Event::Served(number));
    }

    /// A slot has done its work.
    pub(super) fn served(&mut self, number: usize) {
        let attempt = &self.attempts[number];
        let (slot, (came, in_flight)) = (attempt.slot, attempt.came);
        if attempt.epoch != self.stations[slot].epoch {
            return; // it crashed meanwhile
        }
        if let Some(thaw) = self.timeline.thaw(slot, self.now) {
            return self.events.at(thaw, Event::Served(number));
        }
        self.stations[slot].pass(self.now);
        if !attempt.is_over {
            self.recent[slot].remember(in_flight, self.now - came);
            self.answer(number, End::Status(Code::Ok), 0);
        }
        if let Some(next) = self.stations[slot].next() {
            self.serve(next);
        }
    }

    pub(super) fn begin(&mut self, number: usize) {
        let timeline = self.timeline;
        let window = &timeline.windows[number];
        match window.kind {
            Kind::Join => {
                let (first, late) = timeline.joins(self.scenario.endpoints.count);
                let joined = late.iter().filter(|at| **at <= self.now).count();
                self.update(first + joined);
            }
            Kind::Refuse | Kind::Restart => {
                for endpoint in &window.endpoints {
                    if window.kind == Kind::Refuse {
                        self.crash(*endpoint);
                    }
                    self.disconnect(*endpoint);
                }
            }
            _ => {}
        }
    }

    pub(super) fn finish(&mut self, number: usize) {
        let timeline = self.timeline;
        let window = &timeline.windows[number];
        if window.kind != Kind::Freeze {
            return;
        }
        for endpoint in &window.endpoints {
            for attempt in self.stations[*endpoint].release() {
                if !self.attempts[attempt].is_over {
                    // It is counted when it comes, and comes now.
                    self.attempts[attempt].is_there = false;
                    self.stations[*endpoint].in_flight -= 1;
                    self.reach(attempt);
                }
            }
        }
    }

    /// All that an endpoint was doing is lost.
    fn crash(&mut self, endpoint: usize) {
        let is_there = |attempt: &super::Attempt| attempt.slot == endpoint && attempt.is_there;
        let attempts = self.attempts.iter().enumerate();
        let lost: Vec<usize> = attempts
            .filter(|(_, one)| is_there(one))
            .map(|(number, _)| number)
            .collect();
        for attempt in lost {
            self.answer(attempt, End::Lost, 0);
        }
        self.stations[endpoint].crash();
    }

    /// All connections to an endpoint break.
    fn disconnect(&mut self, endpoint: usize) {
        let now = self.now;
        for number in 0..self.proxies.len() {
            if self.proxies[number].habits.connects.is_some() {
                self.proxies[number].lose(endpoint, now);
                self.connect_at(number, endpoint, now + 2 * self.way);
            }
        }
    }

    /// Send the probes of a call. An endpoint that is gone or frozen does not answer.
    pub(super) fn probe(&mut self, call: usize) {
        let number = self.calls[call].arrival.proxy;
        for _ in 0..self.proxies[number].habits.probes {
            let Some(endpoint) = self.proxies[number].rule.probe(self.now) else {
                return;
            };
            let is_frozen = self.timeline.thaw(endpoint, self.now).is_some();
            if is_frozen || self.timeline.refuses(endpoint, self.now) {
                continue;
            }
            let in_flight = self.stations[endpoint].in_flight;
            let probed = Event::Probed {
                proxy: number,
                endpoint,
                in_flight,
                latency: self.recent[endpoint].at(in_flight),
            };
            self.events.at(self.now + 2 * self.way, probed);
        }
    }
}

// === impl Recent ===

impl Recent {
    fn remember(&mut self, in_flight: u32, time: Nanos) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((in_flight, time));
    }

    /// The median of the times at the numbers in flight that are nearest to this one.
    fn at(&self, in_flight: u32) -> Nanos {
        let nearest = self.0.iter().map(|(one, _)| one.abs_diff(in_flight)).min();
        let nearest = nearest.unwrap_or(0);
        let times = self
            .0
            .iter()
            .filter(|(one, _)| one.abs_diff(in_flight) == nearest);
        let mut times: Vec<Nanos> = times.map(|(_, time)| *time).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }
}
