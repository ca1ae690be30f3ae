//! Messages of callers that are told apart: each place that can name the model has to name the same, to the end.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::proxy::method::find;

const OIP: &str = "/inference.GRPCInferenceService/ModelInfer";
const MOST: usize = 1 << 18;

fn text(number: u8, value: &str) -> Vec<u8> {
    [&[number << 3 | 2, value.len() as u8], value.as_bytes()].concat()
}

/// An unknown field of so many bytes.
fn filler(bytes: u32) -> Vec<u8> {
    let mut field = vec![0x7a];
    let mut rest = bytes;
    while rest > 0x7f {
        field.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    field.push(rest as u8);
    field.extend((0..bytes).map(|it| it as u8));
    field
}

fn read(mut scanner: RouteKeyScanner, message: &[u8], chunk: usize) -> Result<RouteKey, String> {
    for chunk in message.chunks(chunk) {
        scanner
            .feed(chunk)
            .map_err(|error| error.message.into_owned())?;
    }
    scanner
        .finish()
        .map_err(|error| error.message.into_owned())?;
    Ok(scanner.key().clone())
}

fn plain() -> RouteKeyScanner {
    let mut scanner = RouteKeyScanner::new(find(OIP).unwrap());
    scanner.be_strict();
    scanner
}

fn compressed() -> RouteKeyScanner {
    let method = find(OIP).unwrap();
    let scanner = RouteKeyScanner::new_compressed(method, Some(b"gzip"), Some(MOST));
    let mut scanner = scanner.unwrap();
    scanner.be_strict();
    scanner
}

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(message).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_compressed_message_says_what_the_plain_one_says_however_it_is_cut() {
    let far = filler(70_000);
    let messages = [
        text(1, "m"),
        [text(1, "m"), far.clone()].concat(),
        [text(1, "m"), far.clone(), text(1, "m")].concat(),
        [far.clone(), text(1, "m"), text(2, "3")].concat(),
        [text(1, "m"), far.clone(), text(1, "secret")].concat(),
        [text(1, "m"), far.clone(), text(1, "")].concat(),
        [text(1, "m"), far, vec![0x0a]].concat(),
        vec![],
    ];
    for message in messages {
        let expected = read(plain(), &message, message.len().max(1));
        assert_eq!(read(plain(), &message, 13), expected);
        let packed = gzip(&message);
        for chunk in [1, 7, 4096, packed.len()] {
            assert_eq!(read(compressed(), &packed, chunk), expected, "{chunk}");
        }
    }
}

#[test]
fn a_message_that_names_another_model_than_its_metadata_is_refused_wherever_it_does() {
    let given = RouteKey {
        model: Some("m".to_owned()),
        ..RouteKey::default()
    };
    let read_given = |message: &[u8]| {
        let mut scanner = plain();
        scanner.set_given(&given);
        read(scanner, message, 1)
    };
    assert!(read_given(&text(1, "m")).is_ok());
    assert!(read_given(&filler(10)).is_ok());
    for message in [text(1, "n"), [filler(300), text(1, "n")].concat()] {
        let error = read_given(&message).unwrap_err();
        assert!(
            error.starts_with("the call names model \"m\" and model \"n\""),
            "{error}"
        );
    }
}

#[test]
fn a_later_message_asks_for_what_the_first_one_did_or_for_nothing() {
    let first = |version: Option<&str>| RouteKey {
        model: Some("m".to_owned()),
        version: version.map(str::to_owned),
        label: None,
    };
    let later = |first: &RouteKey, message: &[u8]| {
        let mut scanner = plain();
        scanner.set_first(first);
        read(scanner, message, 1).is_ok()
    };
    let both = [text(1, "m"), text(2, "3")].concat();
    assert!(later(&first(Some("3")), &both) && later(&first(Some("3")), &text(1, "m")));
    assert!(later(&first(None), &text(1, "m")) && later(&first(None), &[]));
    assert!(!later(&first(None), &both) && !later(&first(Some("2")), &both));
    assert!(!later(
        &first(Some("3")),
        &[text(1, "m"), text(2, "")].concat()
    ));
    assert!(!later(&first(None), &text(1, "n")));
}

#[test]
fn what_a_bomb_inflates_to_comes_out_in_small_pieces_and_not_beyond_the_limit() {
    let message = [text(1, "m"), filler(MOST as u32 * 4)].concat();
    let packed = gzip(&[message, vec![0; 4 << 20]].concat());
    let mut inflater = Inflater::new(Some(b"gzip"), Some(MOST)).unwrap();
    let (mut rest, mut out) = (&packed[..], 0);
    let error = loop {
        match inflater.step(&mut rest) {
            Ok(piece) => {
                assert!(piece.len() <= 64 << 10, "{}", piece.len());
                out += piece.len();
            }
            Err(error) => break error,
        }
    };
    assert!(out <= MOST, "{out}");
    assert!(
        error.message.contains("inflates to more than 262144 bytes"),
        "{error}"
    );
}
