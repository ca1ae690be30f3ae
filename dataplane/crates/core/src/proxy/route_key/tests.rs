//! The rules of the route key, one by one; then against prost's decoder on generated messages.

use std::collections::HashMap;

use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;

use super::*;
use crate::call::task_id::task_id_of;
use crate::grpc::wire::tests::{Field, chunks, encode, fields, seeded};
use crate::proxy::method::find;

const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
const MULTI: &str = "/tensorflow.serving.PredictionService/MultiInference";
const SELDON: &str = "/seldon.protos.Model/Predict";
const FEEDBACK: &str = "/seldon.protos.Model/SendFeedback";
const COMBINER: &str = "/seldon.protos.Combiner/Aggregate";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

fn text(number: u32, text: &str) -> Field {
    Field::Bytes(number, text.as_bytes().to_vec())
}

/// A message 1 (model_spec) with name, version, label.
fn spec(name: &str, version: Option<i64>, label: Option<&str>) -> Field {
    let mut fields = vec![text(1, name)];
    fields.extend(version.map(|version| Field::Message(2, vec![Field::Varint(1, version as u64)])));
    fields.extend(label.map(|label| text(4, label)));
    Field::Message(1, fields)
}

/// An entry of meta.tags with a google.protobuf.Value.
fn tag(name: &str, value: Field) -> Field {
    Field::Message(2, vec![text(1, name), Field::Message(2, vec![value])])
}

fn number(value: f64) -> Field {
    Field::Fixed64(2, value.to_bits())
}

fn meta(tags: Vec<Field>) -> Field {
    Field::Message(2, tags)
}

/// Scan a whole message; the same byte by byte must give the same.
fn scan(path: &str, fields: &[Field]) -> Result<RouteKey, String> {
    let bytes = encode(fields);
    let whole = scan_chunks(path, &[&bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(scan_chunks(path, &single), whole);
    whole
}

fn scan_chunks(path: &str, chunks: &[&[u8]]) -> Result<RouteKey, String> {
    let mut scanner = RouteKeyScanner::new(find(path).unwrap());
    let mut run = || {
        for chunk in chunks {
            let before = scanner.progress();
            assert!(scanner.feed(chunk)? >= before);
        }
        scanner.finish()
    };
    match run() {
        Ok(()) => Ok(scanner.key().clone()),
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::BadRouteKey);
            Err(error.message.into_owned())
        }
    }
}

fn key(model: &str) -> RouteKey {
    RouteKey {
        model: Some(model.to_owned()),
        ..RouteKey::default()
    }
}

fn versioned(model: &str, version: &str) -> RouteKey {
    RouteKey {
        version: Some(version.to_owned()),
        ..key(model)
    }
}

#[test]
fn tfs_model_version_and_label_are_found() {
    assert_eq!(scan(PREDICT, &[spec("m", None, None)]), Ok(key("m")));
    assert_eq!(
        scan(PREDICT, &[spec("m", Some(3), None)]),
        Ok(versioned("m", "3"))
    );
    assert_eq!(
        scan(PREDICT, &[spec("m", Some(-1), None)]),
        Ok(versioned("m", "-1"))
    );
    let labelled = RouteKey {
        label: Some("stable".to_owned()),
        ..key("m")
    };
    assert_eq!(
        scan(PREDICT, &[spec("m", None, Some("stable"))]),
        Ok(labelled)
    );
}

#[test]
fn an_empty_int64_value_is_version_0() {
    let fields = [Field::Message(
        1,
        vec![text(1, "m"), Field::Message(2, vec![])],
    )];
    assert_eq!(scan(PREDICT, &fields), Ok(versioned("m", "0")));
}

#[test]
fn version_and_label_together_are_refused() {
    assert!(
        scan(PREDICT, &[spec("m", Some(3), Some("stable"))])
            .unwrap_err()
            .contains("send one")
    );
}

#[test]
fn a_message_without_a_name_or_with_an_empty_one_has_no_key() {
    assert_eq!(scan(PREDICT, &[]), Ok(RouteKey::default()));
    assert_eq!(
        scan(PREDICT, &[spec("", None, None)]),
        Ok(RouteKey::default())
    );
    assert_eq!(scan(SELDON, &[meta(vec![])]), Ok(RouteKey::default()));
    assert_eq!(
        scan(SELDON, &[meta(vec![tag("model", text(3, ""))])]),
        Ok(RouteKey::default())
    );
    assert_eq!(scan(INFER, &[text(1, "")]), Ok(RouteKey::default()));
}

#[test]
fn a_model_spec_split_over_several_occurrences_is_merged_while_it_has_no_name() {
    let version = Field::Message(1, vec![Field::Message(2, vec![Field::Varint(1, 3)])]);
    assert_eq!(
        scan(PREDICT, &[version.clone(), spec("m", None, None)]),
        Ok(versioned("m", "3"))
    );
    assert!(
        scan(PREDICT, &[spec("m", None, None), version])
            .unwrap_err()
            .contains("version")
    );
}

#[test]
fn the_key_is_decided_at_the_end_of_the_message_that_holds_it() {
    let inputs = Field::Bytes(2, vec![0; 5000]);
    let (head, whole) = (
        encode(&[spec("m", Some(3), None)]),
        encode(&[spec("m", Some(3), None), inputs]),
    );
    let mut scanner = RouteKeyScanner::new(find(PREDICT).unwrap());
    assert_eq!(
        scanner.feed(&whole[..head.len() - 1]).unwrap(),
        Progress::Pending
    );
    assert_eq!(
        scanner.feed(&whole[head.len() - 1..head.len()]).unwrap(),
        Progress::Decided
    );
    assert_eq!(*scanner.key(), versioned("m", "3"));
    assert_eq!(
        scanner.feed(&whole[head.len()..]).unwrap(),
        Progress::Decided
    );
    scanner.finish().unwrap();
}

#[test]
fn equal_repeats_are_fine_and_a_different_one_is_refused_wherever_it_comes() {
    let padding = Field::Bytes(9, vec![0; 3000]);
    let same = [
        spec("m", Some(3), None),
        padding.clone(),
        spec("m", Some(3), None),
        spec("m", None, None),
    ];
    assert_eq!(scan(PREDICT, &same), Ok(versioned("m", "3")));
    let other_name = [
        spec("m", None, None),
        padding.clone(),
        spec("n", None, None),
    ];
    assert!(scan(PREDICT, &other_name).unwrap_err().contains("\"m\""));
    let other_version = [
        spec("m", Some(3), None),
        padding.clone(),
        spec("m", Some(4), None),
    ];
    assert!(scan(PREDICT, &other_version).unwrap_err().contains("\"4\""));
    let late_version = [
        spec("m", None, None),
        padding.clone(),
        spec("m", Some(4), None),
    ];
    assert!(scan(PREDICT, &late_version).is_err());
    let other_label = [
        spec("m", None, Some("a")),
        padding.clone(),
        spec("m", None, Some("b")),
    ];
    assert!(scan(PREDICT, &other_label).is_err());
    // The last one counts for an endpoint: it says "no version", or "no name".
    let version_then_none = Field::Message(
        1,
        vec![
            text(1, "m"),
            Field::Message(2, vec![Field::Varint(1, 3)]),
            text(4, ""),
        ],
    );
    assert!(scan(PREDICT, &[version_then_none]).is_err());
    assert!(
        scan(
            PREDICT,
            &[spec("m", None, None), padding, spec("", None, None)]
        )
        .is_err()
    );
}

#[test]
fn every_task_of_a_multi_inference_asks_for_the_same_model() {
    let task = |name| {
        Field::Message(
            1,
            vec![
                spec(name, None, None),
                text(2, "tensorflow/serving/regress"),
            ],
        )
    };
    assert_eq!(scan(MULTI, &[task("m"), task("m")]), Ok(key("m")));
    assert!(scan(MULTI, &[task("m"), task("n")]).is_err());
}

#[test]
fn the_tag_model_wins_over_task_id_in_any_order() {
    let (model, task) = (tag("model", text(3, "m")), tag("taskId", number(39.0)));
    assert_eq!(
        scan(SELDON, &[meta(vec![model.clone(), task.clone()])]),
        Ok(key("m"))
    );
    assert_eq!(
        scan(SELDON, &[meta(vec![task.clone(), model.clone()])]),
        Ok(key("m"))
    );
    assert_eq!(scan(SELDON, &[meta(vec![task.clone()])]), Ok(key("39")));
    // Decided at the end of the first meta: a later model is another key.
    assert!(
        scan(
            SELDON,
            &[meta(vec![task.clone()]), meta(vec![model.clone()])]
        )
        .is_err()
    );
    assert_eq!(
        scan(SELDON, &[meta(vec![model]), meta(vec![task.clone()])]),
        Ok(key("m"))
    );
    assert_eq!(
        scan(SELDON, &[meta(vec![task.clone()]), meta(vec![task])]),
        Ok(key("39"))
    );
}

#[test]
fn the_fields_of_a_tag_may_come_in_any_order_and_the_last_counts() {
    let swapped = Field::Message(
        2,
        vec![Field::Message(2, vec![text(3, "m")]), text(1, "model")],
    );
    assert_eq!(scan(SELDON, &[meta(vec![swapped])]), Ok(key("m")));
    let twice = Field::Message(
        2,
        vec![
            text(1, "x"),
            text(1, "model"),
            Field::Message(2, vec![number(7.0), text(3, "m")]),
        ],
    );
    assert_eq!(scan(SELDON, &[meta(vec![twice])]), Ok(key("m")));
}

#[test]
fn other_tags_may_hold_anything() {
    let list = Field::Message(6, vec![Field::Message(1, vec![number(1.0)])]);
    let tags = vec![
        tag("taskid", number(f64::NAN)),
        tag("x", Field::Varint(4, 1)),
        tag("y", list),
        tag("z", Field::Bytes(3, vec![0xff; 5000])),
        Field::Message(
            2,
            vec![
                Field::Message(2, vec![Field::Bytes(3, vec![b'a'; 5000])]),
                text(1, "late"),
            ],
        ),
        Field::Message(2, vec![]),
        tag("model", text(3, "m")),
    ];
    assert_eq!(scan(SELDON, &[meta(tags)]), Ok(key("m")));
}

#[test]
fn a_number_is_cut_to_an_integer_and_must_be_a_task_id() {
    for (value, expected) in [
        (39.0, "39"),
        (39.7, "39"),
        (1.0, "1"),
        (9_007_199_254_740_992.0, "9007199254740992"),
    ] {
        assert_eq!(
            scan(SELDON, &[meta(vec![tag("taskId", number(value))])]),
            Ok(key(expected))
        );
    }
    for value in [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -1.0,
        -0.0,
        0.0,
        0.9,
        1e300,
    ] {
        let error = scan(SELDON, &[meta(vec![tag("taskId", number(value))])]).unwrap_err();
        assert!(error.contains("tag taskId"), "{error}");
    }
}

#[test]
fn a_routing_tag_of_another_kind_is_refused() {
    for value in [
        Field::Varint(1, 0),
        Field::Varint(4, 1),
        Field::Message(5, vec![]),
        Field::Message(6, vec![]),
    ] {
        let error = scan(SELDON, &[meta(vec![tag("model", value)])]).unwrap_err();
        assert!(error.contains("neither a number nor a text"), "{error}");
    }
    let no_value = Field::Message(2, vec![text(1, "model")]);
    assert!(scan(SELDON, &[meta(vec![no_value])]).is_err());
}

#[test]
fn feedback_and_lists_are_routed_by_the_messages_inside() {
    let message = |name| Field::Message(1, vec![meta(vec![tag("model", text(3, name))])]);
    assert_eq!(
        scan(FEEDBACK, &[message("m"), Field::Fixed32(3, 0)]),
        Ok(key("m"))
    );
    let without = Field::Message(1, vec![text(5, "x")]);
    assert_eq!(
        scan(COMBINER, &[without, message("m"), message("m")]),
        Ok(key("m"))
    );
    assert!(scan(COMBINER, &[message("m"), message("n")]).is_err());
}

#[test]
fn oip_names_its_model_at_once_and_its_version_wherever_it_comes() {
    assert_eq!(scan(INFER, &[text(1, "m"), text(2, "")]), Ok(key("m")));
    assert_eq!(
        scan(INFER, &[text(2, "3"), text(1, "m")]),
        Ok(versioned("m", "3"))
    );
    assert!(scan(INFER, &[text(1, "m"), text(2, "3"), text(2, "4")]).is_err());
    assert!(
        scan(
            INFER,
            &[text(1, "m"), Field::Bytes(7, vec![0; 3000]), text(1, "n")]
        )
        .is_err()
    );

    let mut scanner = RouteKeyScanner::new(find(INFER).unwrap());
    assert_eq!(
        scanner.feed(&encode(&[text(1, "m")])).unwrap(),
        Progress::Model
    );
    assert_eq!(
        scanner
            .feed(&encode(&[Field::Bytes(7, vec![0; 3000])]))
            .unwrap(),
        Progress::Model
    );
    assert_eq!(
        scanner.feed(&encode(&[text(2, "3")])).unwrap(),
        Progress::Decided
    );
    scanner.finish().unwrap();
    assert_eq!(*scanner.key(), versioned("m", "3"));
}

#[test]
fn a_name_is_utf_8_and_at_most_256_bytes_long() {
    assert!(scan(INFER, &[text(1, &"m".repeat(256))]).is_ok());
    assert!(
        scan(INFER, &[text(1, &"m".repeat(257))])
            .unwrap_err()
            .contains("257 bytes")
    );
    assert!(
        scan(INFER, &[text(1, &"m".repeat(5000))])
            .unwrap_err()
            .contains("5000 bytes")
    );
    assert!(
        scan(INFER, &[Field::Bytes(1, vec![0xff])])
            .unwrap_err()
            .contains("UTF-8")
    );
    assert!(
        scan(
            SELDON,
            &[meta(vec![tag("model", text(3, &"m".repeat(2000)))])]
        )
        .unwrap_err()
        .contains("tag model")
    );
}

#[test]
fn a_malformed_message_is_refused_with_the_place() {
    let error = scan_chunks(PREDICT, &[&[0x0a, 5, 1]]).unwrap_err();
    assert!(
        error.contains("does not parse") && error.contains("at byte"),
        "{error}"
    );
}

#[test]
fn a_method_without_a_key_is_decided_at_once_and_reads_nothing() {
    let mut scanner = RouteKeyScanner::new(find("/seldon.protos.Model/Metadata").unwrap());
    assert_eq!(scanner.progress(), Progress::Decided);
    assert_eq!(scanner.feed(&[0x00, 0xff]).unwrap(), Progress::Decided);
    scanner.finish().unwrap();
    assert_eq!(*scanner.key(), RouteKey::default());
}

#[test]
fn a_scanner_is_small_enough_for_every_call() {
    let bytes = size_of::<RouteKeyScanner>();
    assert!(bytes <= 512, "{bytes}");
}

#[test]
fn task_ids_are_read_as_java_reads_them() {
    for name in [
        "69",
        "textcnn-69",
        "x-+69",
        "x-069",
        "textcnn-69-",
        "a-b-69--",
    ] {
        assert_eq!(task_id_of(name).as_deref(), Some("69"), "{name}");
    }
    for name in [
        "",
        "-",
        "textcnn",
        "69-textcnn",
        "x-",
        "x-6 9",
        "x-69.0",
        "x-0",
        "x-2147483648",
        "x-0x45",
    ] {
        assert_eq!(task_id_of(name), None, "{name}");
    }
    assert_eq!(task_id_of("x-2147483647").as_deref(), Some("2147483647"));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn compressed(encoding: &'static str) -> Result<RouteKeyScanner, Error> {
    RouteKeyScanner::new_compressed(find(PREDICT).unwrap(), Some(encoding.as_bytes()), None)
}

#[test]
fn the_key_of_a_compressed_message_is_found_byte_by_byte() {
    let message = encode(&[spec("m", Some(3), None), Field::Bytes(2, vec![7; 3000])]);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut zlib, &message).unwrap();
    for (encoding, bytes) in [
        ("gzip", gzip(&message)),
        ("deflate", zlib.finish().unwrap()),
    ] {
        let mut scanner = compressed(encoding).unwrap();
        for byte in bytes.chunks(1) {
            scanner.feed(byte).unwrap();
        }
        assert_eq!(scanner.progress(), Progress::Decided);
        scanner.finish().unwrap();
        assert_eq!(*scanner.key(), versioned("m", "3"));
        let mut inflater = Inflater::new(Some(encoding.as_bytes()), None).unwrap();
        assert_eq!(inflater.feed(&bytes).unwrap(), message);
    }
}

#[test]
fn no_more_than_the_limit_is_inflated_and_a_key_behind_it_is_not_found() {
    let padding = Field::Bytes(9, vec![0; 5_000_000]);
    let early = gzip(&encode(&[spec("m", None, None), padding.clone()]));
    let mut scanner = compressed("gzip").unwrap();
    assert_eq!(scanner.feed(&early).unwrap(), Progress::Decided);
    scanner.finish().unwrap();
    let mut inflater = Inflater::new(Some(b"gzip"), None).unwrap();
    assert_eq!(inflater.feed(&early).unwrap().len(), INFLATE_LIMIT);

    let late = gzip(&encode(&[padding, spec("m", None, None)]));
    let error = compressed("gzip").unwrap().feed(&late).unwrap_err();
    assert!(error.message.contains("x-model"), "{error}");
}

#[test]
fn an_encoding_not_known_here_or_not_kept_is_refused() {
    assert!(
        compressed("snappy")
            .unwrap_err()
            .message
            .contains("x-model")
    );
    let no_encoding =
        RouteKeyScanner::new_compressed(find(PREDICT).unwrap(), None, None).unwrap_err();
    assert_eq!(no_encoding.kind, ErrorKind::MissingEncoding);
    let error = compressed("gzip")
        .unwrap()
        .feed(b"this is not gzip at all")
        .unwrap_err();
    assert!(error.message.contains("cannot be inflated"), "{error}");
    // Nothing is looked for, so nothing is wrong.
    assert!(
        RouteKeyScanner::new_compressed(find("/seldon.protos.Model/Metadata").unwrap(), None, None)
            .is_ok()
    );
}

// --- against prost ---

#[derive(Clone, PartialEq, Message)]
struct Spec {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    version: Option<i64>,
    #[prost(string, tag = "4")]
    label: String,
}

#[derive(Clone, PartialEq, Message)]
struct Predict {
    #[prost(message, optional, tag = "1")]
    spec: Option<Spec>,
}

#[derive(Clone, PartialEq, Message)]
struct Meta {
    #[prost(map = "string, message", tag = "2")]
    tags: HashMap<String, prost_types::Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Seldon {
    #[prost(message, optional, tag = "2")]
    meta: Option<Meta>,
}

/// What a tag is as a key, written apart from the scanner.
fn tag_key(value: Option<&prost_types::Value>) -> Option<String> {
    match value?.kind.as_ref()? {
        prost_types::value::Kind::NumberValue(number) => Some(format!("{:.0}", number.trunc())),
        prost_types::value::Kind::StringValue(text) => {
            Some(text.clone()).filter(|text| !text.is_empty())
        }
        _ => None,
    }
}

/// Fields that often are model specs, tags and values of few names, so that repeats and conflicts happen.
fn requests() -> impl Strategy<Value = Vec<Field>> {
    let name = prop::sample::select(vec!["m", "n", ""]);
    let version = prop::option::of(0_i64..3);
    let tag_name = prop::sample::select(vec!["model", "taskId", "taskId", "other", ""]);
    let value = prop_oneof![
        prop::sample::select(vec![39.0, 39.7, 40.0]).prop_map(number),
        name.clone().prop_map(|name| text(3, name)),
        Just(Field::Varint(4, 1)),
    ];
    let tags = prop::collection::vec(
        (tag_name, value).prop_map(|(name, value)| tag(name, value)),
        0..4,
    );
    let field = prop_oneof![
        (name, version, any::<bool>()).prop_map(|(name, version, label)| {
            spec(name, version, (label && version.is_none()).then_some("l"))
        }),
        tags.prop_map(meta),
        fields().prop_map(|fields| Field::Group(9, fields)),
        fields().prop_map(|fields| Field::Message(9, fields)),
        fields().prop_map(|fields| Field::Message(1, fields)),
        fields().prop_map(|fields| Field::Message(2, fields)),
    ];
    prop::collection::vec(field, 0..5)
}

proptest! {
    #![proptest_config(seeded(12))]

    #[test]
    fn the_outcome_does_not_depend_on_the_chunks(
        fields in requests(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        path in prop::sample::select(vec![PREDICT, MULTI, SELDON, FEEDBACK, COMBINER, INFER]),
    ) {
        let bytes = encode(&fields);
        prop_assert_eq!(scan_chunks(path, &chunks(&bytes, &cuts)), scan_chunks(path, &[&bytes]));
    }

    #[test]
    fn a_tfs_key_that_is_accepted_is_the_one_that_the_endpoint_reads(fields in requests()) {
        let bytes = encode(&fields);
        if let (Ok(key), Ok(decoded)) = (scan_chunks(PREDICT, &[&bytes]), Predict::decode(&bytes[..])) {
            let spec = decoded.spec.unwrap_or_default();
            prop_assert_eq!(key.model.unwrap_or_default(), spec.name);
            prop_assert_eq!(key.version, spec.version.map(|version| version.to_string()));
            prop_assert_eq!(key.label.unwrap_or_default(), spec.label);
        }
    }

    #[test]
    fn a_seldon_key_that_is_accepted_is_the_one_that_the_endpoint_reads(fields in requests()) {
        let bytes = encode(&fields);
        if let (Ok(key), Ok(decoded)) = (scan_chunks(SELDON, &[&bytes]), Seldon::decode(&bytes[..])) {
            let tags = decoded.meta.unwrap_or_default().tags;
            prop_assert_eq!(key.model, tag_key(tags.get("model")).or_else(|| tag_key(tags.get("taskId"))));
        }
    }

    #[test]
    fn what_an_encoder_writes_is_always_accepted(
        name in "[a-z0-9_.-]{0,20}",
        version in prop::option::of(any::<i64>()),
        task in 1_i32..,
        rest in fields(),
    ) {
        let mut bytes = Predict { spec: Some(Spec { name: name.clone(), version, label: String::new() }) }.encode_to_vec();
        let seldon = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(f64::from(task))) };
        let tags = HashMap::from([("taskId".to_owned(), seldon)]);
        bytes.extend(encode(&[Field::Message(9, rest)]));
        let key = scan_chunks(PREDICT, &[&bytes]).unwrap();
        prop_assert_eq!(key.model.unwrap_or_default(), name);
        prop_assert_eq!(key.version, version.map(|version| version.to_string()));
        let bytes = Seldon { meta: Some(Meta { tags }) }.encode_to_vec();
        prop_assert_eq!(scan_chunks(SELDON, &[&bytes]).unwrap().model, Some(task.to_string()));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in any::<Vec<u8>>(),
        path in prop::sample::select(vec![PREDICT, MULTI, SELDON, FEEDBACK, INFER]),
        encoding in prop::sample::select(vec!["gzip", "deflate"]),
    ) {
        let _ = scan_chunks(path, &[&bytes]);
        if let Ok(mut scanner) = compressed(encoding) {
            let _ = scanner.feed(&bytes);
        }
    }
}
