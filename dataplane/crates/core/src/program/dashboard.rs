//! What the dashboard reads of the last ten minutes: `/history`, the seconds of `/events`, `/errors`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::json;

use super::changes;
use crate::error::TABLE;
use crate::proxy::state::Shared;
use crate::stats::history::{History, SECONDS, Second, code_name, kind_name};

/// Seconds that are one number in the overview of a model.
const STEP: usize = 10;

/// One number a second, the oldest first; null for a second that was missed, and without calls.
#[derive(Default, Serialize)]
struct Series {
    requests: Vec<Option<u32>>,
    errors: Vec<Option<u32>>,
    kinds: BTreeMap<&'static str, Vec<Option<u32>>>,
    p50_ms: Vec<Option<f64>>,
    p90_ms: Vec<Option<f64>>,
    p99_ms: Vec<Option<f64>>,
}

/// One number for ten seconds, 60 of them, the oldest first.
#[derive(Serialize)]
struct Overview {
    requests: Vec<Option<u32>>,
    errors: Vec<Option<u32>>,
    /// Of the worst second.
    p99_ms: Vec<Option<f64>>,
}

/// One second of all models.
#[derive(Serialize)]
struct Total {
    requests: u32,
    errors: u32,
    kinds: BTreeMap<&'static str, u32>,
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// One model's second: requests, errors, p50 and p99 in ms.
type Short = (u32, u32, Option<f64>, Option<f64>);

/// What is new in a second.
#[derive(Serialize)]
struct Event<'a> {
    unix_s: f64,
    ready: bool,
    total: Total,
    models: BTreeMap<&'a str, Short>,
    in_flight: usize,
    status: String,
}

/// Note a second that is over, and say what is new in it, if anybody watches.
pub fn second(
    shared: &Shared,
    history: &Mutex<History>,
    number: u64,
    is_watched: bool,
) -> Option<String> {
    shared.recorder.second(number);
    let state = shared.state.load_full();
    let models = state.routes.models.values();
    let models = models.map(|model| (&*model.name, &model.stats));
    let kinds = &shared.server.stats.errors;
    let mut history = lock(history);
    history.add(number, SystemTime::now(), models, &shared.unrouted, kinds);
    if !is_watched {
        return None;
    }
    let (_, at) = history.end()?;
    let last = history.last();
    let of_model =
        |(name, it): (_, Second)| (name, (it.requests, it.errors, ms(&it, 0), ms(&it, 2)));
    let event = Event {
        unix_s: unix(at),
        ready: shared.ready().is_ok(),
        total: Total {
            requests: last.requests,
            errors: last.errors,
            kinds: named(&last.kinds, kind_name),
            p50_ms: ms(&last, 0),
            p90_ms: ms(&last, 1),
            p99_ms: ms(&last, 2),
        },
        models: history.last_of_models().map(of_model).collect(),
        in_flight: shared.in_flight.count(),
        status: changes::fingerprint(shared),
    };
    serde_json::to_string(&event).ok()
}

/// The page of /history, or that of one model.
///
/// # Errors
/// There is no such model.
pub fn history(
    shared: &Shared,
    history: &Mutex<History>,
    model: Option<&str>,
) -> Result<String, String> {
    let history = lock(history);
    let end = history.end().map_or_else(SystemTime::now, |(_, at)| at);
    let Some(name) = model else {
        let models = history.models();
        let models: BTreeMap<_, _> = models.map(|(name, it)| (name, overview(&it))).collect();
        let total = series(&history.total(), kind_name);
        let page = json!({"end_unix_s": unix(end), "total": total, "models": models});
        return Ok(page.to_string());
    };
    let is_routed = shared.state.load().routes.models.contains_key(name);
    let seconds = match history.model(name) {
        Some(seconds) => seconds,
        // It is there and was never called.
        None if is_routed => history.quiet(),
        None => {
            let name: String = name.chars().take(256).collect();
            let text = format!(
                "no model {name:?}, nor had one that name in the last ten minutes: /status lists the models\n"
            );
            return Err(text);
        }
    };
    let series = series(&seconds, code_name);
    Ok(json!({"end_unix_s": unix(end), "series": series}).to_string())
}

/// The page of /errors.
pub fn errors() -> String {
    let rows = TABLE.iter();
    let rows = rows.map(|row| {
        let about = json!({"code": row.code.name(), "remedy": row.remedy});
        (row.name, about)
    });
    let table: BTreeMap<_, _> = rows.collect();
    json!(table).to_string()
}

fn series(seconds: &[Option<Second>], name: fn(u8) -> &'static str) -> Series {
    let mut series = Series::default();
    for (place, second) in seconds.iter().enumerate() {
        let seen = second.as_ref();
        series.requests.push(seen.map(|it| it.requests));
        series.errors.push(seen.map(|it| it.errors));
        series.p50_ms.push(seen.and_then(|it| ms(it, 0)));
        series.p90_ms.push(seen.and_then(|it| ms(it, 1)));
        series.p99_ms.push(seen.and_then(|it| ms(it, 2)));
        for &(kind, count) in seen.into_iter().flat_map(|it| &it.kinds) {
            let quiet = || seconds.iter().map(|it| it.as_ref().map(|_| 0)).collect();
            let counts: &mut Vec<_> = series.kinds.entry(name(kind)).or_insert_with(quiet);
            counts[place] = Some(count);
        }
    }
    series
}

fn overview(seconds: &[Option<Second>]) -> Overview {
    let before = vec![None; SECONDS - seconds.len()];
    let seconds: Vec<Option<&Second>> = before
        .into_iter()
        .chain(seconds.iter().map(Option::as_ref))
        .collect();
    let steps = || seconds.chunks(STEP).map(|step| step.iter().flatten());
    let sum = |count: fn(&Second) -> u32| {
        let sums = steps().map(|step| step.map(|it| count(it)).reduce(|one, other| one + other));
        sums.collect()
    };
    Overview {
        requests: sum(|it| it.requests),
        errors: sum(|it| it.errors),
        p99_ms: steps()
            .map(|step| step.filter_map(|it| ms(it, 2)).reduce(f64::max))
            .collect(),
    }
}

fn named(kinds: &[(u8, u32)], name: fn(u8) -> &'static str) -> BTreeMap<&'static str, u32> {
    kinds
        .iter()
        .map(|&(kind, count)| (name(kind), count))
        .collect()
}

/// One of a second's quantiles, with microsecond digits.
fn ms(second: &Second, which: usize) -> Option<f64> {
    let quantiles = second.quantiles_ms?;
    Some((f64::from(quantiles[which]) * 1e3).round() / 1e3)
}

fn unix(at: SystemTime) -> f64 {
    let since_1970 = at.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since_1970.as_ref().map_or(0.0, Duration::as_secs_f64);
    (seconds * 1e3).round() / 1e3
}

/// Whole at any time: a second that panicked is left out.
fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}
