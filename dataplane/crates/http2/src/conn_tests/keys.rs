//! A key means one stream and nothing after its end; slots are used again.

use super::*;

#[test]
fn a_key_of_a_stream_that_ended_does_nothing_to_the_next_in_its_slot() {
    let mut talk = Talk::server();
    let stale = talk.request(1, false);
    talk.feed(&reset(1, Code::CANCEL));
    let key = talk.request(3, false);
    assert_eq!((stale.slot, stale.id), (key.slot, 1));
    talk.write();

    let connection = &mut talk.connection;
    assert_eq!(connection.send_head(stale, &list(ANSWER), true), Err(Gone));
    assert_eq!(
        connection.send_data(stale, Bytes::from_static(b"x"), true),
        Err(Gone)
    );
    assert_eq!(connection.send_trailers(stale, list(TRAILERS)), Err(Gone));
    connection.reset(stale, Code::CANCEL);
    connection.ignore(stale);
    connection.abandon(stale);
    connection.want_room(stale);
    connection.release(stale, 0);
    assert!(connection.has_sent_end(stale) && !connection.has_room(stale));
    assert!(!connection.has_sent_end(key) && connection.has_room(key));
    assert_eq!(connection.keys(), [key]);
    assert_eq!(talk.write(), []);
    assert_eq!(
        talk.feed(&data(3, b"x", true)),
        [Seen::Data(3, b"x".to_vec(), true)]
    );
}

#[test]
fn a_stream_in_the_slot_of_one_that_was_to_send_sends_what_is_its_own() {
    let mut talk = Talk::server();
    for (id, byte) in [(1, b"1"), (3, b"3")] {
        let key = talk.request(id, true);
        talk.connection
            .send_head(key, &list(ANSWER), false)
            .unwrap();
        talk.connection
            .send_data(key, Bytes::from_static(byte), true)
            .unwrap();
        if id == 1 {
            talk.feed(&reset(1, Code::CANCEL));
        }
    }
    assert_eq!(talk.keys[&1].slot, talk.keys[&3].slot);
    let written = talk.write();
    let sent: Vec<_> = written.iter().filter(|it| it.kind == kind::DATA).collect();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].stream, &sent[0].payload[..], sent[0].ends()),
        (3, &b"3"[..], true)
    );
}

#[test]
fn a_server_that_answers_before_the_request_has_ended_asks_for_no_more_of_it() {
    let mut talk = Talk::server();
    let key = talk.request(1, false);
    talk.feed(&data(1, &[0; 100], false));
    talk.connection
        .send_head(key, &list(ANSWER), false)
        .unwrap();
    talk.connection
        .send_data(key, Bytes::from_static(b"x"), true)
        .unwrap();
    talk.connection.abandon(key);
    assert_eq!(talk.connection.streams(), 1, "its answer waits");
    let kinds: Vec<_> = talk.write().iter().map(|it| (it.kind, it.ends())).collect();
    assert_eq!(
        kinds,
        [
            (kind::HEADERS, false),
            (kind::DATA, true),
            (kind::RST_STREAM, false)
        ]
    );
    assert_eq!(talk.connection.streams(), 0);
    assert_eq!(talk.feed(&data(1, &[0; 100], true)), []);
    talk.release(1);
    assert_eq!(talk.connection.held(), 0);
}

#[test]
fn a_stream_that_nobody_uses_is_cancelled_unless_it_ends_by_itself() {
    let mut talk = Talk::client();
    let (open, asked, answered) = (talk.open(false), talk.open(true), talk.open(false));
    talk.feed(&head(5, ANSWER, true));
    talk.connection
        .send_data(answered, Bytes::from_static(b"x"), true)
        .unwrap();
    for key in [open, asked, answered] {
        talk.connection.abandon(key);
    }
    let ends: Vec<_> = talk
        .write()
        .iter()
        .skip(3)
        .map(|it| (it.kind, it.stream))
        .collect();
    assert_eq!(
        ends,
        [
            (kind::RST_STREAM, 1),
            (kind::RST_STREAM, 3),
            (kind::DATA, 5)
        ]
    );
    assert_eq!(talk.connection.streams(), 0);
}

#[test]
fn what_is_not_wanted_is_released_and_not_told() {
    let mut talk = Talk::server();
    let key = talk.request(1, false);
    talk.connection.ignore(key);
    for _ in 0..3 {
        assert_eq!(talk.feed(&data(1, &[0; 16_384], false)), []);
    }
    assert_eq!(talk.connection.held(), 0);
    assert_eq!(
        joined(&talk.feed(&padded(1, b"abc", 3, true))),
        [Seen::Data(1, vec![], true)]
    );
}
