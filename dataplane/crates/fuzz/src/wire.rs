//! The route key of a request's first message: found alike however the message is cut, as a decoder would find it, and
//! changed without touching anything else.

use std::collections::VecDeque;
use std::io::Write;

use bytes::Bytes;
use dl_core::fuzzing::method::{self, Protocol, Streaming};
use dl_core::fuzzing::{
    Error, ErrorKind, Method, PREFIX, Progress, RouteKey, RouteKeyScanner, insert_version, prefix,
    replace_version,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::{Message, Oneof};

use crate::input::{Input, cut};

/// Of a compressed message only so much is looked at.
const INFLATE_LIMIT: usize = 64 * 1024;

/// Method, what the metadata say, how the message is cut; then the message.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let methods = method::all();
    let method = &methods[usize::from(input.byte()) % methods.len()];
    let given = match input.byte() {
        1 => key(Some("m"), None),
        2 => key(None, Some("7")),
        3 => key(Some("m"), Some("7")),
        _ => RouteKey::default(),
    };
    let cuts = input.byte();
    let lengths = input.take(cuts.into());
    let message = input.rest();

    let whole = scan(RouteKeyScanner::new(method), &given, &[message]);
    let bytes: Vec<&[u8]> = message.chunks(1).collect();
    for pieces in [&cut(message, lengths), &bytes] {
        let found = scan(RouteKeyScanner::new(method), &given, pieces);
        assert_eq!(said(&found), said(&whole), "{}", method.path);
    }
    progress(method, &given, message, lengths);
    compressed(method, &given, message, &whole);
    if given == RouteKey::default() {
        compare(method, message, &whole);
        if let Ok(key) = &whole {
            rewrite(method, message, lengths, key);
        }
    }
}

fn key(model: Option<&str>, version: Option<&str>) -> RouteKey {
    RouteKey {
        model: model.map(str::to_owned),
        version: version.map(str::to_owned),
        label: None,
    }
}

fn scan(
    mut scanner: RouteKeyScanner,
    given: &RouteKey,
    pieces: &[&[u8]],
) -> Result<RouteKey, Error> {
    scanner.set_given(given);
    for piece in pieces {
        scanner.feed(piece)?;
    }
    scanner.finish()?;
    Ok(scanner.key().clone())
}

fn said(result: &Result<RouteKey, Error>) -> Result<&RouteKey, (ErrorKind, &str)> {
    result
        .as_ref()
        .map_err(|error| (error.kind, &*error.message))
}

/// What is final, and when, is the same for pieces as for single bytes; and it stays.
fn progress(method: &'static Method, given: &RouteKey, message: &[u8], lengths: &[u8]) {
    let (mut coarse, mut fine) = (RouteKeyScanner::new(method), RouteKeyScanner::new(method));
    coarse.set_given(given);
    fine.set_given(given);
    let mut model = None;
    for piece in cut(message, lengths) {
        let mut reached = Ok(fine.progress());
        for byte in piece.chunks(1) {
            reached = reached.and_then(|_| fine.feed(byte));
        }
        let (coarse_reached, reached) = (coarse.feed(piece).ok(), reached.ok());
        assert_eq!(coarse_reached, reached);
        let Some(reached) = reached else { return };
        assert_eq!(coarse.key(), fine.key());
        if reached > Progress::Pending && given.model.is_none() {
            let found = coarse.key().model.clone();
            assert_eq!(
                found,
                *model.get_or_insert(found.clone()),
                "the model changed"
            );
        }
    }
}

/// A message that is compressed has the same key.
fn compressed(
    method: &'static Method,
    given: &RouteKey,
    message: &[u8],
    plain: &Result<RouteKey, Error>,
) {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    // A vector takes everything.
    let packed = gzip.write_all(message).and_then(|()| gzip.finish());
    let packed = packed.unwrap_or_default();
    let scanner = || match RouteKeyScanner::new_compressed(method, Some(b"gzip"), None) {
        Ok(scanner) => scanner,
        Err(error) => panic!("{error:?}"),
    };
    if message.len() < INFLATE_LIMIT {
        let found = scan(scanner(), given, &packed.chunks(7).collect::<Vec<_>>());
        assert_eq!(found.as_ref().ok(), plain.as_ref().ok(), "{found:?}");
    }
    // Whatever it is, it is not gzip.
    let _ = scan(scanner(), given, &[message]);
}

// --- what a decoder finds ---

#[derive(Message)]
struct Predict {
    #[prost(message, tag = "1")]
    spec: Option<Spec>,
}

#[derive(Message)]
struct Spec {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(oneof = "Choice", tags = "2, 4")]
    choice: Option<Choice>,
}

#[derive(Oneof)]
enum Choice {
    #[prost(message, tag = "2")]
    Version(Int64),
    #[prost(string, tag = "4")]
    Label(String),
}

#[derive(Message)]
struct Int64 {
    #[prost(int64, tag = "1")]
    value: i64,
}

#[derive(Message)]
struct Infer {
    #[prost(string, tag = "1")]
    model: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Message)]
struct Seldon {
    #[prost(message, tag = "2")]
    meta: Option<Meta>,
}

#[derive(Message)]
struct Meta {
    // A map, whose entries prost takes with any wire type.
    #[prost(message, repeated, tag = "2")]
    tags: Vec<Tag>,
}

#[derive(Message)]
struct Tag {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, tag = "2")]
    value: Option<TagValue>,
}

#[derive(Message)]
struct TagValue {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<Kind>,
}

#[derive(Oneof)]
enum Kind {
    #[prost(uint64, tag = "1")]
    Null(u64),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
    #[prost(bytes, tag = "5")]
    Struct(Vec<u8>),
    #[prost(bytes, tag = "6")]
    List(Vec<u8>),
}

/// Groups that are nested so deeply are refused sooner or later, by each decoder in its own way.
const DEEP: &str = "nested more than 100 deep";

/// A key that is found is the one that a decoder finds, and what a decoder reads parses.
fn compare(method: &Method, message: &[u8], found: &Result<RouteKey, Error>) {
    let expected = match method.path.as_str() {
        "/tensorflow.serving.PredictionService/Predict" => Predict::decode(message).ok().map(tfs),
        "/inference.GRPCInferenceService/ModelInfer" => Infer::decode(message).ok().map(oip),
        "/com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService/PytorchPredict" => {
            Seldon::decode(message).ok().map(seldon)
        }
        _ => return,
    };
    let Some(expected) = expected else { return };
    match found {
        Ok(found) => assert_eq!(*found, expected),
        Err(error) => {
            let is_malformed = error.message.contains("does not parse");
            assert!(!is_malformed || error.message.contains(DEEP), "{error:?}");
        }
    }
}

fn named(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn tfs(request: Predict) -> RouteKey {
    let spec = request.spec.unwrap_or_default();
    let mut key = RouteKey {
        model: named(spec.name),
        ..RouteKey::default()
    };
    match spec.choice {
        Some(Choice::Version(version)) => key.version = Some(version.value.to_string()),
        Some(Choice::Label(label)) => key.label = named(label),
        None => {}
    }
    key
}

fn oip(request: Infer) -> RouteKey {
    RouteKey {
        model: named(request.model),
        version: named(request.version),
        label: None,
    }
}

fn seldon(request: Seldon) -> RouteKey {
    let tags = request.meta.unwrap_or_default().tags;
    let value = |name: &str| tags.iter().rfind(|tag| tag.name == name)?.value.as_ref();
    let name = |tag: &str| match value(tag)?.kind.as_ref()? {
        Kind::Text(text) => named(text.clone()),
        Kind::Number(number) => Some((*number as i64).to_string()),
        _ => None,
    };
    RouteKey {
        model: name("model").or_else(|| name("taskId")),
        ..RouteKey::default()
    }
}

// --- another version ---

/// A message that asks for a version, or for another one, is the same besides.
fn rewrite(method: &'static Method, message: &[u8], lengths: &[u8], key: &RouteKey) {
    let plan = &method.plan;
    if method.streaming == Streaming::Bidi || !plan.has_version() {
        return;
    }
    let look = |message: &[u8]| {
        scan(
            RouteKeyScanner::new(method),
            &RouteKey::default(),
            &[message],
        )
    };
    let model = key.model.as_deref();
    if key.version_or_label().is_some() {
        // As the proxy does: what was there again behind the part that names the model is not replaced.
        let mut scanner = RouteKeyScanner::new(method);
        let is_whole = scanner.feed(message).is_ok() && scanner.close().is_ok();
        if key.label.is_none() && method.protocol != Protocol::Oip || !is_whole {
            return;
        }
        let mut held = request(message, lengths);
        let grown = replace_version(plan, "42", &mut held);
        let changed = joined(grown, message, &held);
        assert_eq!(rest_of(method, &changed), rest_of(method, message));
        assert_eq!(look(&changed).ok(), Some(self::key(model, Some("42"))));
    } else if !plan.is_repeated() && is_fit(method, message) {
        let mut held = request(message, lengths);
        let grown = insert_version(plan, "42", &mut held);
        let changed = joined(grown, message, &held);
        assert!(changed.ends_with(message));
        assert_eq!(look(&changed).ok(), Some(self::key(model, Some("42"))));
    }
}

/// Whether the message may stand beside a version in the metadata.
fn is_fit(method: &'static Method, message: &[u8]) -> bool {
    let given = key(None, Some("42"));
    scan(RouteKeyScanner::new(method), &given, &[message]).is_ok()
}

/// A request with this message, in pieces.
fn request(message: &[u8], lengths: &[u8]) -> VecDeque<Bytes> {
    let head = prefix(u32::try_from(message.len()).unwrap_or(u32::MAX));
    let body = [&head, message].concat();
    let pieces = cut(&body, lengths);
    pieces.into_iter().map(Bytes::copy_from_slice).collect()
}

/// The message of a changed request, whose length must be as was said.
fn joined(grown: Result<isize, Error>, before: &[u8], held: &VecDeque<Bytes>) -> Vec<u8> {
    let grown = grown.unwrap_or_else(|error| panic!("{error:?}"));
    let body: Vec<u8> = held.iter().flatten().copied().collect();
    let (head, message) = body.split_at(PREFIX);
    assert_eq!(before.len().checked_add_signed(grown), Some(message.len()));
    assert_eq!(
        head,
        prefix(u32::try_from(message.len()).unwrap_or(u32::MAX))
    );
    message.to_vec()
}

/// Where the version is said: the fields that lead there, and the numbers of version and label.
fn version_place(method: &Method) -> (&'static [u64], [u64; 2]) {
    match method.protocol {
        Protocol::Oip => (&[], [2, 2]),
        _ if method.plan.is_repeated() => (&[1, 1], [2, 4]),
        _ => (&[1], [2, 4]),
    }
}

/// Everything but versions and labels, and the lengths around them: each field with the path to it.
fn rest_of(method: &Method, message: &[u8]) -> Vec<(Vec<u64>, Vec<u8>)> {
    let (way, versions) = version_place(method);
    let mut found = Vec::new();
    collect(message, way, versions, &mut Vec::new(), &mut found);
    found
}

fn collect(
    mut rest: &[u8],
    way: &[u64],
    versions: [u64; 2],
    path: &mut Vec<u64>,
    found: &mut Vec<(Vec<u64>, Vec<u8>)>,
) {
    let mut groups = 0;
    while !rest.is_empty() {
        let start = rest;
        let tag = varint(&mut rest);
        let (number, wire) = (tag >> 3, tag & 7);
        let value: &[u8] = match wire {
            0 => {
                varint(&mut rest);
                &[]
            }
            1 => split(&mut rest, 8),
            2 => {
                let length = varint(&mut rest) as usize;
                split(&mut rest, length)
            }
            5 => split(&mut rest, 4),
            3 => {
                groups += 1;
                &[]
            }
            _ => {
                groups -= 1;
                &[]
            }
        };
        let field = &start[..start.len() - rest.len()];
        path.push(number);
        match way {
            [first, way @ ..] if groups == 0 && wire == 2 && number == *first => {
                found.push((path.clone(), Vec::new()));
                collect(value, way, versions, path, found);
            }
            [] if groups == 0 && wire == 2 && versions.contains(&number) => {}
            _ => found.push((path.clone(), field.to_vec())),
        }
        path.pop();
    }
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let byte = split(rest, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

/// The message was scanned: it is well formed.
fn split<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, behind) = rest.split_at(length);
    *rest = behind;
    taken
}
