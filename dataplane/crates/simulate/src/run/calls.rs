//! The proxy's side of a call: picked, sent, tried again, hedged, given up.

use dl_core::balancing::{Code, Nanos};

use super::{Attempt, Run};
use crate::events::Event;
use crate::rule::{Ask, End, Picked, Refusal};
use crate::scenario::nanos;

/// Most attempts of a call that never reached an endpoint.
const MOST_UNSENT: u32 = 8;

// === impl Run ===

impl Run<'_> {
    pub(super) fn arrive(&mut self, call: usize) {
        if let Some(next) = self.calls.get(call + 1) {
            self.events.at(next.arrival.at, Event::Arrive(call + 1));
        }
        self.events
            .at(self.calls[call].deadline, Event::Deadline(call));
        self.proxy_of(call).count();
        self.probe(call);
        self.send(call, false);
    }

    /// Send a call to the endpoint that the rule picks.
    pub(super) fn send(&mut self, number: usize, is_hedge: bool) {
        let call = &self.calls[number];
        if call.end.is_some() {
            return; // its time was up before
        }
        let proxy = &mut self.proxies[call.arrival.proxy];
        let open = call.open.iter().map(|one| self.attempts[*one].slot);
        let tried: Vec<usize> = call.tried.iter().copied().chain(open).collect();
        let ask = Ask {
            tried: &tried,
            left: call.deadline.saturating_sub(self.now),
            can_retry: call.sent + 1 < proxy.habits.attempts && !is_hedge,
            is_hedge,
        };
        match proxy.rule.pick(&ask, self.now) {
            Ok(picked) => self.attempt(number, picked, is_hedge),
            Err(_) if is_hedge => {}
            Err(Refusal::NoneLive) if tried.is_empty() => self.wait(number),
            Err(Refusal::NoneLive) => self.end(number, Code::Unavailable),
            Err(Refusal::Overloaded) => self.end(number, Code::ResourceExhausted),
        }
    }

    fn attempt(&mut self, call: usize, picked: Picked, is_hedge: bool) {
        let number = self.attempts.len();
        self.attempts.push(Attempt {
            call,
            slot: picked.slot,
            started: self.now,
            is_probe: picked.is_probe,
            has_headers: false,
            is_over: false,
            is_there: false,
            came: (0, 0),
            epoch: 0,
        });
        self.calls[call].open.push(number);
        let proxy = &self.proxies[self.calls[call].arrival.proxy];
        let is_connected = match proxy.habits.connects {
            Some(_) => proxy.is_up(picked.slot),
            None => !self.timeline.refuses(picked.slot, self.now),
        };
        if !is_connected {
            let at = self.now + 2 * self.way;
            self.events.at(at, Event::Ended(number, End::Refused));
            return;
        }
        if let Some(share) = proxy.habits.attempt_limit {
            let limit = nanos(share * self.scenario.deadline_ms / 1e3);
            let expired = Event::Ended(number, End::Expired);
            self.events.at(self.now + limit, expired);
        }
        let far = if proxy.spares_hedges() { 3 } else { 1 };
        let delay = proxy.rule.hedge_delay().map(|delay| far * delay);
        let is_hedged = proxy.habits.hedges.is_some() && !is_hedge;
        self.calls[call].sent += 1;
        self.events.at(self.now + self.way, Event::Reach(number));
        if let Some(delay) = delay.filter(|_| is_hedged) {
            self.events.at(self.now + delay, Event::Hedge(call));
        }
    }

    /// No endpoint is connected.
    fn wait(&mut self, call: usize) {
        let now = self.now;
        let number = self.calls[call].arrival.proxy;
        let proxy = &mut self.proxies[number];
        if proxy.habits.waits == 0 {
            return self.end(call, Code::Unavailable);
        }
        proxy.waiting.push(call);
        let hurried = if proxy.habits.hurries {
            proxy.hurry(now)
        } else {
            Vec::new()
        };
        self.events
            .at(now + proxy.habits.waits, Event::Waited(call));
        for endpoint in hurried {
            self.connect_at(number, endpoint, now + 2 * self.way);
        }
    }

    pub(super) fn waited(&mut self, call: usize) {
        let waiting = &mut self.proxy_of(call).waiting;
        let before = waiting.len();
        waiting.retain(|one| *one != call);
        if waiting.len() < before {
            self.end(call, Code::Unavailable);
        }
    }

    pub(super) fn connect_at(&mut self, proxy: usize, endpoint: usize, at: Nanos) {
        self.proxies[proxy].plan(endpoint, at);
        self.events.at(at, Event::Connect(proxy, endpoint));
    }

    /// A try to connect comes to its end.
    pub(super) fn connect(&mut self, number: usize, endpoint: usize) {
        let proxy = &mut self.proxies[number];
        let Some(backoff) = proxy
            .habits
            .connects
            .filter(|_| proxy.is_due(endpoint, self.now))
        else {
            return;
        };
        if self.timeline.refuses(endpoint, self.now) {
            let wait = proxy.refused(endpoint, backoff, self.now);
            let at = self.now + wait + 2 * self.way;
            return self.connect_at(number, endpoint, at);
        }
        proxy.connected(endpoint, self.now);
        for call in std::mem::take(&mut proxy.waiting) {
            self.send(call, false);
        }
    }

    pub(super) fn hedge(&mut self, call: usize) {
        let one = &self.calls[call];
        let [open] = one.open[..] else { return };
        if one.end.is_some() || self.attempts[open].has_headers {
            return;
        }
        let now = self.now;
        if self.proxy_of(call).may_hedge(now) {
            self.send(call, true);
        }
    }

    /// The proxy sees an attempt end.
    pub(super) fn ended(&mut self, number: usize, end: End) {
        let attempt = &self.attempts[number];
        if attempt.is_over {
            return;
        }
        let (call, slot, has_headers) = (attempt.call, attempt.slot, attempt.has_headers);
        self.close(number, end);
        if self.scenario.endpoints.reports && matches!(end, End::Status(_)) {
            let report = self.stations[slot].report();
            let now = self.now;
            self.proxy_of(call).rule.reported(slot, &report, now);
        }
        self.calls[call].tried.push(slot);
        if end.is_ok() {
            return self.end(call, Code::Ok);
        }
        if !self.calls[call].open.is_empty() {
            return; // another attempt is under way
        }
        if has_headers || !self.may_send_again(call, end) {
            return self.end(call, end.code());
        }
        let most = self.proxy_of(call).habits.retry_delay;
        let delay = if most > 0 {
            self.proxy_of(call).delay(most)
        } else {
            0
        };
        self.events.at(self.now + delay, Event::Retry(call));
    }

    /// Whether another attempt is allowed and affordable; it has then been paid for.
    fn may_send_again(&mut self, number: usize, end: End) -> bool {
        let call = &mut self.calls[number];
        let proxy = &self.proxies[call.arrival.proxy];
        if !proxy.rule.retries(end) {
            return false;
        }
        if end == End::Refused {
            call.unsent += 1;
            return call.unsent < MOST_UNSENT;
        }
        call.sent < proxy.habits.attempts && proxy.may_retry(self.now)
    }

    /// The caller's time is up.
    pub(super) fn give_up(&mut self, call: usize) {
        if self.calls[call].end.is_none() {
            self.stop(call, End::TimedOut);
            self.proxy_of(call).waiting.retain(|one| *one != call);
            self.calls[call].end = Some((Code::DeadlineExceeded, self.now));
        }
    }

    fn end(&mut self, call: usize, code: Code) {
        self.stop(call, End::Cancelled);
        self.calls[call].end = Some((code, self.now));
    }

    /// End all attempts that are under way.
    fn stop(&mut self, call: usize, end: End) {
        for attempt in self.calls[call].open.clone() {
            self.close(attempt, end);
        }
    }
}
