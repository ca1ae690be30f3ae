//! Calls over an in-memory connection, with h2's client on the other side and a thread in Python's place.

use std::sync::Arc;

use h2::RecvStream;
use h2::client::SendRequest;
use http::{Request, Response};
use tokio::task::LocalSet;

use super::*;
use crate::call::limit::Held;
use crate::code::Code;
use crate::config::WorkerConfig;
use crate::grpc::framing;
use crate::grpc::status::parse_grpc_status;
use crate::headers::Headers;
use crate::net::http2::fields::from_map;

use crate::testing::{frame, grpc_message, limits, request_id, requests};
use crate::worker::codec::{self, Answer, Payload};
use crate::worker::state::Shared;

const PREDICT: &str = Method::Predict.path();

/// Limits small enough to reach.
pub(super) fn config() -> WorkerConfig {
    let mut limits = limits();
    limits["max_message_bytes"] = 100_000.into();
    limits["max_in_flight"] = 4.into();
    limits["max_held_bytes"] = 200_000.into();
    serde_json::from_value(serde_json::json!({
        "listen": [], "admin": null, "model": "m", "aliases": ["39"], "version": "1", "labels": ["stable"],
        "platform": "test", "inputs": [{"name": "x", "dtype": "object", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": []}, {"name": "z", "dtype": "complex64", "shape": []}],
        "max_queue": 2, "max_batch": 8,
        "batching": {"joins": true, "max_rows": 64, "max_delay_ms": null, "alike": "all", "pad_axis": null}, "load_reports": true, "timeout_ms": 60000, "stream_idle_timeout_ms": 7000,
        "hang_timeout_ms": 300,
        "latency_buckets_ms": [1.0], "limits": limits,
    }))
    .unwrap()
}

/// Descriptors of the services alone, one file each.
fn descriptors() -> Vec<u8> {
    use prost::Message;
    use prost_types::{FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto};
    let services = [
        "seldon.protos.Model",
        "seldon.protos.Seldon",
        "inference.GRPCInferenceService",
        "tensorflow.serving.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    let file = |name: &&str| {
        let (package, service) = name.rsplit_once('.').unwrap();
        let service = ServiceDescriptorProto {
            name: Some(service.to_owned()),
            ..Default::default()
        };
        FileDescriptorProto {
            name: Some(format!("{name}.proto")),
            package: Some(package.to_owned()),
            service: vec![service],
            ..Default::default()
        }
    };
    FileDescriptorSet {
        file: services.iter().map(file).collect(),
    }
    .encode_to_vec()
}

/// A served connection and its client.
pub(super) struct Fixture {
    pub front: Rc<Front>,
    pub client: SendRequest<Bytes>,
}

pub(super) struct Outcome {
    pub code: Option<Code>,
    pub text: String,
    pub kind: Option<String>,
    pub headers: Headers,
    pub body: Vec<u8>,
}

/// Run a test on a thread that is runtime and LocalSet at once, as the front's is.
pub(super) fn on_front_thread<F: Future<Output = ()>>(is_paused: bool, test: impl FnOnce() -> F) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder
        .enable_all()
        .start_paused(is_paused)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test());
}

pub(super) async fn fixture() -> Fixture {
    fixture_with(config()).await
}

pub(super) async fn fixture_with(config: WorkerConfig) -> Fixture {
    let shared = Shared::new(config, &descriptors()).unwrap();
    shared.set_ready(true);
    let front = Rc::new(Front::new(Arc::new(shared)));
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let serving = front.clone();
    tokio::task::spawn_local(requests(ours, move |head, body, answer| {
        let guard = StreamGuard::lone();
        tokio::task::spawn_local(handle(serving.clone(), head, body, answer, guard));
    }));
    // Callers are not bound by what h2 lets lie unread on its own side.
    let client = h2::client::Builder::new()
        .data_frame_budget(1 << 30)
        .handshake(theirs);
    let (client, connection) = client.await.unwrap();
    tokio::task::spawn_local(connection);
    Fixture {
        front,
        client: client.ready().await.unwrap(),
    }
}

pub(super) fn request(path: &str) -> http::request::Builder {
    let uri = format!("http://localhost{path}");
    Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

impl Fixture {
    async fn call(&self, message: &[u8]) -> Outcome {
        self.send(request(PREDICT), frame(message)).await
    }

    pub async fn send(&self, request: http::request::Builder, body: Bytes) -> Outcome {
        let mut client = self.client.clone();
        let (response, mut stream) = client
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        // A refused body ends in a reset, which the response tells.
        let _ = stream.send_data(body, true);
        outcome(response.await.unwrap()).await
    }

    /// Answer every call that comes with its own strData, from another thread.
    fn echo(&self) -> std::thread::JoinHandle<usize> {
        let queue = self.front.shared.queue.clone();
        std::thread::spawn(move || {
            let mut answered = 0;
            while let Some(batch) = queue.next_batch(8, Duration::from_secs(60)) {
                for call in batch {
                    let Payload::StrData(text) = &call.payload else {
                        continue;
                    };
                    call.slot.answer(&Answer::StrData(text), &[]);
                    answered += 1;
                }
            }
            answered
        })
    }
}

pub(super) async fn outcome(response: Response<RecvStream>) -> Outcome {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk.unwrap();
        stream.flow_control().release_capacity(chunk.len()).unwrap();
        body.extend_from_slice(&chunk);
    }
    let headers = from_map(&stream.trailers().await.unwrap().unwrap_or(head.headers));
    let kind = headers.text("access-error").map(str::to_owned);
    let text = grpc_message(&headers).into_owned();
    Outcome {
        code: parse_grpc_status(&headers),
        text,
        kind,
        headers,
        body,
    }
}

pub(super) fn text_message(text: &str) -> Vec<u8> {
    codec::encode(&Answer::StrData(text), &[], &[], usize::MAX).unwrap()[framing::PREFIX..].to_vec()
}

#[test]
fn a_call_gets_its_answer_status_and_request_id() {
    on_front_thread(false, || async {
        let fixture = fixture().await;
        let python = fixture.echo();
        let request = request(Method::SeldonPredict.path()).header("x-request-id", "my-id");
        let outcome = fixture.send(request, frame(&text_message("hello"))).await;
        assert_eq!(outcome.code, Some(Code::Ok));
        assert_eq!(outcome.body, frame(&text_message("hello")));
        assert_eq!(outcome.headers.text("x-request-id"), Some("my-id"));
        assert_eq!(outcome.kind, None);
        fixture.front.shared.queue.close();
        assert_eq!(python.join().unwrap(), 1);
    });
}

#[test]
fn a_message_larger_than_every_window_passes_both_ways() {
    on_front_thread(false, || async {
        let fixture = fixture().await;
        let python = fixture.echo();
        let message = text_message(&"x".repeat(90_000));
        let outcome = fixture.call(&message).await;
        assert_eq!(outcome.body, frame(&message));
        fixture.front.shared.queue.close();
        python.join().unwrap();
    });
}

#[test]
fn a_gzip_message_is_inflated() {
    on_front_thread(false, || async {
        use std::io::Write;
        let fixture = fixture().await;
        let python = fixture.echo();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text_message("hello")).unwrap();
        let mut body = frame(&gzip.finish().unwrap()).to_vec();
        body[0] = 1;
        let sent = request(PREDICT).header("grpc-encoding", "gzip");
        let outcome = fixture.send(sent, body.clone().into()).await;
        assert_eq!(outcome.body, frame(&text_message("hello")));
        for (encoding, code) in [
            ("snappy", Code::Unimplemented),
            ("identity", Code::Internal),
            ("deflate", Code::InvalidArgument),
        ] {
            let sent = request(PREDICT).header("grpc-encoding", encoding);
            let outcome = fixture.send(sent, body.clone().into()).await;
            assert_eq!(outcome.code, Some(code), "{encoding}");
        }
        fixture.front.shared.queue.close();
        python.join().unwrap();
    });
}

#[test]
fn a_gzip_bomb_is_refused() {
    on_front_thread(false, || async {
        use std::io::Write;
        let fixture = fixture().await;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![0; 10_000_000]).unwrap();
        let mut body = frame(&gzip.finish().unwrap()).to_vec();
        body[0] = 1;
        let sent = request(PREDICT).header("grpc-encoding", "gzip");
        let outcome = fixture.send(sent, body.into()).await;
        assert_eq!(
            (outcome.code, outcome.kind.as_deref()),
            (Some(Code::ResourceExhausted), Some("message_too_large"))
        );
    });
}

#[test]
fn what_cannot_be_read_is_refused_with_its_reason() {
    on_front_thread(false, || async {
        let fixture = fixture().await;
        let two = [frame(b""), frame(b"")].concat();
        let rows: [(&[u8], Code, &str); 6] = [
            (
                &frame(b"\xff\xff"),
                Code::InvalidArgument,
                "protobuf: message is truncated",
            ),
            (b"", Code::InvalidArgument, "the request has no message"),
            (
                b"\0\0",
                Code::InvalidArgument,
                "the request ended inside a message",
            ),
            (
                b"\x02\0\0\0\0",
                Code::InvalidArgument,
                "message flag is 2, must be 0 (plain) or 1 (compressed)",
            ),
            (
                &two,
                Code::InvalidArgument,
                "a unary call has one message, a second one came",
            ),
            (
                b"\0\0\x10\0\0",
                Code::ResourceExhausted,
                "message of 1048576 bytes is over the limit of 100000 (max_message_bytes)",
            ),
        ];
        for (body, code, text) in rows {
            let outcome = fixture
                .send(request(PREDICT), Bytes::copy_from_slice(body))
                .await;
            assert_eq!((outcome.code, &*outcome.text), (Some(code), text));
        }
    });
}

#[test]
fn an_unknown_method_is_unimplemented() {
    on_front_thread(false, || async {
        let fixture = fixture().await;
        let outcome = fixture
            .send(request("/seldon.protos.Router/Route"), frame(b""))
            .await;
        assert_eq!(
            (outcome.code, outcome.kind.as_deref()),
            (Some(Code::Unimplemented), Some("unknown_method"))
        );
        assert!(
            outcome.text.starts_with(
                "unknown method /seldon.protos.Router/Route: this model server answers"
            )
        );
    });
}

#[test]
fn a_model_that_is_not_ready_is_unavailable() {
    on_front_thread(false, || async {
        let fixture = fixture().await;
        fixture.front.shared.set_ready(false);
        let outcome = fixture.call(b"").await;
        assert_eq!(
            (outcome.code, outcome.kind.as_deref()),
            (Some(Code::Unavailable), Some("model_not_ready"))
        );
    });
}

#[test]
fn a_failure_from_python_keeps_its_code_text_and_kind() {
    on_front_thread(false, || async {
        let fixture = fixture().await;
        let queue = fixture.front.shared.queue.clone();
        let python = std::thread::spawn(move || {
            for call in queue.next_batch(8, Duration::from_secs(60)).unwrap() {
                call.slot
                    .fail(Status::named(10, "été\n".to_owned(), "hook", Some(-7)).unwrap());
            }
        });
        let outcome = fixture.call(b"").await;
        python.join().unwrap();
        assert_eq!(
            (outcome.code, &*outcome.text, outcome.kind.as_deref()),
            (Some(Code::Aborted), "été\n", Some("hook"))
        );
        assert_eq!(outcome.headers.text("access-error-number"), Some("-7"));
    });
}

#[test]
fn a_dropped_batch_is_internal_with_the_request_id() {
    on_front_thread(false, || async {
        let fixture = fixture().await;
        let queue = fixture.front.shared.queue.clone();
        let python = std::thread::spawn(move || drop(queue.next_batch(8, Duration::from_secs(60))));
        let outcome = fixture
            .send(request(PREDICT).header("x-request-id", "7"), frame(b""))
            .await;
        python.join().unwrap();
        assert_eq!(
            (outcome.code, &*outcome.text),
            (Some(Code::Internal), "internal error, request id 7")
        );
    });
}

#[test]
fn beyond_the_queue_and_beyond_the_calls_in_flight_calls_are_shed() {
    on_front_thread(true, || async {
        let fixture = Rc::new(fixture().await);
        let calls: Vec<_> = (0..2)
            .map(|_| {
                let fixture = fixture.clone();
                tokio::task::spawn_local(async move { fixture.call(b"").await.code })
            })
            .collect();
        while fixture.front.shared.queue.len() < 2 {
            tokio::task::yield_now().await;
        }
        let outcome = fixture.call(b"").await;
        assert_eq!(
            (outcome.code, outcome.kind.as_deref()),
            (Some(Code::ResourceExhausted), Some("shed"))
        );
        assert!(outcome.text.contains("max_queue"), "{}", outcome.text);
        let in_flight = &fixture.front.shared.in_flight;
        let others = [in_flight.acquire(4).unwrap(), in_flight.acquire(4).unwrap()];
        let outcome = fixture.call(b"").await;
        assert!(outcome.text.contains("max_in_flight"), "{}", outcome.text);
        drop(others);
        drop(fixture.front.shared.queue.next_batch(8, Duration::ZERO));
        for call in calls {
            assert_eq!(call.await.unwrap(), Some(Code::Internal));
        }
        assert_eq!(fixture.front.shared.in_flight.count(), 0);
    });
}

#[test]
fn request_bytes_beyond_the_budget_are_shed_and_given_back() {
    on_front_thread(true, || async {
        let fixture = fixture().await;
        let held_bytes = &fixture.front.shared.held;
        let mut held = Held::new(held_bytes.clone());
        held.grow(200_000).unwrap();
        let outcome = fixture.call(b"\xff").await;
        assert!(outcome.text.contains("max_held_bytes"), "{}", outcome.text);
        drop(held);
        assert_eq!(
            fixture.call(b"\xff").await.code,
            Some(Code::InvalidArgument)
        );
        assert_eq!(held_bytes.bytes(), 0);
    });
}

#[test]
fn the_deadline_of_the_caller_or_of_the_configuration_ends_a_call() {
    on_front_thread(true, || async {
        let fixture = fixture().await;
        for (timeout, seconds) in [("2S", 2), ("2H", 60)] {
            let started = Instant::now();
            let sent = request(PREDICT).header("grpc-timeout", timeout);
            let outcome = fixture.send(sent, frame(b"")).await;
            assert_eq!(
                (outcome.code, outcome.kind.as_deref()),
                (Some(Code::DeadlineExceeded), Some("deadline_exceeded"))
            );
            assert_eq!(started.elapsed().as_secs(), seconds);
        }
        assert!(
            fixture
                .front
                .shared
                .queue
                .next_batch(8, Duration::ZERO)
                .is_none()
        );
        let outcome = fixture
            .send(request(PREDICT).header("grpc-timeout", "soon"), frame(b""))
            .await;
        assert_eq!(outcome.code, Some(Code::InvalidArgument));
    });
}

#[test]
fn a_body_that_stalls_ends_the_call() {
    on_front_thread(true, || async {
        let mut fixture = fixture().await;
        let started = Instant::now();
        let sent = request(PREDICT).body(()).unwrap();
        let (response, mut stream) = fixture.client.send_request(sent, false).unwrap();
        stream
            .send_data(Bytes::from_static(b"\0\0\0\0\x01"), false)
            .unwrap();
        let outcome = outcome(response.await.unwrap()).await;
        assert_eq!(
            (outcome.code, &*outcome.text),
            (
                Some(Code::DeadlineExceeded),
                "the request's message did not come in time"
            )
        );
        assert_eq!(started.elapsed().as_secs(), 5);
    });
}

#[test]
fn a_caller_that_goes_takes_its_call_out_of_the_queue() {
    on_front_thread(true, || async {
        let mut fixture = fixture().await;
        let sent = request(PREDICT).body(()).unwrap();
        let (_response, mut stream) = fixture.client.send_request(sent, false).unwrap();
        stream.send_data(frame(b""), true).unwrap();
        while fixture.front.shared.queue.len() == 0 {
            tokio::task::yield_now().await;
        }
        stream.send_reset(h2::Reason::CANCEL);
        while fixture.front.shared.in_flight.count() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(
            fixture
                .front
                .shared
                .queue
                .next_batch(8, Duration::ZERO)
                .is_none()
        );
    });
}

#[test]
fn a_caller_that_does_not_read_its_answer_is_reset_at_its_deadline() {
    on_front_thread(true, || async {
        let mut fixture = fixture().await;
        let sent = request(PREDICT)
            .header("grpc-timeout", "3S")
            .body(())
            .unwrap();
        let (response, mut stream) = fixture.client.send_request(sent, false).unwrap();
        stream.send_data(frame(b""), true).unwrap();
        while fixture.front.shared.queue.len() == 0 {
            tokio::task::yield_now().await;
        }
        for call in fixture
            .front
            .shared
            .queue
            .next_batch(8, Duration::ZERO)
            .unwrap()
        {
            call.slot.answer(&Answer::BinData(&[0; 90_000]), &[]);
        }
        let mut body = response.await.unwrap().into_body();
        let mut received = 0;
        let error = loop {
            match body.data().await.unwrap() {
                Ok(chunk) => received += chunk.len(),
                Err(error) => break error,
            }
        };
        assert_eq!(
            (received, error.reason()),
            (65_535, Some(h2::Reason::CANCEL))
        );
        assert_eq!(fixture.front.shared.in_flight.count(), 0);
    });
}

#[test]
fn a_call_whose_task_panics_is_answered_internal() {
    on_front_thread(false, || async {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::task::spawn_local(requests(ours, |_head, _body, answer| {
            tokio::task::spawn_local(async move {
                let _responder = Responder::new(answer, request_id("7"));
                panic!("as a bug would");
            });
        }));
        let (client, connection) = h2::client::handshake(theirs).await.unwrap();
        tokio::task::spawn_local(connection);
        let mut client = client.ready().await.unwrap();
        let sent = request(PREDICT).body(()).unwrap();
        let (response, _stream) = client.send_request(sent, true).unwrap();
        let outcome = outcome(response.await.unwrap()).await;
        assert_eq!(
            (outcome.code, &*outcome.text),
            (Some(Code::Internal), "internal error, request id 7")
        );
    });
}
