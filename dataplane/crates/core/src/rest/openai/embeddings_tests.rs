use super::*;

fn request(input: &str) -> Result<Request, String> {
    let document = format!(r#"{{"model": "m", "input": {input}}}"#);
    Request::read(document.as_bytes()).map_err(|error| error.message.into_owned())
}

fn vectors(name: &str, shape: &[usize], numbers: &[f32]) -> Tensor {
    Tensor {
        name: name.to_owned(),
        datatype: Datatype::Fp32,
        shape: shape.to_vec(),
        raw: numbers.iter().flat_map(|it| it.to_le_bytes()).collect(),
    }
}

fn answered(request: &Request, outputs: &[Tensor]) -> Result<serde_json::Value, String> {
    let reply = request
        .reply(outputs)
        .map_err(|error| format!("{:?}: {}", error.kind, error.message))?;
    Ok(serde_json::from_slice(&reply.body).unwrap())
}

#[test]
fn an_input_is_one_text_or_several_or_tokens() {
    let texts = |each: &[&str]| Input::Texts(each.iter().map(|it| (*it).to_owned()).collect());
    for (input, expected) in [
        ("\"a\"", texts(&["a"])),
        ("\"\"", texts(&[""])),
        ("[\"a\", \"b\"]", texts(&["a", "b"])),
        ("[1, 2]", Input::Tokens(vec![vec![1, 2]])),
        (
            "[[1], [], [2, 3]]",
            Input::Tokens(vec![vec![1], vec![], vec![2, 3]]),
        ),
    ] {
        assert_eq!(request(input).unwrap().input, expected, "{input}");
    }
    for (input, expected) in [
        ("[]", "input is empty"),
        ("null", "expected an array"),
        ("[\"a\", 1]", "texts alone, tokens alone"),
        ("[1, [1]]", "texts alone, tokens alone"),
        ("[[1], \"a\"]", "texts alone, tokens alone"),
        ("[null]", "texts alone, tokens alone"),
        ("[-1]", "-1 is no token"),
        ("[1.5]", "1.5 is no token"),
        ("[99999999999999999999]", "is no token"),
        ("[[[1]]]", "expected a number"),
        ("\"\\ud800\"", "a surrogate pair"),
    ] {
        let error = request(input).unwrap_err();
        assert!(error.contains(expected), "{input}: {error}");
    }
    let many = format!("[{}\"a\"]", "\"a\",".repeat(MAX_INPUTS));
    assert!(request(&many).unwrap_err().contains("more than 2048 texts"));
    assert!(request(&"[".repeat(100_000)).is_err());
}

#[test]
fn a_bad_request_is_told_what_is_wrong() {
    for (document, expected) in [
        (r#"{"input": "a"}"#, "names its model"),
        (r#"{"model": "m"}"#, "has an input"),
        (r#"{"model": 1, "input": "a"}"#, "expected a string"),
        (
            r#"{"model": "m", "input": "a", "encoding_format": "hex"}"#,
            "none of float, base64",
        ),
        (
            r#"{"model": "m", "input": "a", "dimensions": 0}"#,
            "dimensions is 0",
        ),
        (r#"{"model": "m", "input": "a"}x"#, "expected the end"),
    ] {
        let error = Request::read(document.as_bytes()).unwrap_err();
        assert!(
            error.message.contains(expected),
            "{document}: {}",
            error.message
        );
    }
    let nulls =
        r#"{"model": "m", "input": "a", "encoding_format": null, "dimensions": null, "user": "u"}"#;
    assert!(Request::read(nulls.as_bytes()).is_ok());
}

#[test]
fn texts_go_to_the_models_own_input_and_tokens_with_their_lengths() {
    let shown = |input: &str, own: &[Named]| {
        let tensors = request(input).unwrap().input.tensors(own).unwrap();
        let all: Vec<_> = tensors
            .iter()
            .map(|it| format!("{} {} {:?}", it.name, it.datatype.name(), it.shape))
            .collect();
        all.join("; ")
    };
    let own = [("text".to_owned(), Datatype::Bytes)];
    assert_eq!(shown("[\"a\", \"b\"]", &own), "text BYTES [2]");
    assert_eq!(
        shown("\"a\"", &[("strData".to_owned(), Datatype::Bytes)]),
        "input BYTES [1]"
    );
    assert_eq!(shown("\"a\"", &[]), "input BYTES [1]");
    assert_eq!(
        shown("[[1, 2], [3]]", &own),
        "tokens INT64 [3]; lengths INT64 [2]"
    );
}

#[test]
fn vectors_are_numbers_or_base64_of_them_with_the_count_of_tokens() {
    let mut request = request("[\"a\", \"b\"]").unwrap();
    let outputs = [
        vectors("embeddings", &[2, 2], &[0.5, 1.0, -1.5, 0.1]),
        vectors("tokens", &[2], &[3.0, 4.0]),
    ];
    let answer = answered(&request, &outputs).unwrap();
    assert_eq!(
        answer["data"][1],
        serde_json::json!({"object": "embedding", "index": 1, "embedding": [-1.5, 0.1]})
    );
    assert_eq!(
        (&answer["object"], &answer["model"]),
        (&"list".into(), &"m".into())
    );
    assert_eq!(
        answer["usage"],
        serde_json::json!({"prompt_tokens": 7, "total_tokens": 7})
    );
    request.is_base64 = true;
    let answer = answered(&request, &outputs).unwrap();
    assert_eq!(answer["data"][0]["embedding"], "AAAAPwAAgD8=");
}

#[test]
fn what_is_no_vector_for_each_text_is_an_error() {
    let mut request = request("[\"a\", \"b\"]").unwrap();
    for (outputs, expected) in [
        (
            vec![vectors("x", &[1, 4], &[0.0; 4])],
            "has the shape [1, 4], and embeddings of 2 texts are [2, n]",
        ),
        (vec![vectors("x", &[2], &[0.0; 2])], "has the shape [2]"),
        (vec![vectors("x", &[2, 0], &[])], "has the shape [2, 0]"),
        (
            vec![vectors("x", &[2, 2], &[0.0])],
            "has not as many elements",
        ),
        (
            vec![vectors("x", &[2, 1], &[0.0, f32::INFINITY])],
            "the vector of input 1 holds inf",
        ),
        (
            vec![
                vectors("x", &[2, 1], &[0.0; 2]),
                vectors("y", &[2, 1], &[0.0; 2]),
            ],
            "gave the outputs x, y, and none is",
        ),
        (vec![], "gave the outputs , and none is"),
    ] {
        let error = answered(&request, &outputs).unwrap_err();
        assert!(
            error.starts_with("BadUpstreamResponse") && error.contains(expected),
            "{error}"
        );
    }
    request.dimensions = Some(1);
    let error = answered(&request, &[vectors("x", &[2, 2], &[0.0; 4])]).unwrap_err();
    assert!(
        error.starts_with("BadRequest: m gives vectors of 2 dimensions"),
        "{error}"
    );
    assert!(answered(&request, &[vectors("x", &[2, 1], &[0.0; 2])]).is_ok());
}

#[test]
fn a_broken_document_breaks_nothing() {
    let documents = [
        r#"{"model": "m", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 3}"#,
        r#"{"input": [[1, 2], [3]], "model": "m"}"#,
        r#"{"input": [1, 2], "model": "m", "user": null}"#,
    ];
    let mut accepted = 0;
    crate::testing::broken_documents(54, &documents, |document| {
        let Ok(request) = Request::read(document) else {
            return;
        };
        accepted += 1;
        assert!(request.input.len() > 0);
        let tensors = request.input.tensors(&[]).unwrap();
        assert!(
            tensors
                .iter()
                .all(|it| crate::rest::tensors::result::check_shape(it).is_ok())
        );
    });
    assert!(accepted > 1000, "{accepted} documents say something");
}
