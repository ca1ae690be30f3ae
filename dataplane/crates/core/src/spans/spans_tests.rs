//! What reaches a collector, which is a thread here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use ::http::{Method, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span as Told;
use prost::Message;

use super::export::{Counts, Exporter};
use super::http::HttpTrace;
use super::{Kind, Span, Tracer};
use crate::config::TracingConfig;
use crate::grpc::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};
use crate::headers::Headers;

/// Spans of one request, as an exporter may send at most.
const MAX_BATCH: usize = 512;
/// Calls whose spans may wait.
const MAX_WAITING: usize = 2_048;
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A collector that gives every request this status.
struct Collector {
    endpoint: String,
    requests: Receiver<(String, Vec<Told>)>,
}

impl Collector {
    fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    stream.read_until(b'\n', &mut head).unwrap();
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                let length = head.split("content-length: ").nth(1).unwrap();
                let length = length.split("\r\n").next().unwrap().parse().unwrap();
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
                let spans = request.resource_spans.into_iter();
                let spans = spans.flat_map(|it| it.scope_spans).flat_map(|it| it.spans);
                let path = head.split(' ').nth(1).unwrap().to_owned();
                sender.send((path, spans.collect())).unwrap();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { endpoint, requests }
    }

    fn requests(&self) -> Vec<(String, Vec<Told>)> {
        self.requests.try_iter().collect()
    }
}

fn span() -> Span {
    Span {
        trace_id: [1; 16],
        id: [2; 8],
        parent: None,
        name: "it".into(),
        kind: Kind::Server,
        start: SystemTime::now(),
        end: SystemTime::now(),
        attributes: Vec::new(),
        error: None,
    }
}

fn counted(counts: &Counts) -> (u64, u64) {
    (counts.sent.load(Relaxed), counts.lost.load(Relaxed))
}

#[test]
fn the_end_sends_what_waits_and_what_is_not_taken_is_lost() {
    for (status, path, counts) in [
        ("200 OK", "", (3, 0)),
        ("202 Accepted", "/own/path", (3, 0)),
        ("404 Not Found", "/", (0, 3)),
        ("503 Unavailable", "", (0, 3)),
    ] {
        let collector = Collector::start(status);
        let all = Counts::default();
        let endpoint = format!("{}{path}", collector.endpoint);
        let exporter = Exporter::start(&endpoint, "it", all.clone()).unwrap();
        exporter.send(vec![span(), span()]);
        exporter.send(vec![span()]);
        drop(exporter);
        assert_eq!(counted(&all), counts, "{status}");
        let requests = collector.requests();
        let [(asked, spans)] = &requests[..] else {
            panic!("{} requests", requests.len());
        };
        assert_eq!(
            (&**asked, spans.len()),
            (if path.len() > 1 { path } else { "/v1/traces" }, 3)
        );
    }
}

#[test]
fn a_request_has_no_more_spans_than_a_collector_expects() {
    let collector = Collector::start("200 OK");
    let counts = Counts::default();
    let exporter = Exporter::start(&collector.endpoint, "it", counts.clone()).unwrap();
    for _ in 0..=2 * MAX_BATCH {
        exporter.send(vec![span()]);
    }
    drop(exporter);
    assert_eq!(counted(&counts), (2 * MAX_BATCH as u64 + 1, 0));
    let requests = collector.requests();
    assert!(requests.iter().all(|(_, spans)| spans.len() <= MAX_BATCH));
}

#[test]
fn what_more_than_may_wait_for_a_silent_collector_is_lost_and_the_end_waits_for_none_of_it() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let counts = Counts::default();
    let exporter = Exporter::start(&endpoint, "it", counts.clone()).unwrap();
    // The first batch is on its way, and the others wait.
    let (most, over) = (MAX_BATCH + MAX_WAITING, 1_000);
    for _ in 0..most + over {
        exporter.send(vec![span()]);
    }
    let lost = counted(&counts).1;
    assert!(lost >= over as u64, "{lost}");
    let began = Instant::now();
    drop(exporter);
    assert!(began.elapsed() < Duration::from_secs(8));
    assert_eq!(counted(&counts), (0, (most + over) as u64));
}

fn tracer(collector: &Collector, sample: f64) -> Arc<Tracer> {
    let config = TracingConfig {
        endpoint: collector.endpoint.clone(),
        sample,
        service: "it".to_owned(),
    };
    Arc::new(Tracer::start(&config, Counts::default()).unwrap())
}

#[test]
fn a_request_over_http_has_a_span_between_its_callers_and_its_calls() {
    for (status, is_error) in [(Some(503), true), (Some(404), false), (None, false)] {
        let collector = Collector::start("200 OK");
        let tracer = tracer(&collector, 0.0);
        let mut headers = Headers::new();
        headers.push(TRACEPARENT, CALLER);
        headers.push(TRACESTATE, "a=1");
        let caller = TraceContext::find(&headers).unwrap();
        let path = format!("/{}", "p".repeat(300));
        let what = (&Method::POST, &*path);
        let trace = HttpTrace::begin(&tracer, what, &mut headers).unwrap();
        let began = Instant::now();
        let took = Duration::from_millis(2);
        while began.elapsed() < took {
            std::thread::yield_now();
        }
        trace.end(status.map(|it| StatusCode::from_u16(it).unwrap()));
        drop(tracer);
        let requests = collector.requests();
        let span = &requests[0].1[0];
        let of_calls = TraceContext::find(&headers).unwrap();
        assert_eq!(headers.text(TRACESTATE), Some("a=1"));
        assert_eq!(span.trace_id, caller.trace_id);
        assert_eq!(of_calls.trace_id, caller.trace_id);
        assert_eq!(span.parent_span_id, caller.span_id);
        assert_eq!(span.span_id, of_calls.span_id);
        assert_ne!(of_calls.span_id, caller.span_id);
        let nanoseconds = span.end_time_unix_nano - span.start_time_unix_nano;
        assert!(u128::from(nanoseconds) >= took.as_nanos());
        let code = span.status.as_ref().map_or(0, |it| it.code);
        assert_eq!(code == 2, is_error, "{status:?}");
        let mut told = span.attributes.iter().filter(|it| it.key == "url.path");
        let told = told.next().and_then(|it| it.value.clone()?.value);
        assert_eq!(told, Some(Any::StringValue(path[..256].to_owned())));
    }
}

#[test]
fn as_many_calls_begin_a_trace_as_the_sample_says() {
    let collector = Collector::start("200 OK");
    for (sample, least, most) in [(0.0, 0, 0), (0.2, 100, 300), (1.0, 1000, 1000)] {
        let tracer = tracer(&collector, sample);
        let begun = |may_begin| {
            let mut each = (0..1000).filter_map(|_| tracer.sample(&mut Headers::new(), may_begin));
            each.by_ref().count()
        };
        let count = begun(true);
        assert!(
            (least..=most).contains(&count),
            "{count} of 1000 at {sample}"
        );
        assert_eq!(begun(false), 0, "what is made for another decides nothing");
    }
}
