//! Bodies of HTTP: what is read as JSON is JSON, a request is refused or makes a whole message, and what is answered to it
//! is JSON again.

use dl_core::fuzzing::rest;
use serde::de::IgnoredAny;

use crate::input::Input;

/// The first byte says what the rest is.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 5 {
        0 => document(input.rest()),
        1 => answered(rest::open_inference(input.rest(), None)),
        2 => {
            let length = usize::from(input.byte());
            answered(rest::open_inference(input.rest(), Some(length)));
        }
        3 => answered(rest::seldon(input.rest())),
        _ => {
            if let Some(json) = rest::tensorflow(input.rest()) {
                // With NaN and the infinities, as TF Serving writes them.
                assert!(rest::is_json(&json), "{}", String::from_utf8_lossy(&json));
            }
        }
    }
}

fn document(body: &[u8]) {
    let has = |word: &[u8]| body.windows(word.len()).any(|it| it == word);
    if rest::is_json(body) && !has(b"NaN") && !has(b"Infinity") {
        assert!(is_standard(body), "{}", String::from_utf8_lossy(body));
    }
}

fn answered(json: Option<Vec<u8>>) {
    if let Some(json) = json {
        assert!(is_standard(&json), "{}", String::from_utf8_lossy(&json));
    }
}

fn is_standard(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}
