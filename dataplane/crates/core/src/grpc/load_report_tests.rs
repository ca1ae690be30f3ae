use proptest::prelude::*;
use prost::Message;

use super::*;

#[allow(dead_code)]
mod official {
    include!(concat!(env!("OUT_DIR"), "/xds.data.orca.v3.rs"));
}

use official::OrcaLoadReport;

fn trailers(report: &OrcaLoadReport) -> Headers {
    let value = base64::engine::general_purpose::STANDARD.encode(report.encode_to_vec());
    Headers::from_iter([(LOAD_REPORT, value)])
}

fn map(rows: &[(&str, f64)]) -> std::collections::HashMap<String, f64> {
    rows.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect()
}

#[test]
fn what_we_write_is_an_orca_load_report_without_padding() {
    let report = LoadReport {
        utilization: 0.75,
        rps: 120.5,
        eps: 2.0,
        queue: 7.0,
        queue_ms: 1.25,
        compute_ms: 3.5,
        preprocess_ms: 0.5,
        model_ms: 2.75,
        postprocess_ms: 0.25,
    };
    let text = report.text();
    assert!(!text.contains('='));
    let bytes = BASE64.decode(&text).expect("base64");
    let read = OrcaLoadReport::decode(&bytes[..]).expect("the official parser reads it");
    assert_eq!(
        read,
        OrcaLoadReport {
            application_utilization: 0.75,
            rps_fractional: 120.5,
            eps: 2.0,
            named_metrics: map(&[("queue", 7.0)]),
            request_cost: map(&[
                ("queue_ms", 1.25),
                ("compute_ms", 3.5),
                ("preprocess_ms", 0.5),
                ("model_ms", 2.75),
                ("postprocess_ms", 0.25),
            ]),
            ..OrcaLoadReport::default()
        }
    );
    let trailers = Headers::from_iter([(LOAD_REPORT, text)]);
    assert_eq!(LoadReport::find(&trailers), Ok(Some(report)));
    assert_eq!(LoadReport::find(&Headers::new()), Ok(None));
}

#[test]
#[allow(deprecated)]
fn what_others_write_is_read_with_padding_and_the_cpu_stands_in_for_the_application() {
    let theirs = OrcaLoadReport {
        cpu_utilization: 1.5,
        mem_utilization: 0.5,
        rps: 40,
        utilization: map(&[("gpu", 0.9)]),
        named_metrics: map(&[("other", 3.0)]),
        ..OrcaLoadReport::default()
    };
    let report = LoadReport::find(&trailers(&theirs))
        .expect("it is one")
        .expect("it is there");
    assert_eq!(
        (report.utilization, report.rps, report.queue),
        (1.5, 40.0, 0.0)
    );
    let both = OrcaLoadReport {
        application_utilization: 0.25,
        ..theirs
    };
    let report = LoadReport::find(&trailers(&both))
        .expect("it is one")
        .expect("it is there");
    assert_eq!(report.utilization, 0.25);
}

#[test]
fn numbers_that_no_load_can_be_count_as_nothing_said() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        let theirs = OrcaLoadReport {
            application_utilization: value,
            rps_fractional: value,
            eps: value,
            named_metrics: map(&[("queue", value)]),
            ..OrcaLoadReport::default()
        };
        let report = LoadReport::find(&trailers(&theirs));
        assert_eq!(report, Ok(Some(LoadReport::default())), "{value}");
    }
}

#[test]
fn a_report_that_is_too_large_or_no_base64_or_no_message_is_none() {
    let large = OrcaLoadReport {
        named_metrics: map(&[(&"x".repeat(4096), 1.0)]),
        ..OrcaLoadReport::default()
    };
    assert_eq!(LoadReport::find(&trailers(&large)), Err(Unreadable));
    for text in ["!", "a", "SGVsbG8gd29ybGQ", "CQ==", "Ig8K,Ig8K"] {
        let trailers = Headers::from_iter([(LOAD_REPORT, text)]);
        assert_eq!(LoadReport::find(&trailers), Err(Unreadable), "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_say_what_no_load_can_be(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        // As it may come, base64 or not.
        let _ = LoadReport::decode(&bytes);
        if let Ok(report) = LoadReport::decode(BASE64.encode(&bytes).as_bytes()) {
            for value in [report.utilization, report.rps, report.eps, report.queue] {
                prop_assert!(value.is_finite() && value >= 0.0);
            }
        }
    }

    #[test]
    fn it_reads_what_the_official_parser_reads(
        utilization: f64, rps: f64, eps: f64,
        metrics in prop::collection::hash_map("queue|[a-z]{0,20}", any::<f64>(), 0..5),
    ) {
        let theirs = OrcaLoadReport {
            application_utilization: utilization,
            rps_fractional: rps,
            eps,
            named_metrics: metrics.clone(),
            ..OrcaLoadReport::default()
        };
        let ours = LoadReport::find(&trailers(&theirs)).expect("it is one").expect("it is there");
        let queue = metrics.get("queue").copied().map_or(0.0, sane);
        prop_assert_eq!((ours.utilization, ours.rps), (sane(utilization), sane(rps)));
        prop_assert_eq!((ours.eps, ours.queue), (sane(eps), queue));
    }
}
