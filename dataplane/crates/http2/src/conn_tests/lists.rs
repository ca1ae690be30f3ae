//! What the lists of a stream say of it: malformed ones, 1xx, and the length of its body.

use super::*;

fn reset_by_us(seen: &[Seen]) -> bool {
    matches!(seen, [.., Seen::Reset(_, true, Code::PROTOCOL_ERROR)])
}

fn with<'a>(
    fields: &[(&'a str, &'a str)],
    extra: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    [fields, extra].concat()
}

#[test]
fn a_malformed_request_is_reset_before_anybody_is_told() {
    let without_path = &REQUEST[..2];
    for fields in [
        without_path,
        &with(REQUEST, &[("connection", "x")]),
        &with(REQUEST, &[("Upper", "x")]),
    ] {
        let mut talk = Talk::server();
        assert_eq!(talk.feed(&head(1, fields, false)), []);
        let written = talk.write();
        assert_eq!(
            (written[0].kind, written[0].number()),
            (kind::RST_STREAM, Code::PROTOCOL_ERROR.0)
        );
        assert_eq!(talk.connection.streams(), 0);
        assert_eq!(
            talk.feed(&data(1, b"x", true)),
            [],
            "what was under way behind it"
        );
        assert_eq!(talk.write(), []);
        talk.request(3, true);
    }
}

#[test]
fn malformed_answers_and_trailers_reset_their_stream() {
    for fields in [
        &[("x", "y")][..],
        &[(":status", "2000")],
        &[(":status", "200"), (":path", "/")],
    ] {
        let mut talk = Talk::client();
        talk.open(true);
        assert!(reset_by_us(&talk.feed(&head(1, fields, false))));
    }
    for role in [Role::Server, Role::Client] {
        let mut talk = Talk::ready(role, CONFIG);
        match role {
            Role::Server => drop(talk.request(1, false)),
            Role::Client => {
                talk.open(true);
                talk.feed(&head(1, ANSWER, false));
            }
        }
        assert!(reset_by_us(&talk.feed(&head(1, ANSWER, true))));
    }
}

#[test]
fn a_body_has_the_length_that_was_said() {
    type Body = &'static [(&'static [u8], bool)];
    let cases: [(&str, Body, bool); 8] = [
        ("3", &[(b"abc", true)], true),
        ("3", &[(b"a", false), (b"bc", false), (b"", true)], true),
        ("0", &[(b"", true)], true),
        ("3", &[(b"ab", true)], false),
        ("3", &[(b"ab", false), (b"", true)], false),
        ("3", &[(b"abcd", true)], false),
        ("3", &[(b"abc", false), (b"d", false)], false),
        ("0", &[(b"a", false)], false),
    ];
    for (length, body, is_right) in cases {
        for role in [Role::Server, Role::Client] {
            let mut talk = Talk::ready(role, CONFIG);
            let fields = match role {
                Role::Server => with(REQUEST, &[("content-length", length)]),
                Role::Client => with(ANSWER, &[("content-length", length)]),
            };
            if role == Role::Client {
                talk.open(true);
            }
            talk.feed(&head(1, &fields, false));
            let seen: Vec<_> = body
                .iter()
                .flat_map(|(bytes, ends)| talk.feed(&padded(1, bytes, 2, *ends)))
                .collect();
            assert_eq!(!reset_by_us(&seen), is_right, "{role:?} {length} {body:?}");
            let held: usize = talk.held.values().sum();
            assert_eq!(talk.connection.held(), held as u64);
        }
    }
}

#[test]
fn a_body_that_ends_by_headers_has_the_length_that_was_said() {
    for (length, body, is_right) in [("3", "abc", true), ("3", "ab", false), ("0", "", true)] {
        let mut talk = Talk::server();
        talk.feed(&head(
            1,
            &with(REQUEST, &[("content-length", length)]),
            false,
        ));
        talk.feed(&data(1, body.as_bytes(), false));
        assert_eq!(!reset_by_us(&talk.feed(&head(1, TRAILERS, true))), is_right);
        let mut talk = Talk::server();
        let seen = talk.feed(&head(
            1,
            &with(REQUEST, &[("content-length", length)]),
            true,
        ));
        assert_eq!(!seen.is_empty(), length == "0", "a request without a body");
    }
}

#[test]
fn an_answer_of_its_head_alone_says_no_length_but_where_nothing_has_a_body() {
    for (status, length, is_right) in [
        ("200", "0", true),
        ("200", "3", false),
        ("503", "3", false),
        ("204", "3", true),
        ("304", "3", true),
    ] {
        let mut talk = Talk::client();
        talk.open(true);
        let fields = [(":status", status), ("content-length", length)];
        let seen = talk.feed(&head(1, &fields, true));
        assert_eq!(!reset_by_us(&seen), is_right, "{status} {length}: {seen:?}");
    }
}

#[test]
fn what_a_1xx_announces_is_awaited() {
    let mut talk = Talk::client();
    talk.open(true);
    for status in ["100", "103"] {
        assert_eq!(talk.feed(&head(1, &[(":status", status)], false)), []);
    }
    let seen = talk.feed(&head(1, ANSWER, true));
    assert!(
        matches!(&seen[..], [Seen::Head(1, text, true)] if text.contains("200")),
        "{seen:?}"
    );

    talk.open(true);
    assert!(
        reset_by_us(&talk.feed(&head(3, &[(":status", "100")], true))),
        "it ends the stream"
    );
    talk.open(true);
    talk.feed(&head(5, &[(":status", "100")], false));
    assert!(
        reset_by_us(&talk.feed(&data(5, b"x", false))),
        "a body without an answer"
    );
}

#[test]
fn an_answer_may_be_nothing_but_trailers() {
    let mut talk = Talk::client();
    talk.open(true);
    let seen = talk.feed(&head(1, &with(ANSWER, TRAILERS), true));
    assert!(matches!(seen[..], [Seen::Head(1, _, true)]));
    assert_eq!(talk.connection.streams(), 0);
}

#[test]
fn lists_written_and_read_by_two_connections_stay_the_same() {
    let (mut client, mut server) = (Talk::client(), Talk::server());
    for index in 0..200u32 {
        let (path, seven) = (format!("/a/{}", index % 20), format!("{}", index % 7));
        let fields = with(
            &REQUEST[..2],
            &[(":path", &path), ("repeated", "always"), ("seven", &seven)],
        );
        let key = client.connection.open(&list(&fields), false).unwrap();
        client
            .connection
            .send_data(key, vec![1; 10].into(), false)
            .unwrap();
        // They are encoded in the order in which they are written, not in that in which they are queued.
        client
            .connection
            .send_trailers(key, list(&[("trailing", &seven)]))
            .unwrap();
        client
            .connection
            .open(&list(&with(REQUEST, &[("other", &path)])), true)
            .unwrap();
        client.connection.pump(usize::MAX);
        let bytes = client.take();
        let seen = server.feed(&bytes);
        let text = |fields: &[(&str, &str)]| format!("{:?}", list(fields));
        let id = 4 * index + 1;
        let expected = [
            Seen::Head(id, text(&fields), false),
            Seen::Head(id + 2, text(&with(REQUEST, &[("other", &path)])), true),
            Seen::Data(id, vec![1; 10], false),
            Seen::Trailers(id, text(&[("trailing", &seven)])),
        ];
        assert_eq!(seen, expected);
        for id in [id, id + 2] {
            server
                .connection
                .send_head(server.keys[&id], &list(ANSWER), true)
                .unwrap();
        }
        server.release(id);
        client.feed(&server.take());
        assert_eq!(
            (client.connection.streams(), server.connection.streams()),
            (0, 0)
        );
    }
}
