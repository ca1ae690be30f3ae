//! GOAWAY, of either side, and streams that are refused.

use super::*;
use crate::frame::setting;

fn goaways(frames: &[Frame]) -> Vec<(u32, u32)> {
    let of = |at: usize, frame: &Frame| {
        u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap())
    };
    frames
        .iter()
        .filter(|it| it.kind == kind::GOAWAY)
        .map(|it| (of(0, it), of(4, it)))
        .collect()
}

/// A server that has said goodbye to a client that heard it.
fn settled() -> Talk {
    let mut talk = Talk::server();
    talk.request(1, false);
    talk.connection.leave();
    let written = talk.write();
    assert_eq!(goaways(&written), [(MAX_STREAM, 0)]);
    // Sent before the client had read of it.
    talk.request(3, false);
    assert!(!talk.connection.is_done());
    let ping = &written[1];
    assert_eq!(talk.feed(&raw(kind::PING, ACK, 0, &ping.payload)), []);
    assert_eq!(goaways(&talk.write()), [(3, 0)]);
    talk
}

#[test]
fn a_server_that_leaves_takes_what_was_under_way_and_ends_when_that_has_ended() {
    let mut talk = settled();
    for id in [1, 3] {
        assert!(!talk.connection.is_done());
        let key = talk.keys[&id];
        talk.connection.send_head(key, &list(ANSWER), true).unwrap();
        assert_eq!(talk.feed(&data(id, b"x", true)).len(), 1);
    }
    assert!(talk.connection.is_done());
}

#[test]
fn a_stream_after_the_last_one_is_not_taken_whatever_follows_on_it() {
    let mut talk = settled();
    for bytes in [
        head(5, REQUEST, false),
        data(5, &[0; 100], false),
        window_update(5, 1),
        head(5, TRAILERS, true),
        reset(5, Code::CANCEL),
        head(7, REQUEST, true),
    ] {
        assert_eq!(talk.feed(&bytes), [], "{bytes:?}");
        assert_eq!(talk.write(), []);
    }
    assert_eq!(talk.connection.held(), 0);
    // The last one that was said does not grow (RFC 9113#6.8).
    assert_eq!(
        fatal(&talk.feed(&data(0, b"", false))),
        Some(Code::PROTOCOL_ERROR)
    );
    assert_eq!(goaways(&talk.write()), [(3, Code::PROTOCOL_ERROR.0)]);
}

#[test]
fn leaving_twice_says_so_once() {
    for mut talk in [Talk::server(), Talk::client()] {
        talk.connection.leave();
        talk.connection.leave();
        assert_eq!(goaways(&talk.write()).len(), 1);
    }
}

#[test]
fn a_client_that_leaves_opens_no_streams_and_ends_when_its_own_have_ended() {
    let mut talk = Talk::client();
    talk.open(true);
    talk.connection.leave();
    assert_eq!(goaways(&talk.write()), [(0, 0)]);
    assert_eq!(
        talk.connection.open(&list(REQUEST), true),
        Err(Full::Forever)
    );
    assert!(!talk.connection.is_done());
    talk.feed(&head(1, ANSWER, true));
    assert!(talk.connection.is_done());
}

#[test]
fn streams_above_the_last_one_of_a_goaway_are_told_to_be_refused() {
    let mut talk = Talk::client();
    for _ in 0..3 {
        talk.open(false);
    }
    let seen = talk.feed(&goaway(MAX_STREAM, Code::NO_ERROR));
    assert_eq!(seen, [Seen::GoAway(MAX_STREAM, Code::NO_ERROR)]);
    assert_eq!(
        talk.connection.open(&list(REQUEST), true),
        Err(Full::Forever)
    );
    let mut seen = talk.feed(&goaway(1, Code::ENHANCE_YOUR_CALM));
    seen.sort_by_key(|it| format!("{it:?}"));
    let refused = |id| Seen::Reset(id, false, Code::REFUSED_STREAM);
    assert_eq!(
        seen,
        [
            Seen::GoAway(1, Code::ENHANCE_YOUR_CALM),
            refused(3),
            refused(5)
        ]
    );
    assert_eq!(talk.connection.streams(), 1);
    // What still comes on them is nothing.
    assert_eq!(talk.feed(&data(3, b"x", true)), []);
    talk.feed(&head(1, ANSWER, true));
    assert_eq!(talk.connection.streams(), 1, "our half is open");
    talk.connection
        .send_data(talk.keys[&1], Bytes::new(), true)
        .unwrap();
    talk.write();
    assert!(talk.connection.is_done());
}

#[test]
fn a_goaway_that_takes_more_than_the_one_before_ends_the_connection() {
    let mut talk = Talk::client();
    talk.feed(&goaway(1, Code::NO_ERROR));
    talk.feed(&goaway(1, Code::NO_ERROR));
    assert_eq!(
        fatal(&talk.feed(&goaway(3, Code::NO_ERROR))),
        Some(Code::PROTOCOL_ERROR)
    );
}

#[test]
fn streams_beyond_those_that_are_taken_are_refused_and_no_fault() {
    let mut talk = Talk::ready(
        Role::Server,
        Config {
            max_streams: 1,
            max_faults: Some(0),
            ..CONFIG
        },
    );
    let key = talk.request(1, false);
    for id in [3, 5] {
        assert_eq!(talk.feed(&head(id, REQUEST, false)), []);
        let written = talk.write();
        assert_eq!(
            (written[0].kind, written[0].number()),
            (kind::RST_STREAM, Code::REFUSED_STREAM.0)
        );
        // What was under way behind it.
        assert_eq!(talk.feed(&data(id, b"x", false)), []);
        assert_eq!(talk.feed(&head(id, TRAILERS, true)), []);
        assert_eq!(talk.write(), []);
    }
    talk.connection.reset(key, Code::CANCEL);
    talk.request(7, true);
}

#[test]
fn a_client_opens_as_many_streams_as_the_server_takes() {
    let mut talk = Talk::client();
    talk.feed(&settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]));
    assert_eq!(
        (
            talk.connection.max_streams(),
            talk.connection.room_for_streams()
        ),
        (1, 1)
    );
    talk.open(true);
    assert_eq!(talk.connection.open(&list(REQUEST), true), Err(Full::Now));
    talk.feed(&settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]));
    assert_eq!(talk.connection.room_for_streams(), 0);
    talk.feed(&head(1, ANSWER, true));
    assert_eq!(talk.connection.open(&list(REQUEST), true), Err(Full::Now));
    talk.feed(&settings(&[(setting::MAX_CONCURRENT_STREAMS, 1)]));
    talk.open(true);
}

#[test]
fn a_ping_of_either_side_is_answered_and_told() {
    let mut talk = Talk::server();
    talk.connection.ping(*b"12345678");
    assert_eq!(talk.write()[0].payload, b"12345678");
    assert_eq!(
        talk.feed(&raw(kind::PING, ACK, 0, b"12345678")),
        [Seen::Pong(*b"12345678")]
    );
    assert_eq!(talk.feed(&raw(kind::PING, 0, 0, b"abcdefgh")), []);
    let pong = Frame {
        kind: kind::PING,
        flags: ACK,
        stream: 0,
        payload: b"abcdefgh".to_vec(),
    };
    assert_eq!(talk.write(), [pong]);
}

#[test]
fn after_the_end_nothing_is_sent_or_opened() {
    let mut talk = Talk::client();
    let key = talk.open(false);
    talk.connection.close(Code::NO_ERROR, "enough");
    talk.connection.close(Code::INTERNAL_ERROR, "again");
    assert_eq!(
        talk.connection.failed(),
        Some(Fatal {
            code: Code::NO_ERROR,
            why: "enough"
        })
    );
    let _ = talk
        .connection
        .send_data(key, Bytes::from_static(b"x"), true);
    let written = talk.write();
    assert_eq!(goaways(&written), [(0, 0)]);
    assert_eq!(written.last().map(|it| it.kind), Some(kind::GOAWAY));
    assert_eq!(
        talk.connection.open(&list(REQUEST), true),
        Err(Full::Forever)
    );
}
