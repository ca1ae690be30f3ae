use super::*;
use crate::rest::tensors::Datatype;
use crate::testing::request_id;

const ASKED: &str =
    r#"{"model": "m", "query": "q", "documents": ["a", {"text": "b", "id": 7}, "c"]"#;

fn asked(more: &str) -> Request<'_> {
    let document: &'static str = format!("{ASKED}{more}}}").leak();
    Request::read(document.as_bytes()).unwrap()
}

fn scores(shape: &[usize], numbers: &[f32]) -> Tensor {
    Tensor {
        name: "x".to_owned(),
        datatype: Datatype::Fp32,
        shape: shape.to_vec(),
        raw: numbers.iter().flat_map(|it| it.to_le_bytes()).collect(),
    }
}

fn answered(request: &Request<'_>, output: Tensor) -> String {
    match request.reply(&[output], &request_id("r")) {
        Ok(reply) => String::from_utf8(reply.body.to_vec()).unwrap(),
        Err(error) => error.message.into_owned(),
    }
}

#[test]
fn documents_come_back_by_their_scores_the_first_of_equal_ones_first() {
    let answer = answered(&asked(""), scores(&[3], &[0.5, 0.75, 0.5]));
    assert_eq!(
        answer,
        "{\"id\":\"r\",\"model\":\"m\",\"results\":[{\"index\":1,\"relevance_score\":0.75},\
         {\"index\":0,\"relevance_score\":0.5},{\"index\":2,\"relevance_score\":0.5}],\
         \"usage\":{\"prompt_tokens\":0,\"total_tokens\":0}}"
    );
    let request = asked(", \"top_n\": 2, \"return_documents\": true, \"rank_fields\": null");
    let answer: serde_json::Value =
        serde_json::from_str(&answered(&request, scores(&[3, 1], &[-1.0, 0.0, 2.0]))).unwrap();
    assert_eq!(answer["results"].as_array().unwrap().len(), 2);
    assert_eq!(
        answer["results"][0],
        serde_json::json!({"index": 2, "relevance_score": 2.0, "document": {"text": "c"}})
    );
    assert_eq!(
        answer["results"][1]["document"],
        serde_json::json!({"text": "b", "id": 7})
    );
}

#[test]
fn what_is_no_score_for_each_document_is_the_models_error() {
    for (output, expected) in [
        (
            scores(&[2], &[1.0, 2.0]),
            "has the shape [2], and scores of 3 documents are [3]",
        ),
        (scores(&[3, 2], &[0.0; 6]), "has the shape [3, 2]"),
        (
            scores(&[3], &[1.0, f32::NAN, 2.0]),
            "gave document 1 the score NaN",
        ),
        (scores(&[3], &[1.0]), "has not as many elements"),
        (
            Tensor::of_bytes("x", &["a", "b", "c"]).unwrap(),
            "holds bytes, and no numbers",
        ),
    ] {
        let answer = answered(&asked(""), output);
        assert!(answer.contains(expected), "{answer}");
    }
    let both = [
        scores(&[3], &[0.0; 3]),
        Tensor {
            name: "y".to_owned(),
            ..scores(&[3], &[0.0; 3])
        },
    ];
    let error = asked("").reply(&both, &request_id("r")).unwrap_err();
    assert!(
        error
            .message
            .contains("gave the outputs x, y, and none is scores"),
        "{error:?}"
    );
}

#[test]
fn a_bad_request_is_told_what_is_wrong() {
    for (document, expected) in [
        ("", "the body ends"),
        ("[]", "expected an object"),
        (r#"{"query": "q", "documents": ["a"]}"#, "names its model"),
        (r#"{"model": "m", "documents": ["a"]}"#, "has a query"),
        (r#"{"model": "m", "query": "q"}"#, "has documents"),
        (
            r#"{"model": "m", "query": "q", "documents": []}"#,
            "has documents",
        ),
        (
            r#"{"model": "m", "query": ["q"], "documents": ["a"]}"#,
            "expected a string",
        ),
        (
            r#"{"model": "m", "query": "q", "documents": [1]}"#,
            "expected an object",
        ),
        (
            r#"{"model": "m", "query": "q", "documents": [{"title": "a"}]}"#,
            "has a text",
        ),
        (
            r#"{"model": "m", "query": "q", "documents": ["a"], "top_n": 0}"#,
            "top_n is 0",
        ),
        (
            r#"{"model": "m", "query": "q", "documents": ["a"], "top_n": 1.5}"#,
            "top_n is 1.5",
        ),
        (
            r#"{"model": "m", "query": "q", "documents": ["a"], "return_documents": 1}"#,
            "expected true or false",
        ),
        (
            r#"{"model": "m", "query": "q", "documents": ["a"]}{"#,
            "expected the end",
        ),
    ] {
        let error = Request::read(document.as_bytes()).unwrap_err();
        assert!(
            error.message.contains(expected),
            "{document}: {}",
            error.message
        );
    }
    let many = format!(
        "{{\"documents\": [{}\"a\"]}}",
        "\"a\",".repeat(MAX_DOCUMENTS)
    );
    assert!(
        Request::read(many.as_bytes())
            .unwrap_err()
            .message
            .contains("more than 10000 documents")
    );
}

#[test]
fn a_broken_document_breaks_nothing() {
    let whole = format!("{ASKED}, \"top_n\": 2, \"return_documents\": true}}");
    let documents = [
        whole.as_str(),
        r#"{"documents": ["a"], "query": "", "model": ""}"#,
    ];
    let mut accepted = 0;
    crate::testing::broken_documents(55, &documents, |document| {
        let Ok(request) = Request::read(document) else {
            return;
        };
        accepted += 1;
        let count = request.documents.len();
        let answer = answered(&request, scores(&[count], &vec![0.5; count]));
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            answer["results"].as_array().unwrap().len(),
            count.min(request.top_n.unwrap_or(count))
        );
    });
    assert!(accepted > 500, "{accepted} documents say something");
}
