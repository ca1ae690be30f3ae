use super::*;

fn numbers(name: &str, shape: &[usize], numbers: &[f32]) -> Tensor {
    Tensor {
        name: name.to_owned(),
        datatype: Datatype::Fp32,
        shape: shape.to_vec(),
        raw: numbers.iter().flat_map(|it| it.to_le_bytes()).collect(),
    }
}

fn said(outputs: &[Tensor]) -> String {
    match Said::of(outputs) {
        Ok(said) => String::from_utf8(said.into_json()).unwrap(),
        Err(error) => error.message.into_owned(),
    }
}

#[test]
fn a_result_is_the_one_value_that_a_model_gave_or_its_outputs_by_name() {
    let one = |name: &str, bytes: &[u8]| vec![Tensor::of_bytes(name, &[bytes]).unwrap()];
    let cases = [
        (one("jsonData", b" {\"a\" : [1.50, NaN, -Infinity, 1e999], \"b\": {\"\\u00e9\": [null, true]}, \"c\": []} "),
         "{\"a\":[1.50,null,null,null],\"b\":{\"\u{e9}\":[null,true]},\"c\":[]}"),
        (one("strData", b"a\"b"), "\"a\\\"b\""),
        (one("binData", b"ab"), "\"data:application/octet-stream;base64,YWI=\""),
        (one("strData", b"\xff"), "\"data:application/octet-stream;base64,/w==\""),
        (one("other", b"ab"), "{\"other\":[\"ab\"]}"),
        (one("other", b"\xff"), "{\"other\":[{\"b64\":\"/w==\"}]}"),
        (vec![Tensor::of_bytes("strData", &["a", "b"]).unwrap()], "{\"strData\":[\"a\",\"b\"]}"),
        (vec![numbers("a", &[1, 2], &[1.0, f32::NAN]), numbers("b", &[], &[0.5])], "{\"a\":[[1.0,null]],\"b\":0.5}"),
        (vec![numbers("a", &[2, 0], &[])], "{\"a\":[[],[]]}"),
        (vec![], "{}"),
    ];
    for (outputs, expected) in cases {
        assert_eq!(said(&outputs), expected);
    }
}

#[test]
fn an_answer_that_is_not_what_it_says_is_an_error() {
    let mut cut = Tensor::of_bytes("binData", &["abc"]).unwrap();
    cut.raw = cut.raw.slice(..5);
    let cases = [
        (
            Tensor::of_bytes("jsonData", &["{\"a\":"]).unwrap(),
            "the model's jsonData is not JSON",
        ),
        (
            Tensor::of_bytes("jsonData", &["1 2"]).unwrap(),
            "the model's jsonData is not JSON",
        ),
        (
            Tensor::of_bytes("jsonData", &["[".repeat(100_000)]).unwrap(),
            "nested deeper than 64",
        ),
        (
            numbers("a", &[3], &[1.0]),
            "has not as many elements as its shape [3] says",
        ),
        (numbers("a", &[1], &[1.0, 2.0]), "has not as many elements"),
        // Brackets alone would fill the memory.
        (numbers("a", &[1 << 40, 0], &[]), "has not as many elements"),
        (
            numbers("a", &[1 << 40, 1 << 40], &[]),
            "has not as many elements",
        ),
        (cut, "which are not whole elements"),
    ];
    for (output, expected) in cases {
        let error = said(&[output]);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_broken_answer_breaks_nothing_and_json_of_it_is_json() {
    let documents = [
        r#"{"a": [1.50, NaN, -Infinity], "b": {"\u00e9\ud83d\ude00": [null, true, "\n"]}, "c": []}"#,
        "[1, 2]",
    ];
    let mut accepted = 0;
    crate::testing::broken_documents(57, &documents, |document| {
        let Ok(said) = Said::of(&[Tensor::of_bytes("jsonData", &[document]).unwrap()]) else {
            return;
        };
        accepted += 1;
        let json = said.into_json();
        let read: Result<serde_json::Value, _> = serde_json::from_slice(&json);
        assert!(read.is_ok(), "{}", String::from_utf8_lossy(&json));
    });
    assert!(accepted > 1000, "{accepted} documents say something");
}
