use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::grpc::framing::PREFIX;
use crate::grpc::wire::tests::{Field, encode};
use crate::proxy::method::find;

const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
const MULTI: &str = "/tensorflow.serving.PredictionService/MultiInference";
const SELDON: &str = "/seldon.protos.Model/Predict";
const FEEDBACK: &str = "/seldon.protos.Model/SendFeedback";
const PYTORCH: &str =
    "/com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService/PytorchPredict";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const READY: &str = "/inference.GRPCInferenceService/ModelReady";

fn text(number: u32, text: &str) -> Field {
    Field::Bytes(number, text.as_bytes().to_vec())
}

/// An entry of a map in the field `number`.
fn entry(number: u32, name: &str, value: Field) -> Field {
    Field::Message(number, vec![text(1, name), Field::Message(2, vec![value])])
}

fn framed(message: &[u8], compressed: bool) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("is short");
    [&[u8::from(compressed)][..], &length.to_be_bytes(), message].concat()
}

fn feed(field: &str, path: &str, body: &[u8], encoding: Option<&'static str>) -> Option<u64> {
    let encoding = encoding.map(str::as_bytes);
    let field = HashField::new(field).expect("is a field");
    let method = find(path).expect("is a method");
    let [whole, single] = [body.len(), 1].map(|size| {
        let mut search = field.search(method, encoding)?;
        body.chunks(size).for_each(|chunk| search.feed(chunk));
        assert!(search.is_over(), "a whole message was read");
        search.hash()
    });
    assert_eq!(whole, single, "chunks make no difference");
    whole
}

/// The hash of a field in a plain message.
fn hash(field: &str, path: &str, fields: &[Field]) -> Option<u64> {
    feed(field, path, &framed(&encode(fields), false), None)
}

fn same(value: &str) -> Option<u64> {
    Some(stable_hash(value.as_bytes()))
}

#[test]
fn each_field_is_found_in_the_messages_of_its_protocol_and_hashed_as_metadata_is() {
    let infer = [
        text(1, "m"),
        text(3, "id-1"),
        entry(4, "other", text(3, "x")),
        entry(4, "session", text(3, "s-1")),
    ];
    assert_eq!(hash("id", INFER, &infer), same("id-1"));
    assert_eq!(hash("parameters.session", INFER, &infer), same("s-1"));
    let meta = vec![
        text(1, "p-1"),
        entry(2, "model", text(3, "m")),
        entry(2, "user.id", text(3, "u")),
    ];
    let seldon = [Field::Message(2, meta)];
    for path in [SELDON, PYTORCH] {
        assert_eq!(hash("meta.puid", path, &seldon), same("p-1"));
        assert_eq!(hash("meta.tags.user.id", path, &seldon), same("u"));
    }
    let feedback = [Field::Message(1, seldon.to_vec())];
    assert_eq!(hash("meta.puid", FEEDBACK, &feedback), same("p-1"));
    let spec = Field::Message(1, vec![text(1, "m"), text(3, "sign")]);
    assert_eq!(
        hash(
            "model_spec.signature_name",
            PREDICT,
            std::slice::from_ref(&spec)
        ),
        same("sign")
    );
    let tasks = [Field::Message(1, vec![spec])];
    assert_eq!(
        hash("model_spec.signature_name", MULTI, &tasks),
        same("sign")
    );
}

#[test]
fn a_number_has_the_hash_of_its_digits() {
    let value = |value| [text(1, "m"), entry(4, "sequence_id", value)];
    for value in [
        value(Field::Varint(2, 42)),
        value(Field::Varint(5, 42)),
        value(Field::Fixed64(4, 42.0_f64.to_bits())),
        value(text(3, "42")),
    ] {
        assert_eq!(hash("parameters.sequence_id", INFER, &value), same("42"));
    }
    let negative = value(Field::Varint(2, -7_i64 as u64));
    assert_eq!(hash("parameters.sequence_id", INFER, &negative), same("-7"));
    let tag = entry(2, "user", Field::Fixed64(2, 42.0_f64.to_bits()));
    assert_eq!(
        hash("meta.tags.user", SELDON, &[Field::Message(2, vec![tag])]),
        same("42")
    );
}

#[test]
fn a_message_without_the_field_has_no_hash() {
    let name = text(1, "m");
    for message in [
        vec![name.clone()],
        vec![name.clone(), text(3, "")],
        vec![name.clone(), text(4, "no entry")],
    ] {
        assert_eq!(hash("id", INFER, &message), None);
    }
    let flag = entry(4, "session", Field::Varint(1, 1));
    let other = entry(4, "sessions", text(3, "x"));
    assert_eq!(
        hash("parameters.session", INFER, &[name.clone(), flag, other]),
        None
    );
    // Of another protocol, and of a question that is not for a prediction.
    let method = |path| find(path).expect("is a method");
    let field = HashField::new("id").expect("is a field");
    assert!(field.search(method(SELDON), None).is_none());
    assert!(field.search(method(READY), None).is_none());
    // What is no message at all.
    assert_eq!(feed("id", INFER, &framed(&[0xff; 20], false), None), None);
}

#[test]
fn a_field_behind_the_first_64_kib_counts_as_missing_and_no_more_is_read() {
    let at = |bytes: usize| {
        let filler = Field::Bytes(7, vec![b'x'; bytes]);
        framed(&encode(&[text(1, "m"), filler, text(3, "id-1")]), false)
    };
    assert_eq!(feed("id", INFER, &at(LIMIT - 100), None), same("id-1"));
    assert_eq!(feed("id", INFER, &at(LIMIT), None), None);
    let field = HashField::new("id").expect("is a field");
    let mut search = field
        .search(find(INFER).expect("is a method"), None)
        .expect("has it");
    search.feed(&at(LIMIT)[..LIMIT]);
    assert!(!search.is_over());
    search.feed(&[b'x'; PREFIX]);
    assert!(search.is_over());
}

#[test]
fn a_compressed_message_is_looked_into_where_its_encoding_is_known() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&encode(&[text(1, "m"), text(3, "id-1")]))
        .expect("fits");
    let body = framed(&gzip.finish().expect("ends"), true);
    assert_eq!(feed("id", INFER, &body, Some("gzip")), same("id-1"));
    assert_eq!(feed("id", INFER, &body, Some("zstd")), None);
    assert_eq!(feed("id", INFER, &body, Some("deflate")), None);
}

#[test]
fn what_is_no_field_is_refused_with_what_can_be_named() {
    for bad in [
        "",
        "ids",
        "parameters",
        "parameters.",
        "meta",
        "meta.tags",
        "meta.tags.",
        "model_spec.name",
    ] {
        let error = HashField::new(bad).expect_err("is no field");
        assert!(
            error.starts_with(&format!("hash_field {bad:?} is none of `id`")),
            "{error}"
        );
    }
}
