use proptest::prelude::*;

use super::*;

fn status(value: &str) -> Headers {
    Headers::from_iter([("grpc-status", value)])
}

#[test]
fn every_code_is_found_by_number_and_by_name() {
    for (number, code) in (0_u8..).zip(Code::ALL) {
        assert_eq!(code as u8, number);
        assert_eq!(Code::from_u8(number), Some(code));
        assert_eq!(Code::from_name(code.name()), Some(code));
        assert_eq!(code.digits(), number.to_string());
    }
    assert_eq!(Code::from_u8(17), None);
    assert_eq!(Code::from_name("not_found"), None);
}

#[test]
fn http_statuses_map_as_the_error_table_says() {
    let rows = [
        (400, Code::Internal),
        (401, Code::Unauthenticated),
        (403, Code::PermissionDenied),
        (404, Code::Unimplemented),
        (429, Code::Unavailable),
        (502, Code::Unavailable),
        (503, Code::Unavailable),
        (504, Code::Unavailable),
        (500, Code::Unknown),
        (302, Code::Unknown),
    ];
    for (http, code) in rows {
        assert_eq!(Code::from_http(http), code, "{http}");
    }
}

#[test]
fn a_status_that_is_no_number_is_no_status() {
    assert_eq!(parse_grpc_status(&Headers::new()), None);
    for bad in ["", "x", "-1", "+1", "1 ", "99999999999"] {
        assert_eq!(parse_grpc_status(&status(bad)), None, "{bad:?}");
    }
}

#[test]
fn a_number_that_grpc_does_not_define_is_unknown() {
    assert_eq!(parse_grpc_status(&status("0")), Some(Code::Ok));
    assert_eq!(parse_grpc_status(&status("14")), Some(Code::Unavailable));
    assert_eq!(parse_grpc_status(&status("17")), Some(Code::Unknown));
    assert_eq!(
        parse_grpc_status(&status("4294967296")),
        Some(Code::Unknown)
    );
}

#[test]
fn messages_are_percent_encoded_as_utf_8() {
    assert_eq!(encode_message("a b~"), "a b~");
    assert_eq!(encode_message("100%\n模"), "100%25%0A%E6%A8%A1");
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_decodes_to_the_same(message in any::<String>()) {
        let encoded = encode_message(&message);
        prop_assert!(encoded.bytes().all(|it| (b' '..=b'~').contains(&it)));
        prop_assert_eq!(crate::testing::decode_message(encoded.as_bytes()), &*message);
    }
}
