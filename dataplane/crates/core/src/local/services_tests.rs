use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use bytes::BytesMut;
use flate2::{Compression, write::GzEncoder};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use prost::Message;
use tokio::sync::mpsc;

use super::super::health::{Changes, Serving};
use super::super::messages::health::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};
use super::super::oip::ModelIndex;
use super::*;
use crate::call::responder::Responder;
use crate::grpc::status::parse_grpc_status;
use crate::headers::Headers;
use crate::net::http2::fields::from_map;

use crate::testing::{frame, grpc_message, request_id, requests};

const IDLE: Duration = Duration::from_secs(300);
const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECT: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

#[derive(Default)]
struct Source {
    states: Mutex<BTreeMap<String, Serving>>,
    is_draining: std::sync::atomic::AtomicBool,
    version: Changes,
}

impl Source {
    fn set(&self, service: &str, serving: Serving) {
        self.states
            .lock()
            .unwrap()
            .insert(service.to_owned(), serving);
        self.version.bump();
    }
    fn drain(&self) {
        self.is_draining
            .store(true, std::sync::atomic::Ordering::SeqCst);
        self.set("", Serving::NotServing);
    }
}

impl HealthSource for Source {
    fn status(&self, service: &str) -> Option<Serving> {
        assert_ne!(service, "panic", "asked for");
        self.states.lock().unwrap().get(service).copied()
    }
    fn list(&self) -> Vec<(String, Serving)> {
        let states = self.states.lock().unwrap();
        states
            .iter()
            .map(|(name, serving)| (name.clone(), *serving))
            .collect()
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
    fn is_draining(&self) -> bool {
        self.is_draining.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl Inventory for Source {
    fn is_ready(&self) -> bool {
        true
    }
    fn models(&self) -> Vec<ModelIndex> {
        Vec::new()
    }
}

/// A descriptor set of one file, `big.proto` with 1,000 messages in package `p`.
fn descriptor_set() -> Vec<u8> {
    let message = |i| prost_types::DescriptorProto {
        name: Some(format!("M{i}")),
        ..Default::default()
    };
    let file = prost_types::FileDescriptorProto {
        name: Some("big.proto".into()),
        package: Some("p".into()),
        message_type: (0..1_000).map(message).collect(),
        ..Default::default()
    };
    prost_types::FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

/// A server of local methods on one connection, and a client for it.
struct Fixture {
    client: SendRequest<Bytes>,
    source: Arc<Source>,
    /// Codes of the calls that have ended.
    codes: mpsc::UnboundedReceiver<Code>,
}

impl Fixture {
    async fn start(window: u32) -> Self {
        let source = Arc::new(Source::default());
        source.set("", Serving::Serving);
        let reflection = Arc::new(Reflection::new(&descriptor_set(), &[]).unwrap());
        let local = Arc::new(LocalServices {
            health: source.clone(),
            inventory: source.clone(),
            reflection,
        });
        let (client_io, server_io) = tokio::io::duplex(64 * 1024);
        let (codes_sender, codes) = mpsc::unbounded_channel();
        tokio::task::spawn_local(requests(server_io, move |head, body, answer| {
            let (local, codes) = (local.clone(), codes_sender.clone());
            tokio::task::spawn_local(async move {
                let responder = Responder::new(answer, request_id("r1"));
                let call = LocalCall::new(&head.headers, body, responder, IDLE);
                let code = local.serve(&head.path, call).await;
                let _ = codes.send(code);
            });
        }));
        let handshake = h2::client::Builder::new()
            .initial_window_size(window)
            .handshake(client_io);
        let (client, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Self {
            client,
            source,
            codes,
        }
    }

    async fn open(
        &mut self,
        path: &str,
        headers: &[(&'static str, &'static str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::post(format!("http://x{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client = self.client.clone().ready().await.unwrap();
        self.client
            .send_request(request.body(()).unwrap(), false)
            .unwrap()
    }

    /// Call with one body and read everything.
    async fn call(
        &mut self,
        path: &str,
        headers: &[(&'static str, &'static str)],
        body: Bytes,
    ) -> Answer {
        let (response, mut send) = self.open(path, headers).await;
        send.send_data(body, true).unwrap();
        Answer::read(response).await
    }
}

struct Answer {
    messages: Vec<Bytes>,
    trailers: Headers,
}

impl Answer {
    async fn read(response: ResponseFuture) -> Self {
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let trailers_only = from_map(response.headers());
        let mut messages = Incoming::new(response.into_body());
        let mut all = Vec::new();
        while let Some(message) = messages.next().await {
            all.push(message);
        }
        let trailers = messages.body.trailers().await.unwrap();
        Self {
            messages: all,
            trailers: trailers.map_or(trailers_only, |it| from_map(&it)),
        }
    }

    fn code(&self) -> Code {
        parse_grpc_status(&self.trailers).unwrap()
    }
}

/// Messages of a response.
struct Incoming {
    body: RecvStream,
    held: BytesMut,
}

impl Incoming {
    fn new(body: RecvStream) -> Self {
        Self {
            body,
            held: BytesMut::new(),
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.held.len() >= 5 {
                let length = u32::from_be_bytes(self.held[1..5].try_into().unwrap()) as usize;
                if self.held.len() >= 5 + length {
                    return Some(self.held.split_to(5 + length).freeze().slice(5..));
                }
            }
            let chunk = self.body.data().await?.ok()?;
            self.body
                .flow_control()
                .release_capacity(chunk.len())
                .unwrap();
            self.held.extend_from_slice(&chunk);
        }
    }

    async fn status(&mut self) -> Serving {
        HealthCheckResponse::decode(self.next().await.unwrap())
            .unwrap()
            .status()
    }
}

fn asking_for(service: &str) -> Vec<u8> {
    HealthCheckRequest {
        service: service.into(),
    }
    .encode_to_vec()
}

fn gzip(message: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(message).unwrap();
    let mut framed = frame(&encoder.finish().unwrap()).to_vec();
    framed[0] = 1;
    framed.into()
}

#[tokio::test(flavor = "local")]
async fn check_and_list_answer_with_the_extra_trailers() {
    let mut fixture = Fixture::start(65_535).await;
    let answer = fixture.call(CHECK, &[], frame(b"")).await;
    assert_eq!(
        (answer.code(), &answer.messages[..]),
        (Code::Ok, &[Bytes::from_static(&[8, 1])][..])
    );
    assert_eq!(answer.trailers.text("x-request-id"), Some("r1"));
    let answer = fixture
        .call("/grpc.health.v1.Health/List", &[], frame(b""))
        .await;
    let list = HealthListResponse::decode(answer.messages[0].clone()).unwrap();
    assert_eq!(list.statuses[""].status(), Serving::Serving);
    assert_eq!(fixture.codes.recv().await, Some(Code::Ok));
}

#[tokio::test(flavor = "local")]
async fn an_unknown_service_is_not_found_and_no_error_of_ours() {
    let mut fixture = Fixture::start(65_535).await;
    let answer = fixture.call(CHECK, &[], frame(&asking_for("digits"))).await;
    assert_eq!(answer.code(), Code::NotFound);
    assert!(!answer.trailers.has("access-error"));
    assert_eq!(
        grpc_message(&answer.trailers),
        "service digits is not known here"
    );
    let long = frame(&asking_for(&"x".repeat(60_000)));
    let answer = fixture.call(CHECK, &[], long).await;
    assert!(grpc_message(&answer.trailers).len() < 300);
}

#[tokio::test(flavor = "local")]
async fn requests_that_cannot_be_read_say_why() {
    let mut fixture = Fixture::start(65_535).await;
    let too_large = Bytes::from([vec![0], 65_537_u32.to_be_bytes().to_vec()].concat());
    for (headers, body, code, text) in [
        (&[][..], Bytes::new(), Code::InvalidArgument, "no message"),
        (&[], frame(b"\xff"), Code::InvalidArgument, "does not parse"),
        (
            &[],
            frame(b"ab").slice(..6),
            Code::InvalidArgument,
            "ended inside",
        ),
        (
            &[],
            Bytes::from_static(b"\x02\0\0\0\0"),
            Code::InvalidArgument,
            "flag is 2",
        ),
        (&[], too_large, Code::ResourceExhausted, "65536"),
        (&[], gzip(b""), Code::Internal, "names no compression"),
        (
            &[("grpc-encoding", "gzip")],
            Bytes::from_static(b"\x01\0\0\0\x01x"),
            Code::InvalidArgument,
            "not valid gzip",
        ),
        (
            &[("grpc-encoding", "gzip")],
            gzip(&[0; 65_537]),
            Code::ResourceExhausted,
            "inflated it is over",
        ),
        (
            &[("grpc-encoding", "snappy")],
            gzip(b""),
            Code::Unimplemented,
            "snappy",
        ),
        (
            &[("grpc-timeout", "soon")],
            frame(b""),
            Code::InvalidArgument,
            "soon",
        ),
    ] {
        let answer = fixture.call(CHECK, headers, body).await;
        let message = grpc_message(&answer.trailers).into_owned();
        assert_eq!(answer.code(), code, "{message}");
        assert!(message.contains(text), "{message}");
        assert_eq!(
            answer.trailers.has("grpc-accept-encoding"),
            code == Code::Unimplemented
        );
    }
}

#[tokio::test(flavor = "local")]
async fn a_compressed_request_is_understood() {
    let mut fixture = Fixture::start(65_535).await;
    let answer = fixture
        .call(CHECK, &[("grpc-encoding", "gzip")], gzip(&asking_for("")))
        .await;
    assert_eq!(answer.code(), Code::Ok);
}

#[tokio::test(flavor = "local")]
async fn a_panic_answers_internal_with_the_request_id() {
    let mut fixture = Fixture::start(65_535).await;
    let answer = fixture.call(CHECK, &[], frame(&asking_for("panic"))).await;
    assert_eq!(answer.code(), Code::Internal);
    assert_eq!(
        grpc_message(&answer.trailers),
        "internal error, request id r1"
    );
    assert_eq!(answer.trailers.text("access-error"), Some("internal"));
}

#[tokio::test(flavor = "local")]
async fn another_path_is_unimplemented() {
    let mut fixture = Fixture::start(65_535).await;
    let answer = fixture
        .call("/grpc.health.v1.Health/check", &[], frame(b""))
        .await;
    assert_eq!(answer.code(), Code::Unimplemented);
    assert_eq!(answer.trailers.text("access-error"), Some("unknown_method"));
}

#[tokio::test(flavor = "local")]
async fn watch_follows_an_unknown_service_into_life_and_ends_when_the_process_drains() {
    let mut fixture = Fixture::start(65_535).await;
    let (response, mut send) = fixture.open(WATCH, &[]).await;
    send.send_data(frame(&asking_for("digits")), true).unwrap();
    let mut incoming = Incoming::new(response.await.unwrap().into_body());
    assert_eq!(incoming.status().await, Serving::ServiceUnknown);
    fixture.source.set("digits", Serving::NotServing);
    assert_eq!(incoming.status().await, Serving::NotServing);
    fixture.source.set("other", Serving::Serving);
    fixture.source.set("digits", Serving::Serving);
    assert_eq!(incoming.status().await, Serving::Serving);
    fixture.source.drain();
    assert_eq!(incoming.next().await, None);
    let trailers = from_map(&incoming.body.trailers().await.unwrap().unwrap());
    assert_eq!(parse_grpc_status(&trailers), Some(Code::Unavailable));
    assert_eq!(trailers.text("access-error"), Some("draining"));
}

#[tokio::test(flavor = "local")]
async fn a_watch_that_its_caller_gives_up_ends() {
    let mut fixture = Fixture::start(65_535).await;
    let (response, mut send) = fixture.open(WATCH, &[]).await;
    send.send_data(frame(b""), true).unwrap();
    let mut incoming = Incoming::new(response.await.unwrap().into_body());
    assert_eq!(incoming.status().await, Serving::Serving);
    drop((incoming, send));
    assert_eq!(fixture.codes.recv().await, Some(Code::Cancelled));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_watch_ends_at_its_callers_deadline_and_not_for_being_idle() {
    let mut fixture = Fixture::start(65_535).await;
    let begun = tokio::time::Instant::now();
    let answer = fixture
        .call(WATCH, &[("grpc-timeout", "1H")], frame(b""))
        .await;
    assert_eq!(
        (answer.code(), answer.messages.len()),
        (Code::DeadlineExceeded, 1)
    );
    assert!(begun.elapsed() >= Duration::from_secs(3_600));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_that_sends_no_request_is_not_waited_for_for_ever() {
    for path in [CHECK, WATCH, REFLECT] {
        let mut fixture = Fixture::start(65_535).await;
        let (response, _send) = fixture.open(path, &[]).await;
        let answer = Answer::read(response).await;
        assert_eq!(answer.code(), Code::DeadlineExceeded, "{path}");
    }
}

/// ServerReflectionRequest { file_by_filename }.
fn asking_for_file(name: &str) -> Bytes {
    let mut message = vec![0x1a, u8::try_from(name.len()).unwrap()];
    message.extend_from_slice(name.as_bytes());
    frame(&message)
}

#[tokio::test(flavor = "local")]
async fn reflection_answers_every_request_of_a_stream_however_it_is_cut() {
    for path in [
        REFLECT,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        for cut in [1, 7, 1_000] {
            let mut fixture = Fixture::start(65_535).await;
            let (response, mut send) = fixture.open(path, &[]).await;
            let two = [asking_for_file("big.proto"), asking_for_file("none.proto")].concat();
            for chunk in two.chunks(cut) {
                send.send_data(Bytes::copy_from_slice(chunk), false)
                    .unwrap();
            }
            let mut incoming = Incoming::new(response.await.unwrap().into_body());
            assert!(incoming.next().await.unwrap().len() > 5_000);
            assert!(incoming.next().await.unwrap().len() < 100);
            send.send_data(asking_for_file("big.proto"), true).unwrap();
            assert!(incoming.next().await.unwrap().len() > 5_000);
            assert_eq!(incoming.next().await, None);
            let trailers = from_map(&incoming.body.trailers().await.unwrap().unwrap());
            assert_eq!(parse_grpc_status(&trailers), Some(Code::Ok));
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_large_answer_passes_through_a_small_window() {
    let mut fixture = Fixture::start(10).await;
    let answer = fixture
        .call(REFLECT, &[], asking_for_file("big.proto"))
        .await;
    assert_eq!(answer.code(), Code::Ok);
    assert!(answer.messages[0].len() > 5_000);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_that_does_not_read_its_answer_is_reset() {
    let mut fixture = Fixture::start(10).await;
    let (response, mut send) = fixture.open(REFLECT, &[]).await;
    send.send_data(asking_for_file("big.proto"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    // Bytes are taken but never released, so that the window stays shut.
    while let Some(Ok(_)) = body.data().await {}
    assert_eq!(fixture.codes.recv().await, Some(Code::DeadlineExceeded));
    assert!(body.trailers().await.is_err());
}

#[tokio::test(flavor = "local")]
async fn an_idle_reflection_stream_ends_when_the_process_drains() {
    let mut fixture = Fixture::start(65_535).await;
    let (response, _send) = fixture.open(REFLECT, &[]).await;
    let mut incoming = Incoming::new(response.await.unwrap().into_body());
    fixture.source.drain();
    assert_eq!(incoming.next().await, None);
    let trailers = from_map(&incoming.body.trailers().await.unwrap().unwrap());
    assert_eq!(parse_grpc_status(&trailers), Some(Code::Unavailable));
}
