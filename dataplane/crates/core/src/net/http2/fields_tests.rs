use super::*;
use crate::grpc::status::{decode_message, encode_message};

const MOST: usize = 2 * 300;

fn trailers(message: &str, details: usize) -> Headers {
    let mut headers = Headers::from_iter([("grpc-status", "5"), ("x-other", "1")]);
    headers.push(Token::GRPC_MESSAGE, encode_message(message).as_ref());
    headers.push(Token::GRPC_STATUS_DETAILS_BIN, "d".repeat(details));
    headers
}

fn fitted(message: &str, details: usize) -> (String, bool) {
    let mut headers = trailers(message, details);
    fit(&mut headers, MOST);
    assert!(headers.size() <= MOST / 2, "{}", headers.size());
    assert_eq!(headers.text("grpc-status"), Some("5"));
    assert_eq!(headers.text("x-other"), Some("1"));
    let text = decode_message(headers.get(Token::GRPC_MESSAGE).unwrap());
    (text, headers.has(Token::GRPC_STATUS_DETAILS_BIN))
}

#[test]
fn a_text_that_is_too_long_is_cut_and_the_status_stays() {
    assert_eq!(fitted("short", 0), ("short".to_owned(), true));
    let (text, has_details) = fitted(&"0123456789".repeat(100), 10);
    assert!(text.starts_with("0123456789") && text.ends_with("... (cut)"));
    assert!(text.len() > 50 && has_details, "{text}");
}

#[test]
fn details_that_are_too_long_go_and_the_text_stays() {
    assert_eq!(fitted("short", 1000), ("short".to_owned(), false));
}

#[test]
fn a_text_is_cut_between_characters_wherever_its_limit_is() {
    for character in ["a", "%", "\u{e9}", "\u{6a21}", "\u{1f600}"] {
        for before in 0..13 {
            let whole = "-".repeat(before) + &character.repeat(400);
            let (text, _) = fitted(&whole, 0);
            let kept = text.strip_suffix(CUT).unwrap();
            assert!(whole.starts_with(kept) && kept.len() > 20, "{text}");
        }
    }
}

#[test]
fn a_list_without_a_text_or_without_a_limit_stays_as_it_is() {
    let mut headers = Headers::from_iter([("grpc-status", "0"), ("x-long", &"x".repeat(5000))]);
    let before = headers.clone();
    fit(&mut headers, MOST);
    assert_eq!(headers, before);
    let mut headers = trailers(&"x".repeat(50_000), 10);
    let before = headers.clone();
    fit(&mut headers, u32::MAX as usize);
    assert_eq!(headers, before);
}
