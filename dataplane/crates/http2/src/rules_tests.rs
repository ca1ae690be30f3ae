//! Lists that are right, and each way in which one is wrong.

use super::*;
use crate::testing::list;

type Fields = &'static [(&'static str, &'static str)];

const REQUEST: Fields = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a/b"),
    (":authority", "ipv4:10.0.0.1:80,10.0.0.2:80"),
];

fn with(extra: &[(&'static str, &'static str)]) -> Headers {
    list(&[REQUEST, extra].concat())
}

fn request(headers: &Headers) -> Result<Judged, Malformed> {
    judge(headers, List::Request, false)
}

#[test]
fn any_authority_passes_and_none() {
    for authority in [
        "",
        "a%2Fb",
        "unix:/run/x.sock",
        "UPPER",
        "[::1]:80",
        "a,b",
        "%",
    ] {
        let mut fields = REQUEST.to_vec();
        fields[3].1 = authority;
        assert!(request(&list(&fields)).is_ok(), "{authority}");
    }
    assert!(request(&list(&REQUEST[..3])).is_ok());
}

#[test]
fn what_a_request_must_have_is_missed() {
    for missing in 0..3 {
        let mut fields = REQUEST.to_vec();
        let gone = fields.remove(missing);
        assert!(request(&list(&fields)).is_err(), "{gone:?}");
        // What is missing of a list that was cut was perhaps in it.
        assert!(judge(&list(&fields), List::Request, true).is_ok());
        let mut fields = REQUEST.to_vec();
        fields[missing].1 = "";
        let is_taken = request(&list(&fields)).is_ok();
        assert_eq!(is_taken, missing == 1, "{:?}", fields[missing]);
    }
}

#[test]
fn malformed_fields_are_refused() {
    let wrong: &[(&str, &str)] = &[
        ("Upper", "x"),
        ("a b", "x"),
        ("", "x"),
        ("a:b", "x"),
        ("\u{e4}", "x"),
        ("a", "x\r\ny"),
        ("a", "x\0"),
        ("a", "\u{7f}"),
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("content-length", ""),
        ("content-length", "-1"),
        ("content-length", "1x"),
        ("content-length", "99999999999999999999"),
        (":path", "/twice"),
        (":method", "GET"),
        (":status", "200"),
        (":unknown", "x"),
    ];
    for (name, value) in wrong {
        let headers = list(&[REQUEST, &[(*name, *value)]].concat());
        assert!(request(&headers).is_err(), "{name}: {value}");
    }
    let late = list(&[REQUEST[0], REQUEST[1], ("a", "x"), REQUEST[2]]);
    assert_eq!(
        request(&late),
        Err(Malformed("a pseudo-header field after others"))
    );
    let lengths = with(&[("content-length", "1"), ("content-length", "2")]);
    assert_eq!(
        request(&lengths),
        Err(Malformed("two values of content-length"))
    );
}

#[test]
fn what_is_legal_passes() {
    let headers = with(&[
        ("te", "trailers"),
        ("content-length", "12"),
        ("content-length", "12"),
        ("a", ""),
        ("a", "x\ty \u{e4}"),
        ("a", " x\t"),
        ("!#$%&'*+-.^_`|~09az", "x"),
    ]);
    assert_eq!(request(&headers).map(|it| it.content_length), Ok(Some(12)));
}

#[test]
fn an_answer_has_one_status_of_three_digits() {
    let answer = |fields: &[(&str, &str)]| judge(&list(fields), List::Response, false);
    assert_eq!(answer(&[(":status", "204")]).map(|it| it.status), Ok(204));
    for status in ["", "20", "2000", "099", "2x0"] {
        assert!(answer(&[(":status", status)]).is_err(), "{status}");
    }
    assert!(answer(&[]).is_err());
    assert!(answer(&[(":status", "200"), (":status", "200")]).is_err());
    assert!(answer(&[(":status", "200"), (":path", "/")]).is_err());
}

#[test]
fn trailers_have_no_fields_of_the_protocol() {
    let trailers = |fields: &[(&str, &str)]| judge(&list(fields), List::Trailers, false);
    assert!(trailers(&[("grpc-status", "0"), ("content-length", "x")]).is_ok());
    assert!(trailers(&[]).is_ok());
    assert!(trailers(&[(":status", "200")]).is_err());
}

#[test]
fn connect_has_an_authority_and_nothing_else() {
    let authority = (":authority", "a:1");
    assert!(request(&list(&[(":method", "CONNECT"), authority])).is_ok());
    assert!(request(&list(&[(":method", "CONNECT")])).is_err());
    assert!(request(&list(&[(":method", "CONNECT"), authority, (":path", "/")])).is_err());
}

#[test]
fn one_wrong_byte_anywhere_is_seen_and_no_right_one() {
    for length in 0..50 {
        let mut value = vec![b'a'; length];
        assert!(is_value(&value));
        for place in 0..length {
            for byte in 0..=255 {
                value[place] = byte;
                let is_right = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
                assert_eq!(
                    is_value(&value),
                    is_right,
                    "{byte:#x} at {place} of {length}"
                );
            }
            value[place] = b'a';
        }
    }
}

#[test]
fn each_known_name_passes_but_those_of_the_protocol_and_of_connections() {
    for token in Token::all() {
        let headers: Headers = [(token, "trailers")].into_iter().collect();
        let judged = judge(&headers, List::Trailers, false);
        let is_refused = token.is_pseudo() || OF_CONNECTION.has(token);
        assert_eq!(judged.is_err(), is_refused, "{token}");
        // Behind others, and before.
        let request = with(&[("te", "trailers"), (token.name(), "1"), ("x-model", "m")]);
        let is_refused = is_refused || token == Token::TE;
        assert_eq!(
            super::judge(&request, List::Request, false).is_err(),
            is_refused,
            "{token}"
        );
    }
}
