//! TF Serving's `:classify` and `:regress`: JSON of examples, which are named features, and classes or numbers of each.

use bytes::Bytes;
use prost::Message;

use crate::error::Error;
use crate::local::messages::tensorflow::serving::{
    ClassificationRequest, ClassificationResponse, ExampleList, ExampleListWithContext, Input,
    ModelSpec, RegressionRequest, RegressionResponse, input,
};
use crate::local::messages::tensorflow::{
    BytesList, Example, Feature, Features, FloatList, Int64List, feature,
};
use crate::rest::grpc::caller::parse;
use crate::rest::tensors::json::{Kind, Reader, bad};
use crate::rest::tensors::{Datatype, Elements, NotFinite, Strings, Tensor, Writer, string};
use crate::rest::web::reply::Reply;

pub const CLASSIFY: &str = "/tensorflow.serving.PredictionService/Classify";
pub const REGRESS: &str = "/tensorflow.serving.PredictionService/Regress";

/// The message of a call with these examples; both calls' requests are alike.
///
/// # Errors
/// `bad_request`.
pub fn request(path: &str, mut spec: ModelSpec, body: &[u8]) -> Result<Vec<u8>, Error> {
    let mut examples = Vec::new();
    let mut context = None;
    let mut reader = Reader::new(body);
    reader.object(|reader, key| {
        match key {
            "signature_name" => spec.signature_name = reader.string()?.into_owned(),
            "context" => context = Some(example(reader)?),
            "examples" => reader.array(|reader| {
                examples.push(example(reader)?);
                Ok(())
            })?,
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    if examples.is_empty() {
        return Err(bad("a request has examples: send at least one".to_owned()));
    }
    let context = context.map(Some);
    let kind = match context {
        None => input::Kind::ExampleList(ExampleList { examples }),
        Some(context) => {
            input::Kind::ExampleListWithContext(ExampleListWithContext { examples, context })
        }
    };
    let (model_spec, input) = (Some(spec), Some(Input { kind: Some(kind) }));
    Ok(if path == CLASSIFY {
        ClassificationRequest { model_spec, input }.encode_to_vec()
    } else {
        RegressionRequest { model_spec, input }.encode_to_vec()
    })
}

fn example(reader: &mut Reader<'_>) -> Result<Example, Error> {
    let mut features = Features::default();
    reader.object(|reader, name| {
        let kind = feature(reader, name)?;
        features.feature.insert(name.to_owned(), Feature { kind });
        Ok(())
    })?;
    Ok(Example {
        features: Some(features),
    })
}

/// A value or a list of values of one kind: whole numbers, numbers with a fraction, or bytes.
fn feature(reader: &mut Reader<'_>, name: &str) -> Result<Option<feature::Kind>, Error> {
    let place = reader.place();
    let mut found = None;
    if reader.kind()? == Kind::Array {
        reader.array(|reader| {
            let datatype = datatype(reader)?;
            if *found.get_or_insert(datatype) == datatype {
                return Ok(());
            }
            Err(bad(format!("the feature {name:?} has values of different kinds: write 1.0 for 1 among numbers with a fraction")))
        })?;
    } else {
        found = Some(datatype(reader)?);
    }
    let text = reader.text_from(place);
    let Some(datatype) = found else {
        return Ok(None);
    };
    let elements = Elements::read(&mut Reader::new(text), datatype)?;
    let tensor = Tensor {
        name: name.to_owned(),
        datatype,
        shape: Vec::new(),
        raw: elements.raw.into(),
    };
    Ok(Some(match datatype {
        Datatype::Int64 => {
            let (chunks, _) = tensor.raw.as_chunks();
            let value = chunks
                .iter()
                .map(|chunk| i64::from_le_bytes(*chunk))
                .collect();
            feature::Kind::Int64List(Int64List { value })
        }
        Datatype::Fp32 => {
            let (chunks, _) = tensor.raw.as_chunks();
            let value = chunks
                .iter()
                .map(|chunk| f32::from_le_bytes(*chunk))
                .collect();
            feature::Kind::FloatList(FloatList { value })
        }
        _ => {
            let value = tensor.bytes()?.iter().map(|bytes| bytes.to_vec()).collect();
            feature::Kind::BytesList(BytesList { value })
        }
    }))
}

/// Read over a value; the type that it shows to be of.
fn datatype(reader: &mut Reader<'_>) -> Result<Datatype, Error> {
    let datatype = match reader.kind()? {
        Kind::String | Kind::Object => Datatype::Bytes,
        Kind::Number => {
            let text = reader.number()?;
            let is_whole = text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'-');
            return Ok(if is_whole {
                Datatype::Int64
            } else {
                Datatype::Fp32
            });
        }
        _ => {
            return Err(reader
                .error("a number, a string or {\"b64\": ...}, or an array of one kind of these"));
        }
    };
    reader.skip()?;
    Ok(datatype)
}

/// The classes of each example.
///
/// # Errors
/// `bad_upstream_response`.
pub fn classes(message: Bytes) -> Result<Reply, Error> {
    let answer: ClassificationResponse = parse(message)?;
    let mut json = b"{\"results\":[".to_vec();
    for (index, example) in answer
        .result
        .unwrap_or_default()
        .classifications
        .iter()
        .enumerate()
    {
        json.extend_from_slice(if index > 0 { b",[" } else { b"[" });
        for (place, class) in example.classes.iter().enumerate() {
            json.extend_from_slice(if place > 0 { b",[" } else { b"[" });
            string(&mut json, &class.label);
            json.push(b',');
            write(&mut json, &class.score.to_le_bytes())?;
            json.push(b']');
        }
        json.push(b']');
    }
    json.extend_from_slice(b"]}");
    Ok(Reply::of(json.into()))
}

/// The number of each example.
///
/// # Errors
/// `bad_upstream_response`.
pub fn numbers(message: Bytes) -> Result<Reply, Error> {
    let answer: RegressionResponse = parse(message)?;
    let each = answer.result.unwrap_or_default().regressions;
    let raw: Vec<u8> = each.iter().flat_map(|it| it.value.to_le_bytes()).collect();
    let mut json = b"{\"results\":[".to_vec();
    write(&mut json, &raw)?;
    json.extend_from_slice(b"]}");
    Ok(Reply::of(json.into()))
}

fn write(json: &mut Vec<u8>, raw: &[u8]) -> Result<(), Error> {
    Writer::new(Datatype::Fp32, raw, NotFinite::Words, Strings::Text).rest(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::messages::tensorflow::serving::{
        Class, ClassificationResult, Classifications, Regression, RegressionResult,
    };

    fn read(document: &str) -> Result<Input, String> {
        let message = request(CLASSIFY, ModelSpec::default(), document.as_bytes());
        let message = message.map_err(|error| error.message.into_owned())?;
        Ok(ClassificationRequest::decode(&message[..])
            .unwrap()
            .input
            .unwrap())
    }

    fn features(input: &Input) -> &std::collections::HashMap<String, Feature> {
        let Some(input::Kind::ExampleList(list)) = &input.kind else {
            panic!("{input:?}")
        };
        &list.examples[0].features.as_ref().unwrap().feature
    }

    #[test]
    fn values_are_features_of_their_kind() {
        let input = read(
            r#"{"examples": [{"i": 1, "j": [-1, 9223372036854775807], "f": 1.0, "g": [1e0, NaN],
                            "s": "a", "b": ["a", {"b64": "AP8="}], "none": []}]}"#,
        );
        let input = input.unwrap();
        let kind = |name: &str| features(&input)[name].kind.clone();
        let ints = |value: &[i64]| {
            Some(feature::Kind::Int64List(Int64List {
                value: value.to_vec(),
            }))
        };
        let bytes = |value: &[&[u8]]| {
            let value = value.iter().map(|it| it.to_vec()).collect();
            Some(feature::Kind::BytesList(BytesList { value }))
        };
        assert_eq!((kind("i"), kind("j")), (ints(&[1]), ints(&[-1, i64::MAX])));
        assert_eq!(
            kind("f"),
            Some(feature::Kind::FloatList(FloatList { value: vec![1.0] }))
        );
        let Some(feature::Kind::FloatList(list)) = kind("g") else {
            panic!("{:?}", kind("g"))
        };
        assert!(list.value[0].eq(&1.0) && list.value[1].is_nan());
        assert_eq!(
            (kind("s"), kind("b")),
            (bytes(&[b"a"]), bytes(&[b"a", b"\0\xff"]))
        );
        assert_eq!(kind("none"), None);
    }

    #[test]
    fn a_context_and_a_signature_are_passed_on() {
        let body = br#"{"signature_name": "s", "context": {"c": 1}, "examples": [{}, {}]}"#;
        let message = request(REGRESS, ModelSpec::default(), body).unwrap();
        let message = RegressionRequest::decode(&message[..]).unwrap();
        assert_eq!(message.model_spec.unwrap().signature_name, "s");
        let Some(input::Kind::ExampleListWithContext(list)) = message.input.unwrap().kind else {
            panic!()
        };
        assert_eq!(list.examples.len(), 2);
        assert!(
            list.context
                .unwrap()
                .features
                .unwrap()
                .feature
                .contains_key("c")
        );
    }

    #[test]
    fn a_bad_request_is_told_what_is_wrong() {
        for (document, expected) in [
            ("", "the body ends"),
            ("{}", "a request has examples"),
            (r#"{"examples": []}"#, "a request has examples"),
            (r#"{"examples": {}}"#, "expected an array"),
            (r#"{"examples": [1]}"#, "expected an object"),
            (r#"{"examples": [{"a": null}]}"#, "a number, a string"),
            (r#"{"examples": [{"a": [[1]]}]}"#, "a number, a string"),
            (
                r#"{"examples": [{"a": [1, 1.5]}]}"#,
                "the feature \"a\" has values of different kinds",
            ),
            (r#"{"examples": [{"a": [1, "x"]}]}"#, "different kinds"),
            (
                r#"{"examples": [{"a": 99999999999999999999}]}"#,
                "is no INT64",
            ),
            (r#"{"examples": [{"a": 1e99}]}"#, "1e99 is no FP32"),
            (r#"{"examples": [{"a": {"b65": ""}}]}"#, "for bytes"),
            (r#"{"examples": [{"a": {"b64": "&"}}]}"#, "not base64"),
            (r#"{"examples": [{"a": 1, "a": 2}]}"#, "appears twice"),
            (r#"{"examples": [{}]} x"#, "expected the end"),
        ] {
            let error = read(document).unwrap_err();
            assert!(error.contains(expected), "{document}: {error}");
        }
    }

    #[test]
    fn classes_and_numbers_are_results() {
        let class = |label: &str, score| Class {
            label: label.to_owned(),
            score,
        };
        let each = vec![
            Classifications {
                classes: vec![class("a", 0.5), class("\"", f32::INFINITY)],
            },
            Classifications { classes: vec![] },
        ];
        let result = Some(ClassificationResult {
            classifications: each,
        });
        let answer = ClassificationResponse {
            result,
            model_spec: None,
        };
        let reply = classes(answer.encode_to_vec().into()).unwrap();
        assert_eq!(
            reply.body,
            r#"{"results":[[["a",0.5],["\"",Infinity]],[]]}"#
        );
        let regressions = vec![Regression { value: 0.1 }, Regression { value: f32::NAN }];
        let answer = RegressionResponse {
            result: Some(RegressionResult { regressions }),
            model_spec: None,
        };
        assert_eq!(
            numbers(answer.encode_to_vec().into()).unwrap().body,
            r#"{"results":[0.1,NaN]}"#
        );
        assert!(numbers(Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn a_broken_document_breaks_nothing() {
        let documents = [
            r#"{"signature_name": "s", "examples": [{"i": 1, "f": [0.5, NaN], "s": ["a", {"b64": "AP8="}], "none": []}]}"#,
            r#"{"context": {"c": 1}, "examples": [{}, {}]}"#,
        ];
        let mut accepted = 0;
        crate::testing::broken_documents(56, &documents, |document| {
            let message = request(CLASSIFY, ModelSpec::default(), document);
            accepted += usize::from(message.is_ok());
        });
        assert!(accepted > 1000, "{accepted} documents say something");
    }
}
