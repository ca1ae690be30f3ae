//! OIP's methods over an in-memory connection, with the fixture of handle_tests.rs.

use prost::Message;

use super::tests::{
    Fixture, Outcome, config, fixture, fixture_with, on_front_thread, outcome, request,
    text_message,
};
use super::*;
use crate::code::Code;
use crate::config::{HandsConfig, WorkerConfig};
use crate::grpc::framing::PREFIX;
use crate::net::drain::Phase;
use crate::testing::frame;
use crate::worker::codec::Payload;
use crate::worker::codec::TfData;
use crate::worker::codec::oip::InferOutput;
use crate::worker::codec::{DType, TensorRef, TfDataRef};
use crate::worker::hand::fingerprint;
use crate::worker::reply::Content;

const STREAM: &str = Method::StreamInfer.path();

#[derive(Clone, PartialEq, prost::Message)]
struct Infer {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Tensor>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    raw: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Tensor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(bytes = "vec", repeated, tag = "6")]
    raw: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StreamAnswer {
    #[prost(string, tag = "1")]
    error: String,
    #[prost(message, optional, tag = "2")]
    response: Option<Answer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Flag {
    #[prost(bool, tag = "1")]
    is_set: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    versions: Vec<String>,
    #[prost(string, tag = "3")]
    platform: String,
    #[prost(message, repeated, tag = "4")]
    inputs: Vec<Tensor>,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Tensor>,
}

/// One UINT8.
fn infer(model_name: &str, model_version: &str, id: &str, raw: &[u8]) -> Vec<u8> {
    let input = Tensor {
        name: "x".to_owned(),
        datatype: "UINT8".to_owned(),
        shape: vec![1],
    };
    Infer {
        model_name: model_name.to_owned(),
        model_version: model_version.to_owned(),
        id: id.to_owned(),
        inputs: vec![input],
        raw: vec![raw.to_vec()],
    }
    .encode_to_vec()
}

/// Answer every call with its first input under the name y, from another thread; a value of 13 fails.
fn echo(fixture: &Fixture) -> std::thread::JoinHandle<usize> {
    let queue = fixture.front.shared.queue.clone();
    std::thread::spawn(move || {
        let mut answered = 0;
        while let Some(batch) = queue.next_batch(8, Duration::from_secs(60)) {
            for call in batch {
                answered += 1;
                let Payload::Infer(inputs) = &call.payload else {
                    panic!("{:?}", call.payload)
                };
                let TfData::Elements(elements) = &inputs[0].1.data else {
                    panic!("strings")
                };
                let tensor = TensorRef {
                    dtype: DType::Uint8,
                    shape: &[1],
                    data: TfDataRef::Elements(elements),
                };
                let outputs = [InferOutput { name: "y", tensor }];
                if elements == &[13] {
                    call.slot
                        .fail(Status::named(10, "unlucky".to_owned(), "hook", None).unwrap());
                } else {
                    call.slot.answer(Content::Infer(&outputs), &[]);
                }
            }
        }
        answered
    })
}

async fn ask(fixture: &Fixture, method: &str, message: &[u8]) -> Outcome {
    let path = format!("/inference.GRPCInferenceService/{method}");
    fixture.send(request(&path), frame(message)).await
}

fn stream_answers(mut body: &[u8]) -> Vec<(String, String, Vec<u8>)> {
    let mut answers = Vec::new();
    while !body.is_empty() {
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        let (message, rest) = body[5..].split_at(length);
        let answer = StreamAnswer::decode(message).unwrap();
        let response = answer.response.unwrap();
        answers.push((answer.error, response.id, response.raw.concat()));
        body = rest;
    }
    answers
}

#[test]
fn an_inference_is_answered_under_the_models_own_name_and_version() {
    on_front_thread(false, || async {
        let fixture = fixture().await;
        let python = echo(&fixture);
        let asked = [("m", "1"), ("", ""), ("39", "stable")];
        for (name, version) in asked {
            let outcome = ask(&fixture, "ModelInfer", &infer(name, version, "7", &[5])).await;
            assert_eq!(outcome.code, Some(Code::Ok), "{}", outcome.text);
            let answer = Answer::decode(&outcome.body[PREFIX..]).unwrap();
            let expected = Answer {
                model_name: "m".into(),
                model_version: "1".into(),
                id: "7".into(),
                raw: vec![vec![5]],
            };
            assert_eq!(answer, expected);
        }
        fixture.front.shared.queue.close();
        assert_eq!(python.join().unwrap(), asked.len());
    });
}

#[test]
fn requests_have_fingerprints_where_processes_tell_each_other_of_them() {
    on_front_thread(false, || async {
        let told = HandsConfig {
            path: "unused".to_owned(),
            poison_ms: 1,
        };
        let (text, message) = (text_message("a"), infer("m", "1", "7", &[5]));
        for hands in [None, Some(told)] {
            let is_told = hands.is_some();
            let fixture = fixture_with(WorkerConfig { hands, ..config() }).await;
            let queue = fixture.front.shared.queue.clone();
            let python = std::thread::spawn(move || {
                let mut found = Vec::new();
                while let Some(batch) = queue.next_batch(1, Duration::from_secs(60)) {
                    found.extend(batch.iter().map(|call| call.fingerprint));
                }
                found
            });
            let predict = request(Method::Predict.path());
            fixture.send(predict, frame(&text)).await;
            ask(&fixture, "ModelInfer", &message).await;
            ask(&fixture, "ModelStreamInfer", &message).await;
            fixture.front.shared.queue.close();
            let expected = [
                fingerprint(Method::Predict, &text),
                fingerprint(Method::Infer, &message),
                fingerprint(Method::StreamInfer, &message),
            ];
            let expected = if is_told { expected } else { [0; 3] };
            assert_eq!(python.join().unwrap(), expected);
        }
    });
}

#[test]
fn another_model_or_version_is_not_found_whatever_the_method() {
    on_front_thread(false, || async {
        let fixture = fixture().await;
        let no_model = "there is no model \"n\" here: this model server serves m, 39";
        let no_version = "model m has no version \"2\" here: this model server serves version 1";
        for (name, version, text) in [("n", "1", no_model), ("m", "2", no_version)] {
            let outcome = ask(&fixture, "ModelInfer", &infer(name, version, "7", &[5])).await;
            let found = (outcome.code, &*outcome.text, outcome.kind.as_deref());
            assert_eq!(found, (Some(Code::NotFound), text, Some("model_not_found")));
            for method in ["ModelReady", "ModelMetadata"] {
                // Their requests have the same first fields.
                let outcome = ask(&fixture, method, &infer(name, version, "", &[])).await;
                assert_eq!((outcome.code, &*outcome.text), (Some(Code::NotFound), text));
            }
        }
    });
}

#[test]
fn readiness_follows_the_model_and_the_drain_and_liveness_does_not() {
    on_front_thread(false, || async {
        let fixture = fixture().await;
        let shared = fixture.front.shared.clone();
        let states = async || {
            let mut states = Vec::new();
            for method in ["ServerLive", "ServerReady", "ModelReady"] {
                let outcome = ask(&fixture, method, &[]).await;
                states.push(Flag::decode(&outcome.body[PREFIX..]).unwrap().is_set);
            }
            states
        };
        assert_eq!(states().await, [true, true, true]);
        shared.set_ready(false);
        assert_eq!(states().await, [true, false, false]);
        let outcome = ask(&fixture, "ModelInfer", &infer("m", "", "", &[5])).await;
        assert_eq!(outcome.kind.as_deref(), Some("model_not_ready"));
        shared.set_ready(true);
        shared.start_drain();
        assert_eq!(states().await, [true, false, false]);
    });
}

#[test]
fn metadata_tells_what_oip_can_carry() {
    on_front_thread(false, || async {
        let fixture = fixture().await;
        let outcome = ask(&fixture, "ModelMetadata", &[]).await;
        let metadata = Metadata::decode(&outcome.body[PREFIX..]).unwrap();
        let tensor = |name: &str, datatype: &str, shape: &[i64]| Tensor {
            name: name.into(),
            datatype: datatype.into(),
            shape: shape.to_vec(),
        };
        let expected = Metadata {
            name: "m".into(),
            versions: vec!["1".into()],
            platform: "test".into(),
            inputs: vec![tensor("x", "BYTES", &[-1, 2])],
            outputs: vec![tensor("y", "FP32", &[])],
        };
        assert_eq!(metadata, expected);
        let outcome = ask(&fixture, "ServerMetadata", &[]).await;
        let metadata = Metadata::decode(&outcome.body[PREFIX..]).unwrap();
        assert_eq!(metadata.name, "dl-inference");
        assert_eq!(
            ask(&fixture, "ModelConfig", &[]).await.code,
            Some(Code::Unimplemented)
        );
    });
}

#[test]
fn answers_of_a_stream_come_in_order_and_an_error_belongs_to_its_message() {
    on_front_thread(false, || async {
        let fixture = fixture_with(crate::config::WorkerConfig {
            max_queue: 100,
            limits: crate::config::Limits {
                max_in_flight: 100,
                ..config().limits
            },
            ..config()
        })
        .await;
        let python = echo(&fixture);
        let messages = [
            infer("m", "", "0", &[10]),
            infer("m", "", "1", &[13]),
            infer("other", "", "2", &[10]),
            infer("m", "", "3", &[10, 11]),
            vec![0xff],
            infer("m", "", "5", &[12]),
        ];
        let body = messages.map(|message| frame(&message)).concat();
        let stream = request(STREAM);
        let outcome = fixture.send(stream, body.into()).await;
        assert_eq!(outcome.code, Some(Code::Ok), "{}", outcome.text);
        let answers = stream_answers(&outcome.body);
        let expected = [
            ("", "0", &[10][..]),
            ("unlucky", "1", &[]),
            (
                "there is no model \"other\" here: this model server serves m, 39",
                "2",
                &[],
            ),
            (
                "input \"x\" of shape [1] and UINT8 needs 1 bytes of raw_input_contents, 2 were sent",
                "3",
                &[],
            ),
            ("protobuf: message is truncated", "", &[]),
            ("", "5", &[12]),
        ];
        let expected =
            expected.map(|(error, id, raw)| (error.to_owned(), id.to_owned(), raw.to_vec()));
        assert_eq!(answers, expected);
        let codes = fixture.front.shared.calls.used();
        let codes: Vec<_> = codes
            .flat_map(|(_, calls)| calls.codes.used())
            .map(|(code, count)| (code.to_owned(), count))
            .collect();
        let mut codes: Vec<_> = codes
            .iter()
            .map(|(code, count)| (&**code, *count))
            .collect();
        codes.sort_unstable();
        assert_eq!(
            codes,
            [
                ("ABORTED", 1),
                ("INVALID_ARGUMENT", 2),
                ("NOT_FOUND", 1),
                ("OK", 2)
            ]
        );
        assert_eq!(fixture.front.shared.in_flight.count(), 0);
        assert_eq!(fixture.front.shared.held.bytes(), 0);
        fixture.front.shared.queue.close();
        python.join().unwrap();
    });
}

#[test]
fn a_message_of_a_stream_that_is_not_answered_in_time_does_not_end_it() {
    on_front_thread(true, || async {
        let fixture = fixture().await;
        let body = frame(&infer("m", "", "0", &[1]));
        // Nobody takes it out of the queue: the model's own timeout_ms is 60 s.
        let outcome = fixture.send(request(STREAM), body).await;
        assert_eq!(outcome.code, Some(Code::Ok));
        let answers = stream_answers(&outcome.body);
        assert_eq!(
            answers[0].0,
            "the deadline passed before the model answered"
        );
    });
}

#[test]
fn what_breaks_the_framing_ends_a_stream_after_the_answers_before_it() {
    on_front_thread(false, || async {
        let fixture = fixture().await;
        let python = echo(&fixture);
        let good = frame(&infer("m", "", "0", &[1]));
        for (tail, code) in [
            (&b"\0\xff\0\0\0"[..], Code::ResourceExhausted),
            (b"\x02\0\0\0\0", Code::InvalidArgument),
            (b"\0\0\0\0\x05ab", Code::InvalidArgument),
        ] {
            let body = [&good[..], tail].concat();
            let outcome = fixture.send(request(STREAM), body.into()).await;
            assert_eq!(outcome.code, Some(code), "{}", outcome.text);
            assert_eq!(
                stream_answers(&outcome.body),
                [(String::new(), "0".to_owned(), vec![1])]
            );
        }
        fixture.front.shared.queue.close();
        python.join().unwrap();
    });
}

#[test]
fn a_stream_ends_when_it_is_idle_at_its_deadline_and_when_the_server_drains() {
    on_front_thread(true, || async {
        for (timeout, drains, code, seconds) in [
            (None, false, Code::DeadlineExceeded, 7),
            (Some("3S"), false, Code::DeadlineExceeded, 3),
            (None, true, Code::Unavailable, 0),
        ] {
            let mut fixture = fixture().await;
            let started = Instant::now();
            let mut sent = request(STREAM);
            if let Some(timeout) = timeout {
                sent = sent.header("grpc-timeout", timeout);
            }
            let (response, _stream) = fixture
                .client
                .send_request(sent.body(()).unwrap(), false)
                .unwrap();
            // The headers come before any message.
            let response = response.await.unwrap();
            if drains {
                fixture.front.shared.start_drain();
                assert_eq!(fixture.front.shared.server.drain.phase(), Phase::Draining);
            }
            let outcome = outcome(response).await;
            assert_eq!(
                (outcome.code, started.elapsed().as_secs()),
                (Some(code), seconds),
                "{}",
                outcome.text
            );
        }
    });
}

#[test]
fn a_stream_is_read_no_further_than_the_model_may_wait_for() {
    on_front_thread(false, || async {
        let fixture = fixture_with(crate::config::WorkerConfig {
            max_queue: 1000,
            limits: crate::config::Limits {
                max_in_flight: 1000,
                ..config().limits
            },
            ..config()
        })
        .await;
        let message = frame(&infer("m", "", "0", &[1]));
        let mut client = fixture.client.clone();
        let sent = request(STREAM).body(()).unwrap();
        let (response, mut stream) = client.send_request(sent, false).unwrap();
        stream.send_data(message.repeat(100).into(), true).unwrap();
        let queue = &fixture.front.shared.queue;
        while queue.len() < 64 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert_eq!(queue.len(), 64);
        }
        let python = echo(&fixture);
        let outcome = outcome(response.await.unwrap()).await;
        assert_eq!(stream_answers(&outcome.body).len(), 100);
        queue.close();
        python.join().unwrap();
    });
}

#[test]
fn small_messages_that_must_wait_do_not_end_the_connection() {
    on_front_thread(false, || async {
        // Ten times what h2 lets lie unread in frames of their own, and less than a window.
        const MESSAGES: usize = 1000;
        let mut fixture = fixture().await;
        let sent = request(STREAM).body(()).unwrap();
        let (response, mut stream) = fixture.client.send_request(sent, false).unwrap();
        // The model is busy with the first one; the others could be answered, but not before it.
        let first = frame(&infer("m", "", "0", &[1]));
        let other = frame(&infer("stranger", "", "0", &[1]));
        for index in 0..MESSAGES {
            let message = if index == 0 { &first } else { &other };
            stream
                .send_data(message.clone(), index + 1 == MESSAGES)
                .unwrap();
            tokio::task::yield_now().await;
        }
        let mut body = response.await.unwrap().into_body();
        let python = echo(&fixture);
        let mut received = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.unwrap();
            body.flow_control().release_capacity(chunk.len()).unwrap();
            received.extend_from_slice(&chunk);
        }
        assert_eq!(stream_answers(&received).len(), MESSAGES);
        fixture.front.shared.queue.close();
        python.join().unwrap();
    });
}

#[test]
fn a_caller_that_does_not_read_its_streams_answers_is_reset() {
    on_front_thread(true, || async {
        let mut fixture = fixture().await;
        let started = Instant::now();
        let sent = request(STREAM).body(()).unwrap();
        let (response, mut stream) = fixture.client.send_request(sent, false).unwrap();
        let message = frame(&infer("m", "", "0", &[1]));
        stream.send_data(message, false).unwrap();
        let queue = &fixture.front.shared.queue;
        while queue.len() == 0 {
            tokio::task::yield_now().await;
        }
        for call in queue.next_batch(8, Duration::ZERO).unwrap() {
            let tensor = TensorRef {
                dtype: DType::Uint8,
                shape: &[90_000],
                data: TfDataRef::Elements(&[0; 90_000]),
            };
            let outputs = [InferOutput { name: "y", tensor }];
            call.slot.answer(Content::Infer(&outputs), &[]);
        }
        let mut body = response.await.unwrap().into_body();
        let mut received = 0;
        let error = loop {
            match body.data().await.unwrap() {
                Ok(chunk) => received += chunk.len(),
                Err(error) => break error,
            }
        };
        let reason = error.reason();
        assert_eq!((received, reason), (65_535, Some(h2::Reason::CANCEL)));
        assert_eq!(started.elapsed().as_secs(), 7);
        assert_eq!(fixture.front.shared.in_flight.count(), 0);
    });
}

#[test]
fn a_caller_that_resets_its_stream_takes_its_messages_out_of_the_queue() {
    on_front_thread(true, || async {
        let mut fixture = fixture().await;
        let sent = request(STREAM).body(()).unwrap();
        let (_response, mut stream) = fixture.client.send_request(sent, false).unwrap();
        let message = frame(&infer("m", "", "0", &[1]));
        stream.send_data(message, false).unwrap();
        while fixture.front.shared.queue.len() == 0 {
            tokio::task::yield_now().await;
        }
        stream.send_reset(h2::Reason::CANCEL);
        while fixture.front.shared.in_flight.count() > 0 {
            tokio::task::yield_now().await;
        }
        let queue = &fixture.front.shared.queue;
        assert!(queue.next_batch(8, Duration::ZERO).is_none());
        assert_eq!(fixture.front.shared.held.bytes(), 0);
    });
}
