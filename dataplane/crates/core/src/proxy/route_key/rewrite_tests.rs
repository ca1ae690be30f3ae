//! The rewritten message is, byte for byte, the one that an encoder would have written with the version in place of
//! the label; then the rules of what may be rewritten.

use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;

use super::*;
use crate::grpc::framing::prefix;
use crate::grpc::wire::tests::{Field, chunks, encode, fields, seeded};
use crate::proxy::method::find as method;
use crate::proxy::route_key::{Progress, RouteKey, RouteKeyScanner};
use crate::testing::frame;

const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
const MULTI: &str = "/tensorflow.serving.PredictionService/MultiInference";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

fn text(number: u32, text: &str) -> Field {
    Field::Bytes(number, text.as_bytes().to_vec())
}

/// A request with one message, cut into chunks.
fn request(message: &[u8], cuts: &[Index]) -> VecDeque<Bytes> {
    let body = frame(message);
    chunks(&body, cuts)
        .into_iter()
        .map(Bytes::copy_from_slice)
        .collect()
}

/// Rewrite; return the message behind a prefix that must fit, after checking the growth that was said.
fn rewrite(path: &str, version: &str, mut held: VecDeque<Bytes>) -> Result<Vec<u8>, String> {
    let size = |chunks: &VecDeque<Bytes>| chunks.iter().map(Bytes::len).sum::<usize>();
    let before = size(&held);
    let plan = &method(path).unwrap().plan;
    let grown = replace_version(plan, version, &mut held).map_err(|e| e.message.into_owned())?;
    assert_eq!(before.checked_add_signed(grown), Some(size(&held)));
    assert!(held.iter().all(|chunk| !chunk.is_empty()));
    let body: Vec<u8> = held.iter().flatten().copied().collect();
    let (head, message) = body.split_at(PREFIX);
    assert_eq!(head, prefix(message.len() as u32));
    Ok(message.to_vec())
}

/// The fields with each label of the message under `path` replaced, apart from the scanner.
fn replaced(fields: &[Field], path: &[u32], label: u32, version: &Field) -> Vec<Field> {
    let replace = |field: &Field| match (field, path) {
        (Field::Bytes(number, _), []) if *number == label => version.clone(),
        (Field::Message(number, inner), [first, rest @ ..]) if number == first => {
            Field::Message(*number, replaced(inner, rest, label, version))
        }
        _ => field.clone(),
    };
    fields.iter().map(replace).collect()
}

fn int64(version: i64) -> Field {
    Field::Message(2, vec![Field::Varint(1, version as u64)])
}

/// Fields that are neither name, version nor label, whatever their numbers.
fn others() -> impl Strategy<Value = Vec<Field>> {
    let field = prop_oneof![
        fields().prop_map(|fields| Field::Message(9, fields)),
        fields().prop_map(|fields| Field::Group(1, fields)),
        fields().prop_map(|fields| Field::Group(4, fields)),
        any::<u64>().prop_map(|number| Field::Varint(1, number)),
        any::<u64>().prop_map(|number| Field::Fixed64(4, number)),
        (100_usize..5000).prop_map(|size| Field::Bytes(300, vec![7; size])),
    ];
    prop::collection::vec(field, 0..3)
}

/// Parts of messages, in an order of chance, each with others around.
fn mixed(parts: Vec<Field>) -> impl Strategy<Value = Vec<Field>> {
    let parts = Just(parts).prop_shuffle();
    (parts, prop::collection::vec(others(), 5)).prop_map(|(parts, around)| {
        let mut around = around.into_iter();
        let mut mixed = around.next().unwrap_or_default();
        for part in parts {
            mixed.push(part);
            mixed.extend(around.next().unwrap_or_default());
        }
        mixed
    })
}

/// A message `number` with a name, a label (twice at times, or an empty one before) and others.
fn labelled(number: u32, label: String) -> impl Strategy<Value = Field> {
    let label = text(4, &label);
    prop_oneof![
        mixed(vec![text(1, "m"), label.clone()]),
        mixed(vec![text(1, "m"), label.clone(), label]),
    ]
    .prop_map(move |fields| Field::Message(number, fields))
}

fn label() -> impl Strategy<Value = String> {
    // Both sides of the length at which the message around needs another byte for its own.
    prop_oneof!["[a-z]{1,12}", "[a-z]{110,140}"]
}

proptest! {
    #![proptest_config(seeded(21))]

    #[test]
    fn a_tfs_message_asks_for_the_version_and_is_the_same_besides(
        (fields, label) in label().prop_flat_map(|label| {
            (labelled(1, label.clone()).prop_flat_map(|spec| mixed(vec![spec])), Just(label))
        }),
        version in any::<i64>(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let bytes = encode(&fields);
        prop_assume!(key_of(PREDICT, &bytes).version_or_label() == Some(&label));
        let rewritten = rewrite(PREDICT, &version.to_string(), request(&bytes, &cuts)).unwrap();
        prop_assert_eq!(&rewritten, &encode(&replaced(&fields, &[1], 4, &int64(version))));
        // It refuses a message that has the numbers of known fields with other wire types.
        if let Ok(decoded) = Predict::decode(&rewritten[..]) {
            let spec = Spec { name: "m".to_owned(), version: Some(version), label: String::new() };
            prop_assert_eq!(decoded.spec, Some(spec));
        }
    }

    #[test]
    fn every_task_of_a_multi_inference_asks_for_the_version(
        tasks in prop::collection::vec(
            labelled(1, "stable".to_owned())
                .prop_flat_map(|spec| mixed(vec![spec]))
                .prop_map(|fields| Field::Message(1, fields)),
            1..4,
        ),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let bytes = encode(&tasks);
        let rewritten = rewrite(MULTI, "7", request(&bytes, &cuts)).unwrap();
        prop_assert_eq!(rewritten, encode(&replaced(&tasks, &[1, 1], 4, &int64(7))));
    }

    #[test]
    fn an_oip_message_asks_for_the_version_and_is_the_same_besides(
        (fields, label) in label().prop_flat_map(|label| {
            let parts = [text(1, "m"), text(2, ""), text(2, &label)];
            // An empty one is none wherever it stands in front.
            (mixed(parts[..1].to_vec()), Just(parts[1..].to_vec()), Just(label))
                .prop_map(|(mut fields, versions, label)| { fields.extend(versions); (fields, label) })
        }),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let bytes = encode(&fields);
        let key = key_of(INFER, &bytes);
        prop_assert_eq!(key.version_or_label(), Some(&*label));
        let rewritten = rewrite(INFER, "3", request(&bytes, &cuts)).unwrap();
        prop_assert_eq!(rewritten, encode(&replaced(&fields, &[], 2, &text(2, "3"))));
    }

    #[test]
    fn a_version_is_put_in_front_of_a_message_that_asks_for_none(
        rest in mixed(vec![Field::Message(1, vec![text(1, "m")])]),
        version in prop_oneof![any::<i64>().prop_map(|id| id.to_string()), "[a-z]{1,200}", Just("03".to_owned())],
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        held in any::<Index>(),
    ) {
        let message = encode(&rest);
        let body = frame(&message);
        // The prefix is enough.
        let (begin, late) = body.split_at(PREFIX + held.index(message.len() + 1));
        for (path, holder, names) in [(PREDICT, Some(1), [2, 4]), (INFER, None, [2, 2])] {
            let mut begin: VecDeque<Bytes> =
                chunks(begin, &cuts).into_iter().map(Bytes::copy_from_slice).collect();
            let grown = insert_version(&method(path).unwrap().plan, &version, &mut begin).unwrap();
            let sent: Vec<u8> = begin.iter().flatten().chain(late).copied().collect();
            let field = match version.parse() {
                Ok(id) if path == PREDICT && version != "03" => int64(id),
                _ => text(names[1], &version),
            };
            let field = holder.map_or(field.clone(), |number| Field::Message(number, vec![field]));
            let expected = [encode(&[field]), message.clone()].concat();
            prop_assert_eq!(grown as usize, expected.len() - message.len());
            prop_assert_eq!(&sent, &frame(&expected));
        }
    }

    #[test]
    fn the_held_beginning_is_enough_and_what_follows_need_not_have_come(
        spec in labelled(1, "stable".to_owned()),
        rest in others(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let mut fields = vec![spec];
        let decided = PREFIX + encode(&fields).len();
        fields.extend(rest);
        let whole = frame(&encode(&fields));
        let expected = frame(&encode(&replaced(&fields, &[1], 4, &int64(3))));
        for held in [decided, decided + (whole.len() - decided) / 2] {
            let (begin, rest) = whole.split_at(held);
            let mut begin: VecDeque<Bytes> =
                chunks(begin, &cuts).into_iter().map(Bytes::copy_from_slice).collect();
            replace_version(&method(PREDICT).unwrap().plan, "3", &mut begin).unwrap();
            let sent: Vec<u8> = begin.iter().flatten().chain(rest).copied().collect();
            prop_assert_eq!(&sent, &expected);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in any::<Vec<u8>>(),
        cuts in prop::collection::vec(any::<Index>(), 0..4),
        path in prop::sample::select(vec![PREDICT, MULTI, INFER]),
    ) {
        let _ = replace_version(&method(path).unwrap().plan, "3", &mut request(&bytes, &cuts));
        let mut held: VecDeque<Bytes> = VecDeque::from([Bytes::from(bytes)]);
        let _ = replace_version(&method(path).unwrap().plan, "3", &mut held);
    }
}

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

fn key_of(path: &str, bytes: &[u8]) -> RouteKey {
    let mut scanner = RouteKeyScanner::new(method(path).unwrap());
    scanner.feed(bytes).unwrap();
    scanner.finish().unwrap();
    scanner.key().clone()
}

#[test]
fn lengths_that_are_longer_than_they_need_be_are_read() {
    let mut message = vec![0x8a, 0x00, 0x8d, 0x00, 0xa2, 0x80, 0x00, 0x86, 0x00];
    message.extend(b"stable");
    message.extend([0x2a, 0x00]);
    assert_eq!(key_of(PREDICT, &message).label.as_deref(), Some("stable"));
    let rewritten = rewrite(PREDICT, "3", request(&message, &[])).unwrap();
    assert_eq!(rewritten, [0x8a, 0x00, 6, 0x12, 2, 0x08, 3, 0x2a, 0x00]);
}

#[test]
fn large_chunks_are_not_copied_and_small_ones_are_joined() {
    let large = Bytes::from(vec![1; 100_000]);
    let head = encode(&[Field::Message(1, vec![text(1, "m"), text(4, "stable")])]);
    let mut message = head.clone();
    message.extend([0x12]);
    message.extend(varint(large.len() as u64));
    let length = (message.len() + large.len()) as u32;
    let begin = [&prefix(length)[..], &message].concat();
    let mut held: VecDeque<Bytes> = begin.chunks(3).map(Bytes::copy_from_slice).collect();
    held.push_back(large.clone());
    replace_version(&method(PREDICT).unwrap().plan, "3", &mut held).unwrap();
    assert_eq!(held.len(), 2);
    assert_eq!(held[1].as_ptr(), large.as_ptr());
}

#[test]
fn what_cannot_say_the_version_is_refused() {
    let held = |flag: u8| {
        let message = encode(&[Field::Message(1, vec![text(1, "m"), text(4, "stable")])]);
        let mut body = frame(&message).to_vec();
        body[0] = flag;
        VecDeque::from([Bytes::from(body)])
    };
    let refused = |path, version, held| rewrite(path, version, held).unwrap_err();
    assert!(refused(PREDICT, "9223372036854775808", held(0)).contains("no int64"));
    assert!(refused(PREDICT, "stable", held(0)).contains("no int64"));
    assert!(refused(PREDICT, "3", held(1)).contains("compressed"));
    assert!(refused("/seldon.protos.Model/Predict", "3", held(0)).contains("no field"));
    let insert = |path, mut held| {
        let inserted = insert_version(&method(path).unwrap().plan, "3", &mut held);
        inserted.unwrap_err().message.into_owned()
    };
    assert!(insert(PREDICT, held(1)).contains("compressed"));
    assert!(insert(MULTI, held(0)).contains("each part"));
    assert!(insert("/seldon.protos.Model/Predict", held(0)).contains("no field"));
}

#[test]
fn an_inserted_version_and_the_rest_of_the_specification_are_one_to_a_reader() {
    let spec = Spec {
        name: "m".to_owned(),
        ..Spec::default()
    };
    let message = Predict { spec: Some(spec) }.encode_to_vec();
    let mut held = request(&message, &[]);
    insert_version(&method(PREDICT).unwrap().plan, "7", &mut held).unwrap();
    let body: Vec<u8> = held.iter().flatten().copied().collect();
    let spec = Predict::decode(&body[PREFIX..]).unwrap().spec.unwrap();
    assert_eq!((&*spec.name, spec.version), ("m", Some(7)));
    let mut empty = request(&[], &[]);
    insert_version(&method(INFER).unwrap().plan, "7", &mut empty).unwrap();
    let body: Vec<u8> = empty.iter().flatten().copied().collect();
    assert_eq!(body, [0, 0, 0, 0, 3, 0x12, 1, b'7']);
}

// --- when the scanner lets it be replaced ---

fn given(model: Option<&str>, version: Option<&str>) -> RouteKey {
    RouteKey {
        model: model.map(str::to_owned),
        version: version.map(str::to_owned),
        label: None,
    }
}

fn scanned(path: &str, given: &RouteKey, parts: &[&[Field]]) -> Result<RouteKeyScanner, String> {
    let mut scanner = RouteKeyScanner::new(method(path).unwrap());
    scanner.set_given(given);
    for fields in parts {
        scanner
            .feed(&encode(fields))
            .map_err(|error| error.message.into_owned())?;
    }
    Ok(scanner)
}

#[test]
fn a_label_that_comes_again_behind_the_key_is_not_replaced() {
    let spec = Field::Message(1, vec![text(1, "m"), text(4, "stable")]);
    let none = given(None, None);
    let mut once = scanned(PREDICT, &none, &[std::slice::from_ref(&spec)]).unwrap();
    once.close().unwrap();
    let late = once.feed(&encode(std::slice::from_ref(&spec))).unwrap_err();
    assert!(late.message.contains("behind the part"), "{late}");
    let mut twice = scanned(PREDICT, &none, &[&[spec.clone(), spec.clone()]]).unwrap();
    assert!(twice.close().unwrap_err().message.contains("twice"));
    let mut oip = scanned(INFER, &none, &[&[text(1, "m"), text(2, "a"), text(2, "a")]]).unwrap();
    assert!(oip.close().unwrap_err().message.contains("twice"));
    // Each task of these has its own.
    let tasks = [
        Field::Message(1, vec![spec.clone()]),
        Field::Message(1, vec![spec]),
    ];
    scanned(MULTI, &none, &[&tasks]).unwrap().close().unwrap();
}

#[test]
fn with_a_given_model_only_version_and_label_are_read() {
    let known = given(Some("m"), None);
    let spec = |fields| Field::Message(1, fields);
    let others = [Field::Bytes(1, vec![0xff; 3]), text(1, "n"), text(1, "")];
    for name in others {
        let fields = [spec(vec![name, int64(3)])];
        let scanner = scanned(PREDICT, &known, &[&fields]).unwrap();
        assert_eq!(scanner.progress(), Progress::Decided);
        assert_eq!(*scanner.key(), given(None, Some("3")));
    }
    let mut scanner = scanned(PREDICT, &known, &[]).unwrap();
    assert_eq!(scanner.progress(), Progress::Model);
    scanner.finish().unwrap();
    assert_eq!(scanner.progress(), Progress::Decided);
    let late = [spec(vec![]), spec(vec![text(4, "stable")])];
    assert!(
        scanned(PREDICT, &known, &[&late])
            .unwrap_err()
            .contains("behind the part")
    );
    let scanner = scanned(INFER, &known, &[&[text(7, "x"), text(2, "a")]]).unwrap();
    assert_eq!(*scanner.key(), given(None, Some("a")));
    assert_eq!(scanner.progress(), Progress::Decided);
}

#[test]
fn the_message_may_not_ask_for_another_version_than_the_metadata() {
    for model in [None, Some("m")] {
        let asked = given(model, Some("3"));
        let spec = |field| [Field::Message(1, vec![text(1, "m"), field])];
        scanned(PREDICT, &asked, &[&spec(int64(3))]).unwrap();
        scanned(PREDICT, &asked, &[&spec(text(4, "3"))]).unwrap();
        for other in [int64(4), Field::Message(2, vec![]), text(4, "stable")] {
            let error = scanned(PREDICT, &asked, &[&spec(other)]).unwrap_err();
            assert!(error.contains("x-model-version asks for \"3\""), "{error}");
        }
        assert!(scanned(INFER, &asked, &[&[text(1, "m"), text(2, "4")]]).is_err());
        // It would stand behind the one that is put in, and the last one counts for an endpoint.
        let label = spec(text(4, ""));
        let version = [text(1, "m"), text(2, "")];
        for (path, fields) in [(PREDICT, &label[..]), (INFER, &version[..])] {
            let error = scanned(path, &asked, &[fields]).unwrap_err();
            assert!(error.contains("leave out the empty one"), "{error}");
        }
    }
}
