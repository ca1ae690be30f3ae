use super::*;
use crate::testing::request_id;

fn question(document: &str) -> Result<Question<'_>, String> {
    let draft = Draft::of_json(document.as_bytes());
    let question = draft.and_then(Draft::settled);
    question.map_err(|error| error.message.into_owned())
}

fn parameters_of(question: &Question<'_>) -> String {
    let all: Vec<String> = (question.parameters.iter())
        .map(|(name, value)| format!("{name}={:?}", value.parameter_choice.as_ref().unwrap()))
        .collect();
    all.join(" ")
}

fn inputs(each: &[(&str, Datatype)]) -> Vec<Named> {
    each.iter()
        .map(|(name, datatype)| ((*name).to_owned(), *datatype))
        .collect()
}

fn tensor(document: &str, each: &[(&str, Datatype)]) -> String {
    let question = question(document).unwrap();
    match question.data.tensor("m", &inputs(each)) {
        Ok(tensor) => format!(
            "{} {} {:?} {}",
            tensor.name,
            tensor.datatype.name(),
            tensor.shape,
            tensor.raw.len()
        ),
        Err(error) => error.message.into_owned(),
    }
}

const ONE: &str = r#"{"data": {"uri": "data:,abc"}}"#;
const GROUP: &str = r#"{"data": [{"uri": "data:,abc"}, {"uri": "data:,d"}]}"#;
const NUMBERS: &str = r#"{"data": [[1, 2, 3], [4, 5, 6]]}"#;

#[test]
fn data_and_what_goes_beside_them_are_read() {
    let single = question(
        r#"{"op": "x", "params": {"limit": 3, "half": 0.5, "on": true, "none": null, "more": {"a": [1]}},
            "data": {"uri": "data:image/png;base64,AAE=", "attribute": {"id" : 7}, "other": 1}}"#,
    );
    let single = single.unwrap();
    assert_eq!(
        parameters_of(&single),
        "attribute=StringParam(\"{\\\"id\\\" : 7}\") half=DoubleParam(0.5) limit=Int64Param(3) \
         media_type=StringParam(\"image/png\") more=StringParam(\"{\\\"a\\\": [1]}\") on=BoolParam(true)"
    );
    assert!(matches!(&single.data, Data::Bytes(each) if each[..] == [&b"\0\x01"[..]]));
    let group = question(
        r#"{"data": [{"uri": "data:a/b,x", "attribute": 1}, {"uri": "data:,y"}], "params": null}"#,
    );
    assert_eq!(
        parameters_of(&group.unwrap()),
        "attribute=StringParam(\"[1,null]\") media_type=StringParam(\"[\\\"a/b\\\",null]\")"
    );
    assert_eq!(parameters_of(&question(GROUP).unwrap()), "");
}

#[test]
fn a_body_that_is_no_json_is_the_datum() {
    let read = |media_type: &str| {
        let mut headers = Headers::new();
        if !media_type.is_empty() {
            headers.push(Token::CONTENT_TYPE, media_type);
        }
        let question = Draft::read(&headers, b"\xff\xd8").and_then(Draft::settled);
        question.map_or_else(|error| error.message.into_owned(), |it| parameters_of(&it))
    };
    assert_eq!(read("application/octet-stream"), "");
    assert_eq!(read("image/jpeg"), "media_type=StringParam(\"image/jpeg\")");
    for media_type in [
        "",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/x-www-form-urlencoded",
    ] {
        assert!(
            read(media_type).contains("expected a value"),
            "{media_type}"
        );
    }
}

#[test]
fn a_bad_document_is_told_what_is_wrong() {
    for (document, expected) in [
        ("", "the body ends"),
        ("[]", "expected an object"),
        ("{}", "a request has data"),
        (r#"{"data": null}"#, "an object with a uri, or an array"),
        (
            r#"{"data": "data:,a"}"#,
            "an object with a uri, or an array",
        ),
        (r#"{"data": {}}"#, "data without a uri"),
        (r#"{"data": []}"#, "data is an empty array"),
        (r#"{"data": {"uri": 1}}"#, "expected a string"),
        (r#"{"data": {"uri": "data:;base64,&"}}"#, "is not base64"),
        (
            r#"{"data": [{"uri": "data:,a"}, 1]}"#,
            "as the data before it are",
        ),
        (
            r#"{"data": [{"uri": "data:,a"}, {}]}"#,
            "data without a uri",
        ),
        (
            r#"{"data": {"uri": "data:,a"}, "params": [1]}"#,
            "expected an object",
        ),
        (
            r#"{"data": {"uri": "data:a/b,a"}, "params": {"media_type": "x"}}"#,
            "params has \"media_type\"",
        ),
        (
            r#"{"data": {"uri": "data:,a", "attribute": 1}, "params": {"attribute": 2}}"#,
            "params has \"attribute\"",
        ),
        (r#"{"data": {"uri": "data:,a"}} x"#, "expected the end"),
        (
            r#"{"data": {"uri": "data:,a"}, "data": {"uri": "data:,a"}}"#,
            "appears twice",
        ),
    ] {
        let error = question(document).unwrap_err();
        assert!(error.contains(expected), "{document}: {error}");
    }
    let deep = format!("{{\"params\": {{\"a\": {}", "[".repeat(100_000));
    assert!(
        question(&deep)
            .unwrap_err()
            .contains("nested deeper than 64")
    );
    let deep = format!("{{\"data\": {}", "[".repeat(100_000));
    assert!(
        question(&deep)
            .unwrap_err()
            .contains("nested deeper than 64")
    );
}

#[test]
fn data_go_to_the_one_input_that_a_model_has() {
    use Datatype::{Bytes, Fp32, Int64};
    let cases = [
        (ONE, vec![("x", Bytes)], "x BYTES [1] 7"),
        (GROUP, vec![("x", Bytes)], "x BYTES [2] 12"),
        (ONE, vec![("strData", Bytes)], "strData BYTES [1] 7"),
        (ONE, vec![], "binData BYTES [1] 7"),
        (GROUP, vec![("binData", Bytes)], "data BYTES [2] 12"),
        (GROUP, vec![], "data BYTES [2] 12"),
        (NUMBERS, vec![("x", Fp32)], "x FP32 [2, 3] 24"),
        (NUMBERS, vec![("x", Int64)], "x INT64 [2, 3] 48"),
        (NUMBERS, vec![], "input FP64 [2, 3] 48"),
        (NUMBERS, vec![("jsonData", Bytes)], "jsonData BYTES [1] 26"),
        (
            NUMBERS,
            vec![("x", Bytes)],
            "the input x of m is of bytes: send {\"uri\": \"data:...\"} as data, or the bytes as body",
        ),
        (
            ONE,
            vec![("x", Fp32)],
            "the input x of m is of FP32, and no bytes: send an array of numbers as data",
        ),
        (
            ONE,
            vec![("a", Bytes), ("b", Fp32)],
            "m has the inputs a, b, and data is one: POST /v2/models/m/infer takes several",
        ),
    ];
    for (document, inputs, expected) in cases {
        assert_eq!(tensor(document, &inputs), expected, "{document}");
    }
    assert!(tensor(r#"{"data": [1.5]}"#, &[("x", Int64)]).contains("1.5 is no INT64"));
    assert!(tensor(r#"{"data": [[1], [2, 3]]}"#, &[("x", Int64)]).contains("arrays of one length"));
}

#[test]
fn bytes_are_answered_as_bytes_unless_the_caller_accepts_json_alone() {
    let reply_to = |accept: &str, name: &str| {
        let headers = Headers::from_iter([(Token::ACCEPT, accept)]);
        let output = Tensor::of_bytes(name, &["ab"]).unwrap();
        String::from_utf8(reply(&[output], &headers).unwrap().body.to_vec()).unwrap()
    };
    let json =
        r#"{"code":0,"message":"success","result":"data:application/octet-stream;base64,YWI="}"#;
    assert_eq!(reply_to("application/json", "binData"), json);
    for accept in [
        "*/*",
        "application/json, */*",
        "application/octet-stream",
        "image/png",
    ] {
        assert_eq!(reply_to(accept, "binData"), "ab", "{accept}");
    }
    assert_eq!(reply_to("Application/Octet-Stream", "mask"), "ab");
    assert_eq!(
        reply_to("*/*", "mask"),
        r#"{"code":0,"message":"success","result":{"mask":["ab"]}}"#
    );
}

#[test]
fn an_error_has_the_models_own_number_or_the_status_as_its_code() {
    let request_id = request_id("r");
    let mut failed = Failed::from(bad("no".to_owned()));
    for (number, code) in [(None, 400), (Some(4711), 4711), (Some(0), 400)] {
        failed.number = number;
        let (status, problem) = problem(&failed, &request_id);
        assert_eq!(status, 400);
        assert_eq!(problem["code"], code);
        assert_eq!(
            (&problem["message"], &problem["result"]),
            (&"no".into(), &serde_json::Value::Null)
        );
        assert_eq!(problem["kind"], "bad_request");
    }
}

#[test]
fn a_broken_document_breaks_nothing() {
    use Datatype::{Bytes, Fp32};
    let documents = [
        ONE,
        GROUP,
        NUMBERS,
        r#"{"params": {"a": [1, {"b": null}], "c": 0.5}, "data": [{"uri": "data:image/png;base64,AAE=", "attribute": {"a": 1}}]}"#,
    ];
    let mut read = 0;
    crate::testing::broken_documents(51, &documents, |document| {
        let Ok(question) = Draft::of_json(document).and_then(Draft::settled) else {
            return;
        };
        read += 1;
        for own in [
            &[][..],
            &[("x", Bytes)],
            &[("x", Fp32)],
            &[("jsonData", Bytes)],
        ] {
            let _ = question.data.tensor("m", &inputs(own));
        }
    });
    assert!(read > 1000, "{read} documents say something");
}

#[tokio::test]
async fn data_that_are_elsewhere_are_fetched_before_they_are_asked() {
    let uris = Arc::new(Uris::none());
    let here = Draft::of_json(GROUP.as_bytes()).unwrap().fetched(&uris);
    assert!(here.await.is_ok());
    let elsewhere = r#"{"data": [{"uri": "data:,x"}, {"uri": "https://a.test/b?secret"}]}"#;
    let error = Draft::of_json(elsewhere.as_bytes()).unwrap();
    let error = error.fetched(&uris).await.unwrap_err().to_string();
    assert!(
        error.starts_with("uri_denied: data[1]: https://a.test/b: only data: URIs"),
        "{error}"
    );
}
