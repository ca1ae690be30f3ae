//! What holds for any lists, any sizes of tables and any bytes.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::decode::tests::MOST;
use super::*;
use crate::headers::{Headers, Token};

/// Runs with a fixed seed; PROPTEST_CASES and PROPTEST_RNG_SEED search further.
pub(super) fn settings(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let seed = std::env::var("PROPTEST_RNG_SEED").ok();
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |_| default.cases);
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: seed.map_or(RngSeed::Fixed(7541), |_| default.rng_seed),
        ..default
    }
}

/// One thing that happens to a connection.
#[derive(Clone, Debug)]
enum Turn {
    Size(u32),
    Block(Headers),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        ":path",
        ":method",
        ":status",
        "te",
        "cookie",
        "authorization",
        "grpc-timeout",
        "x-request-id",
        "content-type",
        "content-length",
        "accept-encoding",
        "x-model",
        "etag",
    ];
    prop_oneof![
        4 => prop::sample::select(known.map(|name| name.as_bytes().to_vec()).to_vec()),
        2 => prop::sample::select(vec![b"x-a".to_vec(), b"x-b".to_vec(), b"".to_vec()]),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let often = [
        "",
        "a",
        "b",
        "GET",
        "POST",
        "/",
        "200",
        "gzip, deflate",
        "a cookie that is long",
    ];
    prop_oneof![
        6 => prop::sample::select(often.map(|value| value.as_bytes().to_vec()).to_vec()),
        2 => "[a-z0-9-]{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => (any::<u8>(), 0..5000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn headers() -> impl Strategy<Value = Headers> {
    let fields = prop::collection::vec((name(), value(), prop::bool::weighted(0.1)), 0..12);
    fields.prop_map(|fields| {
        let mut list = Headers::new();
        for (name, value, is_sensitive) in fields {
            match is_sensitive {
                true => list.push_sensitive(&name[..], &value),
                false => list.push(&name[..], &value),
            }
        }
        list
    })
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let size = prop_oneof![Just(0), Just(4096), 0..200_u32, 0..10_000_u32];
    let turn = prop_oneof![1 => size.prop_map(Turn::Size), 6 => headers().prop_map(Turn::Block)];
    prop::collection::vec(turn, 0..30)
}

/// Whether names and values are the same; what an encoder marks on its own as never indexed is.
fn same_fields(left: &Headers, right: &Headers) -> bool {
    let fields = |list: &Headers| -> Vec<_> {
        list.iter()
            .map(|it| (it.token, it.name.to_vec(), it.value.to_vec()))
            .collect()
    };
    fields(left) == fields(right)
}

proptest! {
    #![proptest_config(settings(200))]

    #[test]
    fn a_list_is_read_as_it_was_written_with_any_sizes_of_tables(turns in turns()) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        let (mut block, mut out) = (Vec::new(), Headers::new());
        let most = Most { list_bytes: 1 << 20, fields: 100 };
        for turn in turns {
            match turn {
                Turn::Size(size) => encoder.set_max_size(size),
                Turn::Block(list) => {
                    block.clear();
                    out.clear();
                    encoder.encode(&list, &mut block);
                    let decoded = decoder.decode(&block, &mut out, &most).unwrap();
                    prop_assert!(!decoded.is_cut);
                    prop_assert!(same_fields(&out, &list), "{out:?} {list:?}");
                    prop_assert_eq!(out.size(), list.size());
                    // A mark may be added, never lost.
                    prop_assert!(list.iter().zip(out.iter()).all(|(it, out)| !it.is_sensitive || out.is_sensitive));
                    prop_assert_eq!(encoder.fields(), decoder.fields());
                }
            }
        }
    }

    #[test]
    fn a_cut_list_leaves_the_table_in_step(
        turns in turns(), list_bytes in 0..3000_usize, fields in 0..12_usize,
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        let most = Most { list_bytes, fields };
        for turn in turns {
            match turn {
                Turn::Size(size) => encoder.set_max_size(size),
                Turn::Block(list) => {
                    let (mut block, mut out) = (Vec::new(), Headers::new());
                    encoder.encode(&list, &mut block);
                    let decoded = decoder.decode(&block, &mut out, &most).unwrap();
                    let (mut size, mut fit, mut has_kind) = (0, 0, false);
                    for field in list.iter() {
                        size += field.name.len() + field.value.len() + 32;
                        if size > list_bytes || fit == fields {
                            break;
                        }
                        fit += 1;
                        has_kind |= field.token == Some(Token::CONTENT_TYPE);
                    }
                    prop_assert_eq!(decoded.is_cut, fit < list.len());
                    // Of the rest the first content type is kept that is short.
                    let (mut expected, mut place) = (list.clone(), 0);
                    expected.retain(|field| {
                        place += 1;
                        let is_kind = field.token == Some(Token::CONTENT_TYPE);
                        let is_kept = is_kind && !has_kind && field.value.len() <= 128;
                        has_kind |= is_kept && place > fit;
                        place <= fit || is_kept
                    });
                    prop_assert!(same_fields(&out, &expected));
                    prop_assert_eq!(encoder.fields(), decoder.fields());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(settings(1000))]

    #[test]
    fn any_bytes_are_read_or_refused(blocks in prop::collection::vec(any_block(), 1..6)) {
        let mut decoder = Decoder::new(4096);
        let mut out = Headers::new();
        for block in blocks {
            out.clear();
            if decoder.decode(&block, &mut out, &MOST).is_err() {
                break;
            }
            prop_assert!(out.size() <= MOST.list_bytes && out.len() <= MOST.fields);
            let counted: usize = out.iter().map(|it| it.name.len() + it.value.len() + 32).sum();
            prop_assert_eq!(counted, out.size());
        }
    }
}

fn any_block() -> impl Strategy<Value = Vec<u8>> {
    // Fields of every form, with small indices and lengths, so that many are good.
    let field = (
        any::<u8>(),
        0..12_u8,
        prop::collection::vec(any::<u8>(), 0..12),
    )
        .prop_map(|(first, length, rest)| {
            let mut field = vec![first, length];
            field.extend(rest);
            field
        });
    let index = prop_oneof![0x80..0xff_u8, 0xbe..0xc4_u8].prop_map(|byte| vec![byte]);
    let text = prop::collection::vec(b'a'..=b'z', 0..30);
    let literal = (
        prop::sample::select(vec![0x40, 0x00, 0x10, 0x44, 0x7e, 0x0f]),
        text.clone(),
        text,
    )
        .prop_map(|(first, name, value)| {
            let mut field = vec![first];
            for text in [name, value] {
                field.push(text.len() as u8);
                field.extend(text);
            }
            field
        });
    let parts = prop::collection::vec(prop_oneof![field, index, literal], 0..20);
    parts.prop_map(|parts| parts.concat())
}
