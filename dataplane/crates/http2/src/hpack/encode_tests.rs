//! What the encoder writes: RFC 7541's strings, what enters the table and what must not, and sizes of the table.

use super::*;
use crate::hpack::decode::tests::{MOST, bytes, list};
use crate::hpack::{Decoder, huffman};

fn written(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.encode(&list(fields), &mut block);
    block
}

/// How the one field is written the first, second and third time: the upper bits of its first byte.
fn forms(name: &str, value: &str) -> [u8; 3] {
    let mut encoder = Encoder::new();
    [(); 3].map(|()| match written(&mut encoder, &[(name, value)])[0] {
        0x80.. => 0x80,
        0x40..0x80 => 0x40,
        first => first & 0xf0,
    })
}

#[test]
fn strings_are_written_as_in_the_rfc() {
    let strings = [
        ("www.example.com", "8c f1e3 c2e5 f23a 6ba0 ab90 f4ff"),
        ("no-cache", "86 a8eb 1064 9cbf"),
        ("custom-key", "88 25a8 49e9 5ba9 7d7f"),
        ("custom-value", "89 25a8 49e9 5bb8 e8b4 bf"),
        ("302", "82 6402"),
        ("private", "85 aec3 771a 4b"),
        (
            "https://www.example.com",
            "91 9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3",
        ),
        ("gzip", "83 9bd9 ab"),
        (
            "Mon, 21 Oct 2013 20:13:21 GMT",
            "96 d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff",
        ),
        ("", "00"),
    ];
    for (text, dump) in strings {
        let mut out = Vec::new();
        string(text.as_bytes(), &mut out);
        assert_eq!(out, bytes(dump), "{text}");
    }
}

#[test]
fn huffman_is_used_only_where_it_is_shorter() {
    // As long, longer, and both beyond a length of one byte.
    for text in [
        "307".into(),
        "{}".into(),
        "{".repeat(126),
        "{".repeat(127),
        "{".repeat(500),
    ] {
        let mut out = Vec::new();
        string(text.as_bytes(), &mut out);
        assert!(out[0] < 0x80, "{text}");
        assert!(out.ends_with(text.as_bytes()));
    }
    for length in [10, 126, 127, 128, 200, 500] {
        let text = "a".repeat(length);
        let mut out = Vec::new();
        string(text.as_bytes(), &mut out);
        assert!(out[0] >= 0x80 && out.len() < length, "{length}");
        assert!(out.len() > huffman::encoded_length(text.as_bytes()));
    }
}

#[test]
fn short_strings_that_are_sent_each_time_go_plain() {
    let block = |length| written(&mut Encoder::new(), &[(":path", &"a".repeat(length))]);
    assert_eq!(block(63)[1], 63);
    assert_eq!(block(64)[1], 0x80 | 40); // 320 bits
}

#[test]
fn the_first_request_of_the_rfc_is_written_byte_for_byte() {
    let mut encoder = Encoder::new();
    let request = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ];
    let first = bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
    assert_eq!(written(&mut encoder, &request), first);
    assert_eq!(written(&mut encoder, &request), bytes("8286 84be"));
}

#[test]
fn each_field_of_the_static_table_is_its_index() {
    for (place, entry) in static_table::ENTRIES.iter().enumerate() {
        // Fields of these names are not looked up, or never indexed.
        let rule = Rule::of(Some(entry.name));
        if !matches!(rule.policy, Policy::Once | Policy::Twice) {
            continue;
        }
        let mut block = Vec::new();
        Encoder::new().field(Some(entry.name), b"", entry.value, false, &mut block);
        assert_eq!(block, [0x81 + place as u8], "{}", entry.name.name());
        let index = static_table::find_name(entry.name);
        assert_eq!(static_table::ENTRIES[index - 1].name, entry.name);
        assert!(index == 1 || static_table::ENTRIES[index - 2].name != entry.name);
    }
}

#[test]
fn what_enters_the_table_follows_from_the_name() {
    for name in [
        ":authority",
        "content-type",
        "user-agent",
        "te",
        "grpc-status",
    ] {
        assert_eq!(forms(name, "value"), [0x40, 0x80, 0x80], "{name}");
    }
    for name in [":path", "x-model", "vary"] {
        assert_eq!(forms(name, "/value"), [0x00, 0x40, 0x80], "{name}");
    }
    assert_eq!(forms("x-of-others", "value"), [0x00, 0x40, 0x80]);
    // The name enters with the first value.
    for name in ["grpc-timeout", "x-request-id", "traceparent"] {
        let mut encoder = Encoder::new();
        assert_eq!(written(&mut encoder, &[(name, "1")])[0], 0x40, "{name}");
        assert_eq!(
            written(&mut encoder, &[(name, "2")]),
            [0x0f, 47, 1, b'2'],
            "{name}"
        );
        assert_eq!(
            written(&mut encoder, &[(name, "3")]),
            [0x0f, 47, 1, b'3'],
            "{name}"
        );
        assert_eq!(encoder.fields().len(), 1);
    }
    assert_eq!(forms("content-length", "12"), [0x00; 3]);
}

#[test]
fn a_timeout_enters_the_table_where_it_will_come_again() {
    for coarse in ["1000m", "59900m", "60S", "1M", "2H"] {
        assert_eq!(
            forms("grpc-timeout", coarse),
            [0x00, 0x40, 0x80],
            "{coarse}"
        );
    }
    let mut encoder = Encoder::new();
    for short in ["999m", "9999u", "99999999n", "m", "", "999m", "9999u"] {
        written(&mut encoder, &[("grpc-timeout", short)]);
    }
    assert_eq!(
        encoder.fields(),
        [(b"grpc-timeout".to_vec(), b"999m".to_vec())]
    );
}

#[test]
fn secrets_never_enter_the_table() {
    for name in ["authorization", "proxy-authorization", "x-api-key"] {
        assert_eq!(
            forms(name, "Bearer of a secret that is long enough"),
            [0x10; 3],
            "{name}"
        );
    }
    assert_eq!(forms("cookie", "19 bytes of cookie."), [0x10; 3]);
    assert_eq!(forms("cookie", "20 bytes of a cookie"), [0x00, 0x40, 0x80]);
}

#[test]
fn a_sensitive_field_is_never_indexed_though_the_table_has_it() {
    let mut encoder = Encoder::new();
    let mut sensitive = Headers::new();
    for (name, value) in [
        ("te", "trailers"),
        (":method", "GET"),
        ("x-of-others", "value"),
    ] {
        for _ in 0..3 {
            written(&mut encoder, &[(name, value)]);
        }
        sensitive.push_sensitive(name.as_bytes(), value.as_bytes());
    }
    let before = encoder.fields();
    for field in sensitive.iter() {
        let mut block = Vec::new();
        encoder.field(field.token, field.name, field.value, true, &mut block);
        assert_eq!(block[0] & 0xf0, 0x10, "{field:?}");
    }
    assert_eq!(encoder.fields(), before);
}

#[test]
fn values_that_take_turns_are_all_found() {
    let mut encoder = Encoder::new();
    let paths: Vec<String> = (0..20)
        .map(|n| format!("/package.Service/Method{n}"))
        .collect();
    for _ in 0..2 {
        for path in &paths {
            // In a row, as the memory of what was seen once is short.
            written(&mut encoder, &[(":path", path), (":path", path)]);
        }
    }
    for path in &paths {
        assert_eq!(written(&mut encoder, &[(":path", path)]).len(), 1, "{path}");
    }
    assert_eq!(encoder.fields().len(), paths.len());
}

#[test]
fn a_name_of_others_that_comes_with_new_values_enters_once() {
    let mut encoder = Encoder::new();
    for turn in 0..50 {
        written(&mut encoder, &[("x-of-others", &turn.to_string())]);
    }
    assert_eq!(encoder.fields().len(), 1);
    assert_eq!(
        written(&mut encoder, &[("x-of-others", "?")]),
        [0x0f, 47, 1, b'?']
    );
}

#[test]
fn values_seen_once_leave_the_table_alone() {
    let mut encoder = Encoder::new();
    for turn in 0..1000 {
        written(&mut encoder, &[(":path", &format!("/{turn}"))]);
    }
    assert_eq!(encoder.fields().len(), 0);
    assert_eq!(encoder.memory(), 0);
}

#[test]
fn a_field_of_half_the_table_stays_out() {
    let mut encoder = Encoder::new();
    let value = "v".repeat(2048 - 32 - "te".len());
    assert_eq!(written(&mut encoder, &[("te", &value)])[0], 0x40);
    assert_eq!(
        written(&mut encoder, &[("te", &format!("{value}v"))])[0] & 0xf0,
        0x00
    );
    assert_eq!(encoder.fields().len(), 1);
}

#[test]
fn a_changed_size_is_said_where_the_next_block_begins() {
    let mut encoder = Encoder::new();
    encoder.set_max_size(4096);
    assert_eq!(written(&mut encoder, &[(":method", "GET")]), [0x82]);
    encoder.set_max_size(100);
    assert_eq!(
        written(&mut encoder, &[(":method", "GET")]),
        [0x3f, 69, 0x82]
    );
    assert_eq!(written(&mut encoder, &[(":method", "GET")]), [0x82]);
    encoder.set_max_size(u32::MAX); // no more than 4,096 is used
    assert_eq!(written(&mut encoder, &[]), [0x3f, 0xe1, 0x1f]);
}

#[test]
fn the_smallest_size_in_between_is_said_as_well() {
    let mut encoder = Encoder::new();
    written(&mut encoder, &[("te", "trailers")]);
    for size in [200, 0, 300, 4096] {
        encoder.set_max_size(size);
    }
    assert_eq!(encoder.fields().len(), 0);
    let block = written(&mut encoder, &[("te", "trailers")]);
    assert_eq!(block[..5], [0x20, 0x3f, 0xe1, 0x1f, 0x40]);
}

#[test]
fn the_peers_table_is_in_step_while_old_fields_leave() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    for turn in 0..300 {
        let value = format!("value {}", turn % 90);
        let block = written(
            &mut encoder,
            &[("te", &value), ("x-model", &value), ("x-model", &value)],
        );
        let mut out = Headers::new();
        let _ = decoder.decode(&block, &mut out, &MOST).unwrap();
        assert_eq!(out.get(Token::TE), Some(value.as_bytes()));
        assert_eq!(encoder.fields(), decoder.fields());
    }
    assert!(encoder.memory() < 10 << 10, "{}", encoder.memory());
}
