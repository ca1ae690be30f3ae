//! RFC 9113 section 5.1: each state of a stream, and each type of frame in it.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Open,
    /// We have ended.
    HalfClosedLocal,
    /// The peer has ended.
    HalfClosedRemote,
    /// Both have ended.
    Ended,
    ResetByUs,
    ResetByPeer,
}

use State::*;

const STATES: [State; 7] = [
    Idle,
    Open,
    HalfClosedLocal,
    HalfClosedRemote,
    Ended,
    ResetByUs,
    ResetByPeer,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It means nothing.
    No,
    /// It is told, and nothing is written.
    Told,
    /// The stream is reset by us.
    Stream(Code),
    /// The connection is ended.
    Connection(Code),
}

use Outcome::*;

const BAD: Outcome = Connection(Code::PROTOCOL_ERROR);
const LATE: Outcome = Stream(Code::STREAM_CLOSED);

/// The frames that are tried; of each role the outcome in each of `STATES`.
#[rustfmt::skip]
const TABLE: [(&str, [Outcome; 7], [Outcome; 7]); 12] = {
    const WRONG: Outcome = Stream(Code::PROTOCOL_ERROR);
    const OVER: Outcome = Connection(Code::STREAM_CLOSED);
    [
        // Idle, open, half-closed by us, by the peer; closed by the ends, by our reset, by the peer's.
        ("DATA",               [BAD, Told, Told, LATE, LATE, No, LATE], [BAD, Told, Told, LATE, No, No, No]),
        ("DATA that ends",     [BAD, Told, Told, LATE, LATE, No, LATE], [BAD, Told, Told, LATE, No, No, No]),
        ("HEADERS",            [Told, WRONG, WRONG, LATE, OVER, No, OVER], [BAD, WRONG, WRONG, LATE, No, No, No]),
        ("HEADERS that end",   [Told, Told, Told, LATE, OVER, No, OVER], [BAD, Told, Told, LATE, No, No, No]),
        ("RST_STREAM",         [BAD, Told, Told, Told, No, No, No], [BAD, Told, Told, Told, No, No, No]),
        ("WINDOW_UPDATE",      [BAD, No, No, No, No, No, No], [BAD, No, No, No, No, No, No]),
        ("WINDOW_UPDATE by 0", [BAD, WRONG, WRONG, WRONG, No, No, No], [BAD, WRONG, WRONG, WRONG, No, No, No]),
        ("PRIORITY",           [No; 7], [No; 7]),
        ("CONTINUATION",       [BAD; 7], [BAD; 7]),
        ("PUSH_PROMISE",       [BAD; 7], [BAD; 7]),
        ("unknown",            [No; 7], [No; 7]),
        ("SETTINGS",           [BAD; 7], [BAD; 7]),
    ]
};

fn frame_of(name: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    match name {
        "DATA" => data(1, b"x", false),
        "DATA that ends" => data(1, b"x", true),
        "HEADERS" => head(1, fields, false),
        "HEADERS that end" => head(1, fields, true),
        "RST_STREAM" => reset(1, Code::CANCEL),
        "WINDOW_UPDATE" => window_update(1, 1),
        "WINDOW_UPDATE by 0" => window_update(1, 0),
        "PRIORITY" => raw(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 9]),
        "CONTINUATION" => raw(kind::CONTINUATION, END_HEADERS, 1, &block(TRAILERS)),
        "PUSH_PROMISE" => raw(kind::PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
        "SETTINGS" => raw(kind::SETTINGS, 0, 1, &[]),
        _ => raw(0x4d, 0xff, 1, b"what it says"),
    }
}

/// A connection whose stream 1 is in the state.
fn in_state(role: Role, state: State) -> Talk {
    let mut talk = Talk::ready(role, CONFIG);
    if state == Idle {
        return talk;
    }
    let peer_ends = matches!(state, HalfClosedRemote | Ended);
    let we_end = matches!(state, HalfClosedLocal | Ended);
    if role == Role::Server {
        let key = talk.request(1, peer_ends);
        talk.connection
            .send_head(key, &list(ANSWER), we_end)
            .unwrap();
    } else {
        talk.open(we_end);
        talk.feed(&head(1, ANSWER, peer_ends));
    }
    match state {
        ResetByUs => talk.connection.reset(talk.keys[&1], Code::CANCEL),
        ResetByPeer => drop(talk.feed(&reset(1, Code::CANCEL))),
        _ => {}
    }
    let is_open = matches!(state, Open | HalfClosedLocal | HalfClosedRemote);
    assert_eq!(talk.connection.streams(), usize::from(is_open), "{state:?}");
    talk.write();
    talk
}

fn outcome(talk: &mut Talk, bytes: &[u8], is_open: bool) -> Outcome {
    let seen = talk.feed(bytes);
    let written = talk.write();
    if let [
        Frame {
            kind: kind::GOAWAY,
            payload,
            ..
        },
    ] = &written[..]
    {
        let code = Code(u32::from_be_bytes(payload[4..].try_into().unwrap()));
        assert_eq!(fatal(&seen), Some(code));
        // Nothing that comes then means anything.
        assert_eq!(fatal(&talk.feed(&settings(&[]))), Some(code));
        return Connection(code);
    }
    if let [
        frame @ Frame {
            kind: kind::RST_STREAM,
            stream: 1,
            ..
        },
    ] = &written[..]
    {
        let code = Code(frame.number());
        let told = if is_open {
            vec![Seen::Reset(1, true, code)]
        } else {
            vec![]
        };
        assert_eq!(seen, told);
        assert_eq!(talk.connection.streams(), 0);
        return Stream(code);
    }
    assert_eq!(written, []);
    match seen.len() {
        0 => No,
        1 => Told,
        _ => panic!("{seen:?}"),
    }
}

#[test]
fn each_frame_in_each_state_has_its_outcome() {
    for (name, server, client) in TABLE {
        for (role, expected) in [(Role::Server, server), (Role::Client, client)] {
            for (state, expected) in STATES.into_iter().zip(expected) {
                let mut talk = in_state(role, state);
                let fields = if state == Idle { REQUEST } else { TRAILERS };
                let is_open = talk.connection.streams() > 0;
                let found = outcome(&mut talk, &frame_of(name, fields), is_open);
                assert_eq!(found, expected, "{role:?} {state:?}: {name}");
            }
        }
    }
}

#[test]
fn an_end_closes_the_half_that_it_is_of() {
    for (name, state, left) in [
        ("DATA", Open, 1),
        ("DATA that ends", Open, 1),
        ("HEADERS that end", Open, 1),
        ("DATA", HalfClosedLocal, 1),
        ("DATA that ends", HalfClosedLocal, 0),
        ("HEADERS that end", HalfClosedLocal, 0),
        ("RST_STREAM", Open, 0),
        ("RST_STREAM", HalfClosedLocal, 0),
        ("RST_STREAM", HalfClosedRemote, 0),
    ] {
        for role in [Role::Server, Role::Client] {
            let mut talk = in_state(role, state);
            talk.feed(&frame_of(name, TRAILERS));
            assert_eq!(
                talk.connection.streams(),
                left,
                "{role:?} {state:?}: {name}"
            );
        }
    }
}

#[test]
fn what_we_send_moves_a_stream_and_is_refused_after_its_end() {
    for role in [Role::Server, Role::Client] {
        for state in STATES.into_iter().skip(1) {
            let mut talk = in_state(role, state);
            let key = talk.keys[&1];
            let can_send = matches!(state, Open | HalfClosedRemote);
            assert_eq!(
                talk.connection.has_sent_end(key),
                !can_send,
                "{role:?} {state:?}"
            );
            let sent = talk
                .connection
                .send_data(key, Bytes::from_static(b"x"), true);
            assert_eq!(
                sent,
                if can_send { Ok(()) } else { Err(Gone) },
                "{role:?} {state:?}"
            );
            assert_eq!(
                talk.connection.send_data(key, Bytes::new(), true),
                Err(Gone)
            );
            assert_eq!(
                talk.connection.send_trailers(key, list(TRAILERS)),
                Err(Gone)
            );
            assert_eq!(
                talk.connection.send_head(key, &list(ANSWER), true),
                Err(Gone)
            );
            let written = talk.write();
            assert_eq!(written.len(), usize::from(can_send));
            let left = usize::from(matches!(state, Open | HalfClosedLocal));
            assert_eq!(talk.connection.streams(), left, "{role:?} {state:?}");
        }
    }
}

#[test]
fn streams_begin_with_odd_numbers_that_grow() {
    let mut talk = Talk::server();
    assert_eq!(
        fatal(&talk.feed(&head(2, REQUEST, true))),
        Some(Code::PROTOCOL_ERROR)
    );
    let mut talk = Talk::server();
    talk.request(5, true);
    // A stream that was passed over is closed (RFC 9113#5.1.1).
    assert_eq!(
        fatal(&talk.feed(&head(3, REQUEST, true))),
        Some(Code::STREAM_CLOSED)
    );
    let mut talk = Talk::client();
    assert_eq!((talk.open(true).id, talk.open(true).id), (1, 3));
}

#[test]
fn frames_of_the_connection_on_streams_and_the_reverse_end_it() {
    for bytes in [
        data(0, b"x", false),
        head(0, REQUEST, true),
        raw(kind::PRIORITY, 0, 0, &[0; 5]),
        reset(0, Code::CANCEL),
        raw(kind::PING, 0, 1, &[0; 8]),
        raw(kind::GOAWAY, 0, 1, &[0; 8]),
        raw(kind::SETTINGS, ACK, 1, &[]),
        window_update(0, 0),
        window_update(0, MAX_STREAM),
    ] {
        for role in [Role::Server, Role::Client] {
            let mut talk = in_state(role, Open);
            let code = match bytes == window_update(0, MAX_STREAM) {
                true => Code::FLOW_CONTROL_ERROR,
                false => Code::PROTOCOL_ERROR,
            };
            assert_eq!(fatal(&talk.feed(&bytes)), Some(code), "{bytes:?}");
        }
    }
}

#[test]
fn frames_of_a_wrong_size_end_the_connection() {
    for bytes in [
        raw(kind::DATA, PADDED, 1, &[]),
        raw(kind::HEADERS, PADDED | END_HEADERS, 1, &[]),
        raw(kind::HEADERS, PRIORITY_FLAG | END_HEADERS, 1, &[0; 4]),
        raw(kind::RST_STREAM, 0, 1, &[0; 3]),
        raw(kind::RST_STREAM, 0, 1, &[0; 5]),
        raw(kind::SETTINGS, 0, 0, &[0; 5]),
        raw(kind::SETTINGS, ACK, 0, &[0; 6]),
        raw(kind::PING, 0, 0, &[0; 7]),
        raw(kind::GOAWAY, 0, 0, &[0; 7]),
        raw(kind::WINDOW_UPDATE, 0, 1, &[0; 3]),
        raw(kind::WINDOW_UPDATE, 0, 0, &[0; 5]),
        raw(0x4d, 0, 0, &[0; 16_385]),
    ] {
        for role in [Role::Server, Role::Client] {
            let mut talk = in_state(role, Open);
            let seen = talk.feed(&bytes);
            assert_eq!(
                fatal(&seen),
                Some(Code::FRAME_SIZE_ERROR),
                "{bytes:?}: {seen:?}"
            );
        }
    }
}

#[test]
fn padding_beyond_its_frame_ends_the_connection() {
    for bytes in [
        raw(kind::DATA, PADDED, 1, &[3, 0, 0]),
        raw(kind::HEADERS, PADDED | END_HEADERS, 1, &[3, 0, 0]),
    ] {
        let mut talk = in_state(Role::Server, Open);
        assert_eq!(fatal(&talk.feed(&bytes)), Some(Code::PROTOCOL_ERROR));
    }
}

#[test]
fn priorities_that_are_wrong_end_their_stream_and_where_there_is_none_the_connection() {
    for (bytes, code) in [
        (raw(kind::PRIORITY, 0, 1, &[0; 4]), Code::FRAME_SIZE_ERROR),
        (
            raw(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 9]),
            Code::PROTOCOL_ERROR,
        ),
    ] {
        for role in [Role::Server, Role::Client] {
            assert_eq!(
                outcome(&mut in_state(role, Open), &bytes, true),
                Stream(code)
            );
            for state in [Idle, Ended] {
                assert_eq!(
                    outcome(&mut in_state(role, state), &bytes, false),
                    Connection(code)
                );
            }
        }
    }
}
