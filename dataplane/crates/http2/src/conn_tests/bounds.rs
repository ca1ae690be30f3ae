//! What the streams of a connection may hold together: metadata that came, and bodies that wait to be sent.

use super::*;

const MOST: usize = 200_000;

fn bounded() -> Talk {
    Talk::ready(
        Role::Server,
        Config {
            max_memory: MOST,
            ..CONFIG
        },
    )
}

/// Let a client open a stream with metadata of so many bytes; whether that is too much for its connection.
fn is_crowded(talk: &mut Talk, id: u32, bytes: usize) -> bool {
    let value = "x".repeat(bytes);
    let fields: Vec<_> = REQUEST.iter().copied().chain([("x", &*value)]).collect();
    let seen = talk.feed(&head(id, &fields, true));
    match &seen[..] {
        [Seen::Head(_, text, _)] => {
            // Who looks at it may want its credentials.
            assert!(text.contains(":path: /a/b") && text.contains("x: xxx"));
            text.ends_with(" crowded")
        }
        other => panic!("{other:?}"),
    }
}

fn answer(talk: &mut Talk, id: u32) {
    let key = talk.keys[&id];
    talk.connection.send_head(key, &list(ANSWER), true).unwrap();
    talk.write();
}

#[test]
fn requests_beyond_the_metadata_that_a_connection_may_have_are_told_until_others_have_ended() {
    let mut talk = bounded();
    // Each counts some 200 bytes more.
    let each = 9_800;
    for number in 0..20 {
        let crowded = is_crowded(&mut talk, 1 + 2 * number, each);
        assert_eq!(crowded, number == 19, "{number}");
    }
    assert!(is_crowded(&mut talk, 41, each));
    assert!(talk.connection.streams.listed < MOST);
    // The one that was too much is over, and one before it.
    answer(&mut talk, 39);
    answer(&mut talk, 1);
    assert!(!is_crowded(&mut talk, 43, each));
    assert!(is_crowded(&mut talk, 45, each));
    // A reset counts as an end.
    talk.feed(&reset(3, Code::CANCEL));
    talk.feed(&reset(5, Code::CANCEL));
    assert!(!is_crowded(&mut talk, 47, each));
}

/// A server with so many streams that all want to send, to a client with large windows that reads nothing.
fn senders(count: u32) -> Talk {
    let mut talk = bounded();
    talk.feed(&settings(&[(
        crate::frame::setting::INITIAL_WINDOW_SIZE,
        1 << 30,
    )]));
    talk.feed(&window_update(0, 1 << 30));
    for number in 0..count {
        let key = talk.request(1 + 2 * number, true);
        talk.connection
            .send_head(key, &list(ANSWER), false)
            .unwrap();
    }
    talk.write();
    talk
}

#[test]
fn no_stream_has_room_while_all_have_queued_too_much_and_each_is_told_when_there_is_some() {
    let mut talk = senders(20);
    let chunk = Bytes::from(vec![7; 16_384]);
    let mut queued = 0;
    let keys: Vec<Key> = talk.keys.values().copied().collect();
    // Each sends as long as it has room.
    for _ in 0..100 {
        for &key in &keys {
            if talk.connection.has_room(key) {
                talk.connection
                    .send_data(key, chunk.clone(), false)
                    .unwrap();
                queued += chunk.len();
            }
        }
    }
    assert!((MOST..MOST + chunk.len()).contains(&queued), "{queued}");
    for &key in &keys {
        assert!(!talk.connection.has_room(key));
        talk.connection.want_room(key);
    }
    assert_eq!(talk.connection.next_roomy(), None);
    // The client reads again.
    talk.write();
    let mut roomy: Vec<Key> = std::iter::from_fn(|| talk.connection.next_roomy()).collect();
    roomy.sort_by_key(|key| key.id);
    assert_eq!(roomy, keys);
    assert!(keys.iter().all(|key| talk.connection.has_room(*key)));
}

#[test]
fn a_stream_that_is_reset_gives_its_room_to_the_others() {
    let mut talk = senders(2);
    let (one, other) = (talk.keys[&1], talk.keys[&3]);
    let large = Bytes::from(vec![7; MOST]);
    talk.connection.send_data(one, large, false).unwrap();
    assert!(!talk.connection.has_room(other));
    talk.connection.want_room(other);
    talk.feed(&reset(1, Code::CANCEL));
    assert_eq!(talk.connection.next_roomy(), Some(other));
    assert!(talk.connection.has_room(other));
}

#[test]
fn a_stream_whose_own_window_opens_while_others_have_queued_too_much_is_told_afterwards() {
    let mut talk = bounded();
    talk.feed(&window_update(0, 1 << 30));
    let (one, other) = (talk.request(1, true), talk.request(3, true));
    talk.feed(&window_update(3, 1 << 30));
    for (key, bytes) in [(one, 65_535), (other, 2 * MOST)] {
        talk.connection
            .send_head(key, &list(ANSWER), false)
            .unwrap();
        if key == other {
            // Its own queue is what is in its way, as far as it can tell.
            assert!(!talk.connection.has_room(one));
            talk.connection.want_room(one);
        }
        let body = Bytes::from(vec![7; bytes]);
        talk.connection.send_data(key, body, false).unwrap();
    }
    talk.feed(&window_update(1, 1 << 20));
    assert_eq!(talk.connection.next_roomy(), None);
    talk.write();
    assert_eq!(talk.connection.next_roomy(), Some(one));
}
