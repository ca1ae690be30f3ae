//! What the peer's SETTINGS allow: windows, lists in frames of a size, and what is out of range.

use super::*;
use crate::frame::setting;

#[test]
fn windows_beyond_the_largest_end_what_they_are_of() {
    let mut talk = Talk::server();
    talk.request(1, false);
    let seen = talk.feed(&window_update(1, MAX_STREAM));
    assert_eq!(seen, [Seen::Reset(1, true, Code::FLOW_CONTROL_ERROR)]);

    talk.request(3, false);
    talk.feed(&window_update(3, 1));
    let largest = settings(&[(setting::INITIAL_WINDOW_SIZE, MAX_STREAM)]);
    assert_eq!(fatal(&talk.feed(&largest)), Some(Code::FLOW_CONTROL_ERROR));

    let mut talk = Talk::server();
    let beyond = settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]);
    assert_eq!(fatal(&talk.feed(&beyond)), Some(Code::FLOW_CONTROL_ERROR));
}

#[test]
fn settings_out_of_their_range_end_the_connection() {
    for (role, entry) in [
        (Role::Server, (setting::ENABLE_PUSH, 2)),
        (Role::Client, (setting::ENABLE_PUSH, 1)),
        (Role::Server, (setting::MAX_FRAME_SIZE, 16_383)),
        (Role::Server, (setting::MAX_FRAME_SIZE, 1 << 24)),
    ] {
        let mut talk = Talk::ready(role, CONFIG);
        assert_eq!(
            fatal(&talk.feed(&settings(&[entry]))),
            Some(Code::PROTOCOL_ERROR),
            "{entry:?}"
        );
    }
    let mut talk = Talk::server();
    assert_eq!(
        talk.feed(&settings(&[(setting::ENABLE_PUSH, 1), (99, 7)])),
        [Seen::Settings]
    );
    assert_eq!(
        talk.write(),
        [Frame {
            kind: kind::SETTINGS,
            flags: ACK,
            stream: 0,
            payload: vec![]
        }]
    );
}

#[test]
fn a_list_that_is_too_long_for_a_frame_goes_on_in_others() {
    let mut talk = Talk::server();
    let key = talk.request(1, true);
    let value = "\u{1}".repeat(40_000);
    let long = list(&[(":status", "200"), ("long", &value)]);
    talk.connection.send_head(key, &long, true).unwrap();
    let written = talk.write();
    let kinds: Vec<_> = written.iter().map(|it| (it.kind, it.flags)).collect();
    let (last, middle) = kinds[1..].split_last().unwrap();
    assert_eq!(kinds[0], (kind::HEADERS, END_STREAM));
    assert!(middle.iter().all(|it| *it == (kind::CONTINUATION, 0)));
    assert_eq!(*last, (kind::CONTINUATION, END_HEADERS));
    assert!(written.iter().all(|it| it.payload.len() <= 16_384));
    let block: Vec<u8> = written.iter().flat_map(|it| it.payload.clone()).collect();
    let (mut decoded, most) = (
        Headers::new(),
        crate::hpack::Most {
            list_bytes: 1 << 20,
            fields: 10,
        },
    );
    let _ = Decoder::new(TABLE)
        .decode(&block, &mut decoded, &most)
        .unwrap();
    assert_eq!(decoded, long);
}

#[test]
fn a_stream_below_its_window_goes_on_when_the_settings_lift_it() {
    let mut talk = Talk::server();
    let key = talk.request(1, true);
    talk.connection
        .send_head(key, &list(ANSWER), false)
        .unwrap();
    talk.connection
        .send_data(key, vec![0; 2000].into(), false)
        .unwrap();
    talk.feed(&settings(&[(setting::INITIAL_WINDOW_SIZE, 1000)]));
    let sent = |frames: Vec<Frame>| -> usize {
        frames
            .iter()
            .filter(|it| it.kind == kind::DATA)
            .map(|it| it.payload.len())
            .sum()
    };
    assert_eq!(sent(talk.write()), 1000);
    talk.feed(&settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]));
    talk.feed(&window_update(1, 1000));
    assert_eq!(
        (sent(talk.write()), talk.connection.has_work()),
        (0, false),
        "a window of 0"
    );
    talk.feed(&settings(&[(setting::INITIAL_WINDOW_SIZE, 400)]));
    assert_eq!(sent(talk.write()), 400);
    talk.connection.want_room(key);
    assert_eq!(talk.connection.next_roomy(), None);
    talk.feed(&settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535)]));
    assert_eq!(sent(talk.write()), 600);
    assert_eq!(talk.connection.next_roomy(), Some(key));
    assert_eq!(talk.connection.next_roomy(), None);
}
