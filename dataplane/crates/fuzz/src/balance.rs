//! Any history of calls, sets, health and time: what the balancer must keep to, whatever happens to its endpoints.

use dl_balance::{
    Ask, Balancer, Done, Entry, Health, LoadReport, MILLISECOND, NAMES, Nanos, Outcome, Picked,
    Refusal, SECOND, Settings, State, View,
};

use crate::input::Input;

/// Endpoints have ids below this.
const IDS: u8 = 12;
const OUTCOMES: [Outcome; 5] = [
    Outcome::Success,
    Outcome::Hard,
    Outcome::Soft,
    Outcome::Full,
    Outcome::Neutral,
];
const HEALTH: [Health; 4] = [
    Health::Unknown,
    Health::Serving,
    Health::NotServing,
    Health::Loading,
];

/// Settings, a seed and a set; then operations until the bytes end.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let settings = settings(&mut input);
    let mut world = World {
        balancer: Balancer::new(&settings, input.byte().into()),
        settings,
        entries: Vec::new(),
        calls: Vec::new(),
        now: 0,
    };
    world.update(&mut input);
    while !input.is_empty() {
        let out = world.out();
        let op = world.step(&mut input);
        world.check(&op, out);
    }
    while !world.calls.is_empty() {
        world.finish(0, Outcome::Success, true);
    }
    assert_eq!(world.balancer.in_flight(), 0);
}

fn settings(input: &mut Input<'_>) -> Settings {
    let policy = NAMES[usize::from(input.byte()) % NAMES.len()];
    let bits = input.byte();
    if policy == "dl" {
        // The original's rule stands alone.
        return Settings::original();
    }
    let is = |bit: u8| bits >> bit & 1 == 0;
    let slow_start = if is(5) { 3 * SECOND } else { 0 };
    Settings {
        policy: policy.to_owned(),
        in_flight: is(0),
        latency: is(1),
        ejection: is(2),
        admission: is(3),
        load_reports: is(4),
        slow_start,
        slow_start_new: if is(6) { slow_start } else { Nanos::MAX },
        max_in_flight: (!is(7)).then(|| u32::from(input.byte() % 8)),
    }
}

/// A set of endpoints, each id once.
fn entries(input: &mut Input<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..input.byte() % (IDS + 1) {
        let (id, bits) = (input.byte() % IDS, input.byte());
        // Configuration allows no weight of 0.
        let weight = match bits >> 1 & 3 {
            0 => u32::from(input.u16().max(1)),
            small => small.into(),
        };
        let entry = Entry {
            id: id.into(),
            weight,
            live: bits & 1 == 0,
        };
        if entries.iter().all(|other| other.id != entry.id) {
            entries.push(entry);
        }
    }
    entries
}

/// A balancer, and what is known of it from the outside.
struct World {
    balancer: Balancer,
    settings: Settings,
    entries: Vec<Entry>,
    calls: Vec<Call>,
    now: Nanos,
}

/// An attempt in flight.
struct Call {
    id: u64,
    picked: Picked,
    started: Nanos,
    is_stream: bool,
}

impl World {
    /// One operation; return what it was.
    fn step(&mut self, input: &mut Input<'_>) -> String {
        let op = input.byte();
        match op % 16 {
            0..=4 => self.pick(input),
            5..=8 => {
                let (which, end) = (input.byte(), input.byte());
                let outcome = OUTCOMES[usize::from(end) % OUTCOMES.len()];
                self.finish(which.into(), outcome, end < 128);
                format!("finish {which}: {outcome:?}")
            }
            9 => {
                let (slot, live) = (usize::from(input.byte() % IDS), op < 128);
                self.balancer.set_live(slot, live, self.now);
                if let Some(entry) = self.entries.get_mut(slot) {
                    entry.live = live;
                }
                format!("slot {slot} is live: {live}")
            }
            10 => {
                let (slot, health) = (
                    usize::from(input.byte() % IDS),
                    HEALTH[usize::from(op >> 6)],
                );
                self.balancer.set_health(slot, health, self.now);
                format!("slot {slot} is {health:?}")
            }
            11 => self.report(input),
            12 => {
                self.update(input);
                format!("update: {:?}", self.entries)
            }
            13 => {
                self.settings = settings(input);
                self.balancer.configure(&self.settings, self.now);
                format!("configure: {:?}", self.settings)
            }
            14 => self.repeat(input),
            _ => self.wait(input),
        }
    }

    fn update(&mut self, input: &mut Input<'_>) {
        let entries = entries(input);
        self.balancer.update(&entries, self.now);
        let before = std::mem::replace(&mut self.entries, entries);
        // A call of an endpoint that left is no longer counted, here as in the cluster.
        let has = |entries: &[Entry], id: u64| entries.iter().any(|entry| entry.id == id);
        self.calls
            .retain(|call| has(&before, call.id) && has(&self.entries, call.id));
    }

    fn pick(&mut self, input: &mut Input<'_>) -> String {
        let bits = input.byte();
        let is = |bit: u8| bits >> bit & 1 == 1;
        let tried: Vec<usize> = input
            .take(usize::from(bits >> 6))
            .iter()
            .map(|slot| usize::from(slot % IDS))
            .collect();
        let ask = Ask {
            tried: &tried,
            left: is(0).then(|| u64::from(input.u16()) * MILLISECOND),
            can_probe: is(1),
            is_low: is(2),
            key: is(3).then(|| input.byte().into()),
            is_stream: is(4),
            is_hedge: is(5),
        };
        let picked = self.balancer.pick(&ask, self.now);
        let op = format!("{ask:?}: {picked:?}");
        // As they are now that the balancer has looked at them: none is usable in a panic.
        let is_panic = !(0..self.entries.len()).any(|slot| self.is_usable(slot));
        match picked {
            Ok(picked) => {
                let slot = picked.slot;
                assert!(self.entries[slot].live, "not live: {op}");
                assert!(!tried.contains(&slot), "tried: {op}");
                let is_fit = is_panic || picked.is_probe || self.is_usable(slot);
                assert!(is_fit, "others are usable: {op}");
                self.begin(picked, ask.is_stream);
            }
            Err(Refusal::Overloaded { retry_after }) => {
                assert!((1..=SECOND).contains(&retry_after), "{op}");
                let has_deadline = self.settings.admission && ask.left.is_some();
                assert!(
                    has_deadline || self.settings.max_in_flight.is_some(),
                    "{op}"
                );
            }
            Err(Refusal::NoneLive) => {
                let fits = |slot: &usize| {
                    let is_in = self.is_usable(*slot) || (is_panic && self.entries[*slot].live);
                    is_in && !tried.contains(slot)
                };
                let missed = (0..self.entries.len()).find(fits);
                assert_eq!(missed, None, "{op}");
            }
        }
        op
    }

    fn begin(&mut self, picked: Picked, is_stream: bool) {
        self.calls.push(Call {
            id: self.entries[picked.slot].id,
            picked,
            started: self.now,
            is_stream,
        });
    }

    fn repeat(&mut self, input: &mut Input<'_>) -> String {
        let (slot, bits) = (usize::from(input.byte() % IDS), input.byte());
        let is_stream = bits & 1 == 1;
        let picked = self.balancer.repeat(slot, is_stream, self.now);
        assert_eq!(picked.is_some(), slot < self.entries.len());
        if let Some(picked) = picked {
            self.begin(picked, is_stream);
        }
        format!("repeat {slot}")
    }

    fn finish(&mut self, which: usize, outcome: Outcome, is_timed: bool) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.swap_remove(which % self.calls.len());
        let position = self.entries.iter().position(|entry| entry.id == call.id);
        let Some(slot) = position else { return };
        let before = self.view(slot);
        let done = Done {
            outcome,
            started: call.started,
            is_probe: call.picked.is_probe,
            is_timed,
            is_stream: call.is_stream,
        };
        self.balancer.finish(slot, &done, self.now);
        let (before, after) = (before.effective_weight, self.view(slot).effective_weight);
        match outcome {
            _ if call.picked.is_probe => {}
            Outcome::Success => assert!(after >= before),
            Outcome::Hard | Outcome::Soft => assert!(after <= before),
            Outcome::Full => assert_eq!(after, before),
            // Far too many of these count as failures.
            Outcome::Neutral => assert!(after <= before),
        }
    }

    fn report(&mut self, input: &mut Input<'_>) -> String {
        let slot = usize::from(input.byte() % IDS);
        let report = if input.byte().is_multiple_of(2) {
            LoadReport {
                utilization: f64::from(input.byte()) / 64.0,
                queue: input.byte().into(),
                rps: input.byte().into(),
                eps: input.byte().into(),
            }
        } else {
            LoadReport {
                utilization: input.f64(),
                queue: input.u32(),
                rps: input.f64(),
                eps: input.f64(),
            }
        };
        self.balancer.report_load(slot, &report, self.now);
        format!("slot {slot} reports {report:?}")
    }

    fn wait(&mut self, input: &mut Input<'_>) -> String {
        let (unit, count) = (input.byte(), u64::from(input.byte()));
        self.now = match unit % 5 {
            0 => self.now + count * MILLISECOND / 100,
            1 => self.now + count * MILLISECOND,
            2 => self.now + count * SECOND / 10,
            // Up to an hour.
            3 => self.now + count * 3600 * SECOND / 255,
            // Threads read the clock before they have the lock.
            _ => self.now.saturating_sub(count * MILLISECOND / 100),
        };
        format!("now it is {}", self.now)
    }

    fn view(&self, slot: usize) -> View {
        match self.balancer.view(slot, self.now) {
            Some(view) => view,
            None => panic!("no slot {slot} of {}", self.entries.len()),
        }
    }

    fn is_usable(&self, slot: usize) -> bool {
        let view = self.view(slot);
        self.entries[slot].live && view.health != Health::NotServing && view.state == State::Warm
    }

    /// Endpoints that are ejected, or may have one call to find out how they are.
    fn out(&self) -> usize {
        (0..self.entries.len())
            .filter(|slot| self.view(*slot).state != State::Warm)
            .count()
    }

    /// `out`: how many were ejected before the operation.
    fn check(&self, op: &str, out: usize) {
        assert_eq!(self.balancer.in_flight() as usize, self.calls.len(), "{op}");
        let is_panic = !(0..self.entries.len()).any(|slot| self.is_usable(slot));
        for (slot, entry) in self.entries.iter().enumerate() {
            let view = self.view(slot);
            // The original's rule leaves 1 of any weight, and counts in whole ones.
            let least = if self.settings.policy == "dl" {
                256
            } else {
                entry.weight
            };
            let range = least..=entry.weight * 256;
            let effective = view.effective_weight;
            assert!(
                range.contains(&effective),
                "{op}: {entry:?} has {effective}"
            );
            let calls = self.calls.iter().filter(|call| call.id == entry.id);
            assert_eq!(view.in_flight as usize, calls.count(), "{op}: {entry:?}");
            let is_in = self.is_usable(slot) || (is_panic && entry.live);
            assert_eq!(view.pick_weight > 0, is_in, "{op}: {entry:?} is {view:?}");
        }
        let all = self.entries.len();
        // A set that shrinks may leave more, but for one that is alone.
        let most = match all {
            0 | 1 => 0,
            _ => (all / 2).max(out.min(all)).max(1),
        };
        assert!(self.out() <= most, "{op}: {out}, then {}", self.out());
        assert!(
            self.settings.ejection || self.out() == 0,
            "{op}: no ejection"
        );
    }
}
