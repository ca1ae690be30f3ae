//! That a history says what its counters said, whatever became of the models and of the clock.

use std::time::Duration;

use super::*;

/// A small generator: one seed is one run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn stats() -> Arc<CallStats> {
    Arc::new(CallStats::new(3))
}

struct Bench {
    history: History,
    unrouted: Arc<CallStats>,
    kinds: KindCounters,
    models: BTreeMap<String, Arc<CallStats>>,
}

impl Bench {
    fn new() -> Self {
        Self {
            history: History::default(),
            unrouted: stats(),
            kinds: KindCounters::default(),
            models: BTreeMap::new(),
        }
    }

    fn model(&mut self, name: &str) -> Arc<CallStats> {
        let model = self.models.entry(name.to_owned()).or_insert_with(stats);
        model.clone()
    }

    fn second(&mut self, second: u64) {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let models = self.models.iter().map(|(name, stats)| (&**name, stats));
        self.history
            .add(second, at, models, &self.unrouted, &self.kinds);
    }
}

fn sums(seconds: &[Option<Second>]) -> (u64, u64, u64) {
    let seen = seconds.iter().flatten();
    seen.fold((0, 0, 0), |(requests, errors, kinds), second| {
        let each: u32 = second.kinds.iter().map(|(_, count)| count).sum();
        (
            requests + u64::from(second.requests),
            errors + u64::from(second.errors),
            kinds + u64::from(each),
        )
    })
}

fn requests(seconds: &[Option<Second>]) -> Vec<Option<u32>> {
    let seconds = seconds.iter();
    seconds
        .map(|it| it.as_ref().map(|it| it.requests))
        .collect()
}

#[test]
fn the_sums_of_the_history_are_the_counters_whatever_comes_and_goes() {
    for seed in 0..30 {
        let mut random = Random(seed);
        let mut bench = Bench::new();
        let (mut all, mut bad) = (0, 0);
        let mut of_m = (0, 0);
        let mut second = 0;
        while second < 590 {
            for _ in 0..random.below(20) {
                let code = Code::ALL[random.below(3) as usize * 7];
                let is_m = random.below(2) == 0;
                let name = if is_m {
                    "m".to_owned()
                } else {
                    format!("n{}", random.below(3))
                };
                let model = bench.model(&name);
                model.record(
                    random.below(3) as usize,
                    code,
                    Duration::from_millis(random.below(90)),
                );
                let failed = u64::from(code != Code::Ok);
                (all, bad) = (all + 1, bad + failed);
                if is_m {
                    of_m = (of_m.0 + 1, of_m.1 + failed);
                }
            }
            // A reload takes a model away, a later one brings it back with counters of its own.
            if random.below(5) == 0 {
                bench.second(second + 1);
                bench.models.remove(&format!("n{}", random.below(3)));
            }
            second += 1 + random.below(3);
            bench.second(second);
        }
        let total = sums(&bench.history.total());
        assert_eq!(total, (all, bad, bad), "seed {seed}");
        let m = bench.history.model("m").expect("called");
        assert_eq!(sums(&m), (of_m.0, of_m.1, of_m.1), "seed {seed}");
    }
}

#[test]
fn a_missed_second_is_a_gap_and_its_calls_are_in_the_next() {
    let mut bench = Bench::new();
    let model = bench.model("m");
    bench.second(1);
    model.record(0, Code::Ok, Duration::from_millis(1));
    bench.second(4);
    // The clock stands, or went back: what comes next has all.
    model.record(0, Code::Ok, Duration::from_millis(1));
    bench.second(4);
    bench.second(3);
    model.record(0, Code::Ok, Duration::from_millis(1));
    bench.second(5);
    let expected = [Some(0), None, None, Some(1), Some(2)];
    assert_eq!(requests(&bench.history.total()), expected);
    let m = bench.history.model("m").expect("called");
    assert_eq!(requests(&m), expected);
    // Longer than all that is kept, and a number that the short ones of a line mistake for the one before.
    for asleep in [1_000, u64::from(u16::MAX) + 1] {
        let number = bench.history.end().expect("looked at").0 + asleep;
        bench.second(number);
        let total = requests(&bench.history.total());
        assert_eq!(total.len(), SECONDS);
        assert!(total[..SECONDS - 1].iter().all(Option::is_none));
        assert_eq!(total[SECONDS - 1], Some(0));
    }
}

#[test]
fn quantiles_are_of_their_second_alone() {
    let mut bench = Bench::new();
    let model = bench.model("m");
    for (second, milliseconds) in [(1, 10), (2, 100), (3, 1_000)] {
        for _ in 0..100 {
            model.record(0, Code::Ok, Duration::from_millis(milliseconds));
        }
        bench.second(second);
    }
    bench.second(4);
    let m = bench.history.model("m").expect("called");
    let total = bench.history.total();
    for seconds in [m, total] {
        for (second, expected) in seconds.iter().zip([10.0, 100.0, 1_000.0]) {
            let [p50, p90, p99] = second
                .as_ref()
                .and_then(|it| it.quantiles_ms)
                .expect("calls");
            for quantile in [p50, p90, p99] {
                assert!(
                    (quantile / expected - 1.0).abs() < 0.1,
                    "{quantile} for {expected}"
                );
            }
        }
        assert_eq!(seconds[3].as_ref().expect("seen").quantiles_ms, None);
    }
}

#[test]
fn errors_of_ours_have_their_kind_and_those_of_endpoints_their_code() {
    let mut bench = Bench::new();
    let model = bench.model("m");
    let ours = |bench: &Bench| bench.kinds.add(ErrorKind::NoEndpoints);
    // One of ours is counted a second before its call is.
    ours(&bench);
    bench.second(1);
    model.record(0, Code::Unavailable, Duration::from_millis(1));
    model.record(0, Code::Unavailable, Duration::from_millis(1));
    bench.kinds.add(ErrorKind::UnknownMethod);
    bench.second(2);
    bench.second(3);
    // Once more, after one that came from an endpoint.
    ours(&bench);
    bench.second(4);
    model.record(0, Code::Unavailable, Duration::from_millis(1));
    bench.second(5);
    let total = bench.history.total();
    let named = |second: &Option<Second>| {
        let kinds = second.as_ref().expect("seen").kinds.iter();
        kinds
            .map(|&(kind, count)| (kind_name(kind), count))
            .collect::<Vec<_>>()
    };
    assert_eq!(named(&total[0]), [("no_endpoints", 1)]);
    assert_eq!(
        named(&total[1]),
        [("unknown_method", 1), ("UNAVAILABLE", 1)]
    );
    assert_eq!(named(&total[2]), []);
    assert_eq!(named(&total[3]), [("no_endpoints", 1)]);
    assert_eq!(named(&total[4]), []);
    assert_eq!(requests(&total), [0, 3, 0, 0, 1].map(Some));
    let m = bench.history.model("m").expect("called");
    let second = m[1].as_ref().expect("seen");
    assert_eq!((second.requests, second.errors), (2, 2));
    assert_eq!(code_name(second.kinds[0].0), "UNAVAILABLE");
}

#[test]
fn a_model_that_is_gone_leaves_after_ten_minutes_and_its_last_calls_count() {
    let mut bench = Bench::new();
    let model = bench.model("m");
    model.record(0, Code::Ok, Duration::from_millis(1));
    bench.second(1);
    bench.models.remove("m");
    bench.second(2);
    // It came before the reload and ends after it.
    model.record(0, Code::Ok, Duration::from_millis(1));
    bench.second(3);
    drop(model);
    for second in 4..SECONDS as u64 + 3 {
        bench.second(second);
        let m = bench.history.model("m").expect("lately called");
        assert!(m.len() >= 3, "{second}");
    }
    assert_eq!(
        requests(&bench.history.model("m").expect("kept"))
            .iter()
            .flatten()
            .sum::<u32>(),
        1
    );
    bench.second(SECONDS as u64 + 3);
    assert!(bench.history.model("m").is_none());
    assert!(bench.history.models().next().is_none());
}

#[test]
fn five_hundred_busy_models_take_ten_megabytes_at_most() {
    let mut bench = Bench::new();
    let models: Vec<_> = (0..5)
        .map(|number| bench.model(&format!("m{number}")))
        .collect();
    for second in 1..=SECONDS as u64 + 50 {
        for model in &models {
            model.record(0, Code::Ok, Duration::from_millis(1));
            model.record(0, Code::Unavailable, Duration::from_millis(second));
        }
        bench.second(second);
    }
    let lines = bench.history.models.values();
    let held = lines.map(|it| it.line.bytes() + size_of::<Tracked>() + size_of::<Counts>());
    let held = held.sum::<usize>() / 5;
    assert!(held > SECONDS * 28, "all that is counted: {held}");
    assert!(500 * held < 10_000_000, "{held} for each");
}
