//! What a connection tells and writes does not depend on the pieces that its bytes come in.

use proptest::prelude::*;

use super::*;

/// What a peer may send, legal or not: between frames of any kind, streams are opened as they should be.
fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let step = prop_oneof![
        1 => any::<bool>().prop_map(Err),
        3 => frames().prop_map(Ok),
    ];
    prop::collection::vec(step, 0..25).prop_map(|steps| {
        let mut next = 1;
        let frame = |step| match step {
            Ok(bytes) => bytes,
            Err(ends) => {
                next += 2;
                head(next - 2, REQUEST, ends)
            }
        };
        steps.into_iter().flat_map(frame).collect()
    })
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let id = || prop_oneof![60 => prop::sample::select(vec![1u32, 3, 5]), 1 => 0u32..9, 1 => any::<u32>().prop_map(|it| it >> 1)];
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    let fields = prop_oneof![
        1 => Just(REQUEST),
        4 => Just(ANSWER),
        8 => Just(TRAILERS),
        1 => Just(&[(":status", "100")][..]),
        1 => Just(&[("Upper", "x")][..]),
    ];
    let length = || prop_oneof![Just(0usize), 1usize..40, 5000usize..16_384];
    prop_oneof![
        3 => (id(), fields.clone(), any::<bool>()).prop_map(|(id, fields, ends)| head(id, fields, ends)),
        1 => (id(), fields, 0usize..30, any::<bool>()).prop_map(|(id, fields, at, ends)| {
            let block = block(fields);
            let (first, rest) = block.split_at(at.min(block.len()));
            let end = if ends { END_STREAM } else { 0 };
            let (half, rest) = rest.split_at(rest.len() / 2);
            [
                raw(kind::HEADERS, end, id, first),
                raw(kind::CONTINUATION, 0, id, half),
                raw(kind::CONTINUATION, END_HEADERS, id, rest),
            ].concat()
        }),
        6 => (id(), length(), any::<bool>()).prop_map(|(id, length, ends)| data(id, &vec![7; length], ends)),
        4 => (id(), 0usize..300, any::<u8>(), any::<bool>())
            .prop_map(|(id, length, padding, ends)| padded(id, &vec![8; length], padding, ends)),
        2 => (id(), 0u32..14).prop_map(|(id, code)| reset(id, Code(code))),
        2 => (id(), 0u32..100_000).prop_map(|(id, bytes)| window_update(id, bytes)),
        1 => (0u16..8, 0u32..70_000).prop_map(|entry| settings(&[entry])),
        1 => Just(raw(kind::SETTINGS, ACK, 0, &[])),
        1 => (0u8..2, any::<[u8; 8]>()).prop_map(|(ack, payload)| raw(kind::PING, ack, 0, &payload)),
        1 => (0u32..9).prop_map(|last| goaway(last, Code::NO_ERROR)),
        1 => (id(), bytes(7)).prop_map(|(id, payload)| raw(kind::PRIORITY, 0, id, &payload)),
        1 => (10u8..20, any::<u8>(), id(), bytes(100)).prop_map(|(kind, flags, id, payload)| raw(kind, flags, id, &payload)),
    ]
}

/// Feed the pieces, as a user does who answers each request and releases what came in the end; what was told, what was
/// written in order, and how far windows were opened, by stream.
fn converse(
    role: Role,
    config: Config,
    pieces: &[&[u8]],
) -> (Vec<Seen>, Vec<Frame>, BTreeMap<u32, u32>) {
    let mut talk = Talk::new(role, config);
    if role == Role::Client {
        for index in 0..3 {
            talk.open(index == 1);
        }
    }
    let mut seen = Vec::new();
    for piece in pieces {
        seen.extend(talk.feed_with(piece, |talk, seen| {
            if let Seen::Head(id, ..) = seen
                && role == Role::Server
            {
                let key = talk.keys[id];
                let ends = *id == 3;
                let _ = talk.connection.send_head(key, &list(ANSWER), ends);
                let _ = talk.connection.send_data(key, vec![1; 3000].into(), false);
                let _ = talk.connection.send_trailers(key, list(TRAILERS));
            }
        }));
        if fatal(&seen).is_some() {
            break;
        }
    }
    for id in talk.held.keys().copied().collect::<Vec<_>>() {
        talk.release(id);
    }
    let mut written = talk.write();
    let mut opened = BTreeMap::new();
    written.retain(|frame| {
        let is_update = frame.kind == kind::WINDOW_UPDATE;
        if is_update {
            *opened.entry(frame.stream).or_default() += frame.number();
        }
        !is_update
    });
    (joined(&seen), written, opened)
}

fn pieces<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

proptest! {
    #![proptest_config(cases(250))]

    #[test]
    fn a_conversation_means_the_same_in_whatever_pieces_it_comes(
        conversation in conversation(),
        junk in prop_oneof![Just(vec![]), prop::collection::vec(any::<u8>(), 0..30)],
        lengths in prop::collection::vec(prop_oneof![1usize..20, 1usize..20_000], 1..10),
        is_server: bool,
        opens_on_receipt: bool,
        credit in prop::option::of((0u32..20, 0u32..3)),
        max_faults in prop::option::of(0u32..5),
    ) {
        let role = if is_server { Role::Server } else { Role::Client };
        let config = Config { opens_on_receipt, credit, max_faults, stream_window: 40_000, ..CONFIG };
        let mut bytes = if is_server { PREFACE.to_vec() } else { Vec::new() };
        bytes.extend(settings(&[]));
        bytes.extend([conversation, junk].concat());
        let whole = converse(role, config, &[&bytes]);
        prop_assert_eq!(&whole, &converse(role, config, &pieces(&bytes, &lengths)));
        if bytes.len() < 20_000 {
            prop_assert_eq!(&whole, &converse(role, config, &pieces(&bytes, &[1])));
        }
    }

    #[test]
    fn bytes_of_any_kind_mean_the_same_in_whatever_pieces_they_come(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        length in 1usize..20,
        is_server: bool,
    ) {
        let role = if is_server { Role::Server } else { Role::Client };
        let begin = if is_server { PREFACE.to_vec() } else { Vec::new() };
        let bytes = [begin, settings(&[]), bytes].concat();
        let whole = converse(role, CONFIG, &[&bytes]);
        prop_assert_eq!(whole, converse(role, CONFIG, &pieces(&bytes, &[length])));
    }
}

#[test]
fn what_is_not_the_preface_ends_the_connection_at_its_first_wrong_byte() {
    let mut talk = Talk::new(Role::Server, CONFIG);
    assert_eq!(talk.feed(&PREFACE[..10]), []);
    assert_eq!(fatal(&talk.feed(b"?")), Some(Code::PROTOCOL_ERROR));
}

#[test]
fn the_first_frame_has_to_be_settings() {
    for bytes in [
        raw(kind::PING, 0, 0, &[0; 8]),
        raw(kind::SETTINGS, ACK, 0, &[]),
        raw(0x4d, 0, 0, &[]),
    ] {
        let mut talk = Talk::new(Role::Client, CONFIG);
        assert_eq!(fatal(&talk.feed(&bytes)), Some(Code::PROTOCOL_ERROR));
    }
}

#[test]
fn a_frame_or_a_block_that_has_begun_is_told() {
    let mut talk = Talk::server();
    let whole = [
        raw(kind::HEADERS, 0, 1, &block(REQUEST)),
        raw(kind::CONTINUATION, END_HEADERS, 1, &[]),
        padded(1, b"abc", 2, false),
    ]
    .concat();
    for (at, byte) in whole.iter().enumerate() {
        let is_between = at == 0 || at == whole.len() - 15;
        assert_eq!(talk.connection.is_within(), !is_between, "before byte {at}");
        talk.feed(&[*byte]);
    }
    assert!(!talk.connection.is_within());
}
