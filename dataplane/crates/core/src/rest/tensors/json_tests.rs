//! The reader against serde_json, on documents made by chance and on broken ones.

use serde_json::Value;

use super::*;

/// What the reader makes of a document, as serde_json's tree.
fn read(reader: &mut Reader<'_>) -> Result<Value, Error> {
    Ok(match reader.kind()? {
        Kind::Null => reader.null().map(|()| Value::Null)?,
        Kind::Bool => Value::Bool(reader.bool()?),
        Kind::String => Value::String(reader.string()?.into_owned()),
        // Where it is beyond what serde_json reads, both refuse it.
        Kind::Number => serde_json::from_str(reader.number()?).map_err(|it| bad(it.to_string()))?,
        Kind::Array => {
            let mut items = Vec::new();
            reader.array(|reader| {
                items.push(read(reader)?);
                Ok(())
            })?;
            Value::Array(items)
        }
        Kind::Object => {
            let mut fields = serde_json::Map::new();
            reader.object(|reader, key| {
                fields.insert(key.to_owned(), read(reader)?);
                Ok(())
            })?;
            Value::Object(fields)
        }
    })
}

fn whole(document: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader::new(document);
    let value = read(&mut reader)?;
    reader.end()?;
    Ok(value)
}

fn random(depth: usize) -> Value {
    match fastrand::u8(..if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => Value::Bool(fastrand::bool()),
        2 => Value::from(fastrand::i64(..)),
        3 => Value::from(f64::from(fastrand::f32()) * 1e10),
        4 => {
            let length = fastrand::usize(..12);
            Value::String((0..length).map(|_| fastrand::char(..)).collect())
        }
        5 => (0..fastrand::usize(..5))
            .map(|_| random(depth - 1))
            .collect(),
        _ => (0..fastrand::usize(..25))
            .map(|index| (format!("{index}\"é"), random(depth - 1)))
            .collect(),
    }
}

#[test]
fn documents_are_read_as_serde_json_reads_them() {
    for seed in 0..300 {
        fastrand::seed(seed);
        let value = random(4);
        let compact = serde_json::to_vec(&value).unwrap();
        let pretty = serde_json::to_vec_pretty(&value).unwrap();
        for document in [compact, pretty] {
            let theirs: Value = serde_json::from_slice(&document).unwrap();
            assert!(whole(&document).unwrap() == theirs, "seed {seed}");
        }
    }
}

#[test]
fn what_serde_json_refuses_is_refused_and_nothing_panics() {
    for seed in 0..3000 {
        fastrand::seed(seed);
        let mut document = serde_json::to_vec(&random(3)).unwrap();
        for _ in 0..fastrand::usize(1..4) {
            let place = fastrand::usize(..document.len());
            match fastrand::u8(..3) {
                0 => document.truncate(place),
                1 => document[place] = fastrand::u8(..),
                _ => document.insert(place, b"[]{}\",:\\0-eu"[fastrand::usize(..12)]),
            }
            if document.is_empty() {
                break;
            }
        }
        let ours = whole(&document);
        let theirs = serde_json::from_slice::<Value>(&document);
        let text = String::from_utf8_lossy(&document);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => assert!(ours == theirs, "{text}"),
            (Ok(_), Err(error)) => panic!("read, though {error}: {text}"),
            // Stricter where a key appears twice.
            (Err(error), Ok(_)) => assert!(error.message.contains("twice"), "{error}: {text}"),
            (Err(_), Err(_)) => {}
        }
    }
}

#[test]
fn errors_name_the_place_what_is_there_and_what_should_be() {
    let cases: [(&[u8], &str); 12] = [
        (
            b"",
            "at byte 0 the body ends, expected a value, not the end",
        ),
        (
            b"{\"a\" 1}",
            "at byte 5 there is `1}`, expected \":\" behind a key",
        ),
        (b"[1 2]", "at byte 3 there is `2]`, expected \",\" or \"]\""),
        (b"[1,]", "at byte 3 there is `]`, expected a value"),
        (b"{} x", "at byte 3 there is `x`, expected the end"),
        (
            b"{\"a\":1,\"a\":2}",
            "the key `\"a\":2}` appears twice, at byte 7",
        ),
        (b"01", "at byte 0 there is `01`, expected a number"),
        (b"\"\\x\"", "at byte 2 there is `x\"`, expected an escape"),
        (b"\"\\ud800\"", "expected a surrogate pair, whole"),
        (b"\"\xff\"", "not UTF-8 at byte 1"),
        (b"\"a\nb\"", "expected no control character inside a string"),
        (b"tru", "at byte 0 there is `tru`, expected true or false"),
    ];
    for (document, expected) in cases {
        let error = whole(document).unwrap_err();
        assert!(error.message.contains(expected), "{}", error.message);
    }
}

#[test]
fn depth_and_length_of_numbers_are_limited() {
    let nested = |depth| ["[".repeat(depth), "]".repeat(depth)].concat();
    assert!(whole(nested(MAX_DEPTH).as_bytes()).is_ok());
    let error = whole(nested(100_000).as_bytes()).unwrap_err();
    assert!(error.message.contains("nested deeper than 64"));
    let error = whole("1".repeat(1_000_000).as_bytes()).unwrap_err();
    assert!(error.message.contains("1000000 characters, limit 512"));
}

#[test]
fn the_words_for_numbers_that_are_none_are_numbers() {
    for word in ["NaN", "Infinity", "-Infinity"] {
        assert_eq!(Reader::new(word.as_bytes()).number().unwrap(), word);
    }
    assert!(Reader::new(b"-NaN").number().is_err());
}
