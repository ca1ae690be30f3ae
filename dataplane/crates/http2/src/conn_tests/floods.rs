//! Floods: each is told by its name, and honest peers are not taken for one.

use super::*;
use crate::limits::REMEMBERED;

fn with_credit(first: u32, each: u32) -> Talk {
    // Its settings cost one.
    Talk::ready(
        Role::Server,
        Config {
            credit: Some((first + 1, each)),
            ..CONFIG
        },
    )
}

fn reason(seen: &[Seen]) -> Option<&'static str> {
    match seen.last() {
        Some(Seen::Fatal(Code::ENHANCE_YOUR_CALM, why)) => Some(why),
        _ => None,
    }
}

#[test]
fn frames_that_carry_nothing_end_the_connection_by_the_name_of_their_flood() {
    let no_end = raw(kind::HEADERS, 0, 3, &block(REQUEST));
    for (name, before, bytes) in [
        ("empty_data_flood", vec![], data(1, b"", false)),
        ("empty_data_flood", vec![], padded(1, b"", 9, false)),
        (
            "continuation_flood",
            no_end,
            raw(kind::CONTINUATION, 0, 3, &[]),
        ),
        ("priority_flood", vec![], raw(kind::PRIORITY, 0, 1, &[0; 5])),
        ("rst_stream_flood", vec![], reset(1, Code::CANCEL)),
        ("settings_flood", vec![], settings(&[])),
        (
            "settings_ack_flood",
            vec![],
            raw(kind::SETTINGS, ACK, 0, &[]),
        ),
        ("ping_flood", vec![], raw(kind::PING, 0, 0, &[0; 8])),
        ("ping_ack_flood", vec![], raw(kind::PING, ACK, 0, &[0; 8])),
        ("goaway_flood", vec![], goaway(0, Code::NO_ERROR)),
        ("window_update_flood", vec![], window_update(0, 1)),
        ("unknown_frame_flood", vec![], raw(0x4d, 0, 0, &[])),
    ] {
        let mut talk = with_credit(5, 0);
        talk.request(1, false);
        assert_eq!(talk.feed(&before), []);
        for _ in 0..5 {
            assert_eq!(fatal(&talk.feed(&bytes)), None, "{name}");
        }
        assert_eq!(reason(&talk.feed(&bytes)), Some(name));
    }
}

#[test]
fn traffic_of_either_direction_earns_credit() {
    let mut talk = with_credit(1, 1);
    let ping = raw(kind::PING, 0, 0, &[0; 8]);
    let paid = |talk: &mut Talk| {
        (0..)
            .take_while(|_| fatal(&talk.feed(&ping)).is_none())
            .count()
    };
    let key = talk.request(1, false);
    talk.feed(&data(1, b"x", false));
    talk.feed(&padded(1, b"x", 3, false));
    talk.connection
        .send_head(key, &list(ANSWER), false)
        .unwrap();
    talk.connection
        .send_data(key, vec![0; 2 * 16_384].into(), true)
        .unwrap();
    talk.write();
    // One at first, a request, two frames of a body that came and two of one that went.
    assert_eq!(paid(&mut talk), 6);
}

#[test]
fn resets_that_the_peer_provokes_end_the_connection_when_they_are_too_many() {
    let provoke: [fn(&mut Talk, u32); 4] = [
        |talk, id| drop(talk.feed(&head(id, TRAILERS, true))),
        |talk, id| {
            talk.request(id, false);
            talk.feed(&window_update(id, 0));
        },
        |talk, id| {
            talk.request(id, true);
            talk.feed(&data(id, b"x", true));
        },
        |talk, id| {
            talk.request(id, false);
            talk.feed(&raw(kind::PRIORITY, 0, id, &[0; 4]));
        },
    ];
    for provoke in provoke {
        let mut talk = Talk::ready(
            Role::Server,
            Config {
                max_faults: Some(3),
                ..CONFIG
            },
        );
        for id in [1, 3, 5] {
            provoke(&mut talk, id);
            assert_eq!(talk.connection.failed(), None);
            assert_eq!(talk.connection.streams(), 0);
        }
        provoke(&mut talk, 7);
        let why = talk.connection.failed().map(|it| (it.code, it.why));
        assert_eq!(why, Some((Code::ENHANCE_YOUR_CALM, "made_you_reset")));
    }
}

/// Faults that a connection survives, at most 200, where so many right requests come before each.
fn survived(right: u32) -> u32 {
    let mut talk = Talk::ready(
        Role::Server,
        Config {
            max_faults: Some(3),
            ..CONFIG
        },
    );
    let mut id = 1;
    for fault in 0..200 {
        for _ in 0..right {
            let key = talk.request(id, true);
            talk.connection.reset(key, Code::NO_ERROR);
            id += 2;
        }
        // Malformed: it is no request.
        talk.feed(&head(id, TRAILERS, true));
        id += 2;
        if talk.connection.failed().is_some() {
            return fault;
        }
    }
    200
}

#[test]
fn sixteen_requests_forgive_a_fault() {
    assert_eq!(survived(0), 3);
    assert_eq!(survived(8), 6);
    assert!((40..100).contains(&survived(15)));
    assert_eq!(survived(16), 200);
}

#[test]
fn our_own_resets_and_the_peers_are_no_faults() {
    let mut talk = Talk::ready(
        Role::Server,
        Config {
            max_faults: Some(0),
            ..CONFIG
        },
    );
    for index in 0..2000 {
        let key = talk.request(2 * index + 1, false);
        match index % 2 {
            0 => talk.connection.reset(key, Code::CANCEL),
            _ => drop(talk.feed(&reset(key.id, Code::CANCEL))),
        }
        talk.feed(&data(key.id, b"late", false));
    }
    assert_eq!(talk.connection.failed(), None);
}

#[test]
fn what_was_under_way_to_a_stream_that_we_reset_is_nothing_and_later_no_fault() {
    let mut talk = Talk::server();
    let first = talk.request(1, false);
    talk.connection.reset(first, Code::CANCEL);
    talk.write();
    assert_eq!(talk.feed(&data(1, &[0; 100], false)), []);
    assert_eq!(talk.write(), []);
    for index in 1..=REMEMBERED as u32 {
        let key = talk.request(2 * index + 1, false);
        talk.connection.reset(key, Code::CANCEL);
    }
    talk.write();
    // It is forgotten, and told again to be closed: once.
    assert_eq!(talk.feed(&data(1, &[0; 100], false)), []);
    let written = talk.write();
    assert_eq!(
        (written[0].stream, written[0].number()),
        (1, Code::STREAM_CLOSED.0)
    );
    assert_eq!(talk.feed(&data(1, &[0; 100], false)), []);
    assert_eq!(talk.write(), []);
    // Trailers of one that is forgotten mean nothing; a stream that has ended since has none (RFC 9113#5.1).
    assert_eq!(talk.feed(&head(3, TRAILERS, true)), []);
    assert_eq!(talk.write(), []);
    assert_eq!(
        (talk.connection.failed(), talk.connection.held()),
        (None, 0)
    );
    let last = talk.request(1001, true);
    talk.connection
        .send_head(last, &list(ANSWER), true)
        .unwrap();
    assert_eq!(
        fatal(&talk.feed(&head(1001, TRAILERS, true))),
        Some(Code::STREAM_CLOSED)
    );
}
