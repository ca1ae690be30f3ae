//! ORCA reports in an answer's trailers: the reader without allocations reads what any decoder would.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use dl_core::fuzzing::{Headers, LOAD_REPORT, LoadReport};
use prost::Message;

/// `OrcaLoadReport` of protos/xds/data/orca/v3, as far as it is read. Maps are written out as their entries: prost's own
/// take any wire type for one.
#[derive(Message)]
struct Orca {
    #[prost(double, tag = "1")]
    cpu_utilization: f64,
    #[prost(uint64, tag = "3")]
    rps: u64,
    #[prost(message, repeated, tag = "4")]
    request_cost: Vec<Entry>,
    #[prost(double, tag = "6")]
    rps_fractional: f64,
    #[prost(double, tag = "7")]
    eps: f64,
    #[prost(message, repeated, tag = "8")]
    named_metrics: Vec<Entry>,
    #[prost(double, tag = "9")]
    application_utilization: f64,
}

#[derive(Message)]
struct Entry {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(double, tag = "2")]
    value: f64,
}

/// The trailer itself if the first byte is `=`, which no base64 begins with; else the report in it.
pub fn run(data: &[u8]) {
    if let [b'=', text @ ..] = data {
        let _ = read(text);
        return;
    }
    let text = STANDARD_NO_PAD.encode(data);
    // Beyond this a report is not read.
    let is_short = text.len() <= 4096;
    let found = read(text.as_bytes());
    assert!(is_short || found.is_none());
    if let (Ok(orca), true) = (Orca::decode(data), is_short) {
        assert_eq!(found, Some(expected(&orca)), "{orca:?}");
    }
}

fn read(value: &[u8]) -> Option<LoadReport> {
    let report = LoadReport::find(&Headers::from_iter([(LOAD_REPORT, value)])).ok()??;
    for number in [
        report.utilization,
        report.rps,
        report.eps,
        report.queue,
        report.queue_ms,
        report.compute_ms,
        report.preprocess_ms,
        report.model_ms,
        report.postprocess_ms,
    ] {
        assert!(number.is_finite() && number >= 0.0, "{report:?}");
    }
    let again = LoadReport::find(&Headers::from_iter([(LOAD_REPORT, report.text())]));
    assert_eq!(again, Ok(Some(report)));
    Some(report)
}

fn expected(orca: &Orca) -> LoadReport {
    let sane = |value: f64| {
        if value.is_finite() {
            value.max(0.0)
        } else {
            0.0
        }
    };
    let first = |one: f64, other: f64| if one > 0.0 { one } else { other };
    let entry = |map: &[Entry], name| {
        let last = map.iter().rfind(|entry| entry.name == name);
        sane(last.map_or(0.0, |entry| entry.value))
    };
    LoadReport {
        utilization: first(
            sane(orca.application_utilization),
            sane(orca.cpu_utilization),
        ),
        rps: first(sane(orca.rps_fractional), orca.rps as f64),
        eps: sane(orca.eps),
        queue: entry(&orca.named_metrics, "queue"),
        queue_ms: entry(&orca.request_cost, "queue_ms"),
        compute_ms: entry(&orca.request_cost, "compute_ms"),
        preprocess_ms: entry(&orca.request_cost, "preprocess_ms"),
        model_ms: entry(&orca.request_cost, "model_ms"),
        postprocess_ms: entry(&orca.request_cost, "postprocess_ms"),
    }
}
