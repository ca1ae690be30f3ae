use super::*;
use crate::rest::tensors::Datatype;
use crate::testing::request_id;

fn failure(document: &str) -> (i32, String, String) {
    let mut app_id = String::new();
    let failed = read(document.as_bytes(), &mut app_id).unwrap_err();
    (failed.number.unwrap(), failed.text, app_id)
}

fn tensors_of(data: &str, inputs: &[(&str, Datatype)]) -> String {
    let inputs: Vec<Named> = inputs
        .iter()
        .map(|(name, datatype)| ((*name).to_owned(), *datatype))
        .collect();
    let mut parameters = Parameters::new();
    match tensors(data.as_bytes(), &inputs, &mut parameters) {
        Ok(tensors) => {
            let all = tensors
                .iter()
                .map(|it| format!("{} {:?} {:?}", it.name, it.shape, it.raw));
            let all: Vec<String> = all.collect();
            format!(
                "{} | {:?}",
                all.join("; "),
                parameters.keys().collect::<Vec<_>>()
            )
        }
        Err(error) => error.message.into_owned(),
    }
}

#[test]
fn an_envelope_has_an_app_and_data_and_what_it_does_not_say_is_plain() {
    let mut app_id = String::new();
    let whole = r#"{"appId": "3EA2", "version": "1", "signType": "SHA256", "signData": "x", "encType": "plain",
                    "timestamp": 1658716494, "data": {"text": "a"}}"#;
    let envelope = read(whole.as_bytes(), &mut app_id).unwrap();
    assert_eq!(
        (envelope.app_id.as_str(), envelope.data),
        ("3EA2", &br#"{"text": "a"}"#[..])
    );
    assert!(read(br#"{"appId": "", "data": {}}"#, &mut app_id).is_ok());
}

#[test]
fn a_bad_envelope_has_go_infers_number_and_its_own_app() {
    for (document, number, text) in [
        ("", PARAMETER, "the body ends"),
        ("[]", PARAMETER, "expected an object"),
        (r#"{"data": {}}"#, PARAMETER, "an appId"),
        (
            r#"{"appId": 1, "data": {}}"#,
            PARAMETER,
            "expected a string",
        ),
        (r#"{"appId": "a"}"#, PARAMETER, "has data"),
        (
            r#"{"appId": "a", "data": []}"#,
            PARAMETER,
            "an object as data",
        ),
        (
            r#"{"appId": "a", "data": {}, "version": "2"}"#,
            VERSION,
            "version \"2\"",
        ),
        (
            r#"{"appId": "a", "data": {}, "signType": "MD5"}"#,
            ALGORITHM,
            "none of SHA256, SM2, plain",
        ),
        (
            r#"{"appId": "a", "data": {}, "encType": "AES"}"#,
            PARAMETER,
            "encType \"AES\"",
        ),
        (
            r#"{"appId": "a", "data": {}} x"#,
            PARAMETER,
            "expected the end",
        ),
        (
            r#"{"appId": "a", "data": {}, "data": {}}"#,
            PARAMETER,
            "appears twice",
        ),
    ] {
        let (found, message, app_id) = failure(document);
        assert_eq!(found, number, "{document}");
        assert!(message.contains(text), "{document}: {message}");
        assert_eq!(app_id, if document.contains("\"a\"") { "a" } else { "" });
    }
    let deep = format!("{{\"data\": {{\"a\": {}", "[".repeat(100_000));
    assert!(failure(&deep).1.contains("nested deeper than 64"));
}

#[test]
fn fields_are_inputs_by_name_and_the_others_are_parameters() {
    use Datatype::{Bytes, Fp32};
    let both = [("text", Bytes), ("size", Fp32)];
    assert_eq!(
        tensors_of(
            r#"{"text": "ab", "size": [1, 2], "more": {"a": 1}, "none": null}"#,
            &both
        ),
        "text [1] b\"\\x02\\0\\0\\0ab\"; size [2] b\"\\0\\0\\x80?\\0\\0\\0@\" | [\"more\"]"
    );
    assert_eq!(
        tensors_of(r#"{"binData": "YWI="}"#, &[("binData", Bytes)]),
        "binData [1] b\"\\x02\\0\\0\\0ab\" | []"
    );
    assert_eq!(
        tensors_of(r#"{"binData": "&"}"#, &[("binData", Bytes)]),
        "binData is not base64: Invalid symbol 38, offset 0."
    );
    for inputs in [&[][..], &[("jsonData", Bytes)]] {
        assert_eq!(
            tensors_of(r#"{"a": 1}"#, inputs),
            "jsonData [1] b\"\\x08\\0\\0\\0{\\\"a\\\": 1}\" | []"
        );
    }
    assert_eq!(
        tensors_of(r#"{"other": 1}"#, &both),
        "data has none of the model's inputs: text, size"
    );
    assert!(tensors_of(r#"{"size": "a"}"#, &both).contains("expected a number"));
    assert!(tensors_of(r#"{"size": [[1], [1, 2]]}"#, &both).contains("arrays of one length"));
}

#[test]
fn an_answer_is_the_models_fields_and_go_infers() {
    let request_id = request_id("r");
    let data = |said: &str| {
        let json = fields(Said::Json(said.as_bytes().to_vec()), &request_id);
        String::from_utf8(json).unwrap()
    };
    assert_eq!(
        data("{\"a\":[1]}"),
        r#"{"a":[1],"msg":"success","requestId":"r"}"#
    );
    assert_eq!(data("{}"), r#"{"msg":"success","requestId":"r"}"#);
    assert_eq!(
        data("\"text\""),
        r#"{"result":"text","msg":"success","requestId":"r"}"#
    );
    let json = frame(
        "a\"",
        0,
        fields(Said::Bytes(b"ab".as_slice().into()), &request_id),
    );
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        (&json["appId"], &json["success"]),
        (&"a\"".into(), &true.into())
    );
    assert_eq!(
        json["data"]["result"],
        "data:application/octet-stream;base64,YWI="
    );
}

#[test]
fn each_failure_has_a_number_and_a_status() {
    let request_id = request_id("r");
    let cases = [
        (ErrorKind::NoRoute, None, UNKNOWN, 404),
        (ErrorKind::DeadlineExceeded, None, TIMED_OUT, 504),
        (ErrorKind::BadRequest, None, REFUSED, 400),
        (ErrorKind::BadRequest, Some(VERSION), VERSION, 400),
        (ErrorKind::BadUpstreamResponse, None, FAILED, 502),
        (ErrorKind::Shed, Some(-7), -7, 429),
    ];
    for (kind, own, number, status) in cases {
        let mut failed = Failed::from(Error::new(kind, "no"));
        failed.number = own;
        let reply = problem(&failed, "a", &request_id);
        let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(
            (reply.status.as_u16(), &json["code"], &json["success"]),
            (status, &number.into(), &false.into())
        );
        assert_eq!(
            (&json["data"]["msg"], &json["data"]["requestId"]),
            (&"no".into(), &"r".into())
        );
    }
}

#[test]
fn a_broken_document_breaks_nothing() {
    let documents = [
        r#"{"appId": "a", "version": "1", "signType": "SM2", "data": {"text": "b", "size": [[1, 2]], "more": {"c": null}}}"#,
        r#"{"data": {"binData": "YWI="}, "appId": ""}"#,
    ];
    let inputs = [
        ("text", Datatype::Bytes),
        ("size", Datatype::Fp32),
        ("binData", Datatype::Bytes),
    ];
    let inputs = inputs.map(|(name, datatype)| (name.to_owned(), datatype));
    let mut accepted = 0;
    crate::testing::broken_documents(53, &documents, |document| {
        let Ok(envelope) = read(document, &mut String::new()) else {
            return;
        };
        accepted += 1;
        let _ = tensors(envelope.data, &inputs, &mut Parameters::new());
    });
    assert!(accepted > 1000, "{accepted} documents say something");
}
