//! The scanner against a plain recursive decoder of whole messages, on generated, broken and arbitrary bytes.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

use super::*;

/// Fields of a message as a test writes them, in the order of the bytes.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    Varint(u32, u64),
    Fixed64(u32, u64),
    Fixed32(u32, u32),
    Bytes(u32, Vec<u8>),
    Message(u32, Vec<Field>),
    Group(u32, Vec<Field>),
}

pub(crate) fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn tag(number: u32, wire: u8, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | u64::from(wire), out);
}

pub(crate) fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        match field {
            Field::Varint(number, value) => {
                tag(*number, VARINT, &mut out);
                varint(*value, &mut out);
            }
            Field::Fixed64(number, value) => {
                tag(*number, FIXED64, &mut out);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Field::Fixed32(number, value) => {
                tag(*number, FIXED32, &mut out);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Field::Bytes(number, bytes) => {
                tag(*number, LENGTH, &mut out);
                varint(bytes.len() as u64, &mut out);
                out.extend_from_slice(bytes);
            }
            Field::Message(number, fields) => {
                let bytes = encode(fields);
                out.extend(encode(&[Field::Bytes(*number, bytes)]));
            }
            Field::Group(number, fields) => {
                tag(*number, START_GROUP, &mut out);
                out.extend(encode(fields));
                tag(*number, END_GROUP, &mut out);
            }
        }
    }
    out
}

/// Fields with small numbers, so that many hit the shape, and some unknown ones.
pub(crate) fn fields() -> impl Strategy<Value = Vec<Field>> {
    let number =
        prop_oneof![6 => 1_u32..6, 1 => Just(15_u32), 1 => Just(16), 1 => Just(0x1fff_ffff)];
    let leaf = prop_oneof![
        (number.clone(), any::<u64>()).prop_map(|(number, value)| Field::Varint(number, value)),
        (number.clone(), 0_u64..3).prop_map(|(number, value)| Field::Varint(number, value)),
        (number.clone(), any::<u64>()).prop_map(|(number, value)| Field::Fixed64(number, value)),
        (number.clone(), any::<u32>()).prop_map(|(number, value)| Field::Fixed32(number, value)),
        (number.clone(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(number, bytes)| Field::Bytes(number, bytes)),
        (number.clone(), 1000_usize..1100)
            .prop_map(|(number, length)| Field::Bytes(number, vec![b'x'; length])),
    ];
    let field = leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            3 => (number.clone(), prop::collection::vec(inner.clone(), 0..6))
                .prop_map(|(number, fields)| Field::Message(number, fields)),
            1 => (number.clone(), prop::collection::vec(inner, 0..4))
                .prop_map(|(number, fields)| Field::Group(number, fields)),
        ]
    });
    prop::collection::vec(field, 0..8)
}

/// Cut bytes at arbitrary places, also into empty chunks.
pub(crate) fn chunks<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect()
}

pub(crate) fn seeded(seed: u64) -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        cases: 512,
        ..ProptestConfig::default()
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Enter(FieldId, Span),
    Exit(FieldId),
    Number(FieldId, u64, Span),
    Bytes(FieldId, Vec<u8>, Span),
    TooLong(FieldId, usize, Span),
}

#[derive(Default)]
struct Recorder(Vec<Event>);

impl Sink for Recorder {
    type Error = Malformed;

    fn enter(&mut self, message: FieldId, span: Span) -> Result<(), Malformed> {
        self.0.push(Event::Enter(message, span));
        Ok(())
    }

    fn exit(&mut self, message: FieldId) -> Result<(), Malformed> {
        self.0.push(Event::Exit(message));
        Ok(())
    }

    fn value(&mut self, field: FieldId, value: Value<'_>, span: Span) -> Result<(), Malformed> {
        self.0.push(match value {
            Value::Varint(number) | Value::Fixed64(number) => Event::Number(field, number, span),
            Value::Bytes(bytes) => Event::Bytes(field, bytes.to_vec(), span),
            Value::TooLong(length) => Event::TooLong(field, length, span),
        });
        Ok(())
    }
}

/// 1: message {1: bytes, 2: varint, 3: fixed64, 4: message {1: bytes}}, 2: bytes, 3: varint.
fn shape() -> Shape {
    let mut shape = Shape::default();
    let inner = shape.field(ROOT, 1, FieldKind::Message).unwrap();
    shape.field(inner, 1, FieldKind::Bytes).unwrap();
    shape.field(inner, 2, FieldKind::Varint).unwrap();
    shape.field(inner, 3, FieldKind::Fixed64).unwrap();
    let innermost = shape.field(inner, 4, FieldKind::Message).unwrap();
    shape.field(innermost, 1, FieldKind::Bytes).unwrap();
    shape.field(ROOT, 2, FieldKind::Bytes).unwrap();
    shape.field(ROOT, 3, FieldKind::Varint).unwrap();
    shape
}

fn scan(chunks: &[&[u8]]) -> Result<Vec<Event>, Malformed> {
    let (shape, mut scanner, mut recorder) = (shape(), Scanner::default(), Recorder::default());
    for chunk in chunks {
        scanner.feed(&shape, chunk, &mut recorder)?;
    }
    scanner.finish()?;
    assert_eq!(
        scanner.offset,
        chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>()
    );
    Ok(recorder.0)
}

// --- the reference: recursive, over a whole message; None for what is malformed ---

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u128;
    for index in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u128::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return u64::try_from(number).ok();
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= bytes.len())?;
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    Some(taken)
}

/// Decode to the end of `bytes`, which lie at `base`, or to the end of the group that is open.
fn reference(
    shape: &Shape,
    message: Option<FieldId>,
    group: Option<u32>,
    base: u64,
    bytes: &mut &[u8],
    out: &mut Vec<Event>,
) -> Option<()> {
    let length = bytes.len();
    loop {
        if bytes.is_empty() {
            return group.is_none().then_some(());
        }
        let at = |rest: &[u8]| base + (length - rest.len()) as u64;
        let start = at(bytes);
        let tag = u32::try_from(take_varint(bytes)?).ok()?;
        let head = at(bytes);
        let span = |value, end| Span {
            tag: start,
            head,
            value,
            end,
        };
        let (number, wire) = (tag >> 3, (tag & 7) as u8);
        if number == 0 {
            return None;
        }
        let edge = message.and_then(|message| shape.find(message, number, wire));
        match wire {
            VARINT => {
                let value = take_varint(bytes)?;
                let span = span(head, at(bytes));
                out.extend(edge.map(|edge| Event::Number(edge.id, value, span)));
            }
            FIXED64 => {
                let value = u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?);
                let span = span(head, at(bytes));
                out.extend(edge.map(|edge| Event::Number(edge.id, value, span)));
            }
            FIXED32 => {
                take(bytes, 4)?;
            }
            LENGTH => {
                let length = take_varint(bytes).filter(|length| *length <= MAX_LENGTH)?;
                let content = at(bytes);
                let mut value = take(bytes, length)?;
                let span = span(content, at(bytes));
                match edge {
                    None => {}
                    Some(edge) if edge.kind == FieldKind::Message => {
                        out.push(Event::Enter(edge.id, span));
                        reference(shape, Some(edge.id), None, content, &mut value, out)?;
                        out.push(Event::Exit(edge.id));
                    }
                    Some(edge) if value.len() > MAX_VALUE_BYTES => {
                        out.push(Event::TooLong(edge.id, value.len(), span))
                    }
                    Some(edge) => out.push(Event::Bytes(edge.id, value.to_vec(), span)),
                }
            }
            START_GROUP => reference(shape, None, Some(number), head, bytes, out)?,
            END_GROUP => return (group == Some(number)).then_some(()),
            _ => return None,
        }
    }
}

fn expected(mut bytes: &[u8]) -> Option<Vec<Event>> {
    let mut events = Vec::new();
    reference(&shape(), Some(ROOT), None, 0, &mut bytes, &mut events)?;
    Some(events)
}

proptest! {
    #![proptest_config(seeded(11))]

    #[test]
    fn generated_messages_are_read_as_by_the_reference_under_any_chunking(
        fields in fields(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let bytes = encode(&fields);
        // Bytes under a submessage's number may still be malformed.
        prop_assert_eq!(scan(&chunks(&bytes, &cuts)).ok(), expected(&bytes));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(scan(&single).ok(), expected(&bytes));
    }

    #[test]
    fn broken_messages_are_refused_exactly_when_the_reference_refuses_them(
        fields in fields(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        place in any::<Index>(),
        byte in any::<u8>(),
        truncate in any::<bool>(),
    ) {
        let mut bytes = encode(&fields);
        if !bytes.is_empty() {
            let place = place.index(bytes.len());
            if truncate { bytes.truncate(place) } else { bytes[place] = byte }
        }
        prop_assert_eq!(scan(&chunks(&bytes, &cuts)).ok(), expected(&bytes));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_are_judged_as_by_the_reference(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0_u8..0x30], 0..60),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        prop_assert_eq!(scan(&chunks(&bytes, &cuts)).ok(), expected(&bytes));
    }
}

fn reason(bytes: &[u8]) -> &'static str {
    scan(&[bytes]).unwrap_err().reason
}

#[test]
fn each_kind_of_garbage_is_named() {
    assert_eq!(reason(&[0x00]), "field number 0");
    assert_eq!(reason(&[0x0e]), "wire type 6 or 7");
    assert_eq!(
        reason(&[0x80, 0x80, 0x80, 0x80, 0x10]),
        "a tag has more than 32 bits"
    );
    assert_eq!(
        reason(&[0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]),
        "a varint has more than 64 bits"
    );
    assert_eq!(
        reason(&[0x2a, 0x80, 0x80, 0x80, 0x80, 0x08]),
        "a field is longer than 2 GiB"
    );
    assert_eq!(
        reason(&[0x0a, 2, 0x12, 1, 0]),
        "a field goes beyond the end of its message"
    );
    assert_eq!(
        reason(&[0x0a, 1, 0x80, 0x01]),
        "a field goes beyond the end of its message"
    );
    assert_eq!(
        reason(&[0x0a, 1, 0x0b, 0x0c]),
        "a field goes beyond the end of its message"
    );
    assert_eq!(reason(&[0x0c]), "a group ends that was not begun");
    assert_eq!(reason(&[0x0b, 0x14]), "a group ends that was not begun");
    for cut in [
        &[0x0b][..],
        &[0x2a, 5, 1],
        &[0x80],
        &[0x18],
        &[0x0a, 3, 0x12],
        &[0x09, 1, 2],
    ] {
        assert_eq!(reason(cut), "the message is cut off", "{cut:?}");
    }
}

#[test]
fn groups_nest_a_hundred_deep_and_no_deeper() {
    let nested = |depth| [vec![0x2b; depth], vec![0x2c; depth]].concat();
    assert_eq!(scan(&[&nested(100)]).unwrap(), []);
    assert_eq!(reason(&nested(101)), "groups are nested more than 100 deep");
}

#[test]
fn a_field_named_with_two_kinds_or_under_an_unknown_parent_is_refused() {
    let mut shape = Shape::default();
    assert!(shape.is_empty());
    let field = shape.field(ROOT, 1, FieldKind::Bytes).unwrap();
    assert_eq!(shape.field(ROOT, 1, FieldKind::Bytes), Ok(field));
    assert!(shape.field(ROOT, 1, FieldKind::Varint).is_err());
    assert!(shape.field(7, 1, FieldKind::Varint).is_err());
    assert_eq!(shape.field(ROOT, 2, FieldKind::Bytes), Ok(field + 1));
}
