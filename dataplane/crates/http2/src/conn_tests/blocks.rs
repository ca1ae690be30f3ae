//! Header blocks: in pieces, over-long, and made to grow.

use super::*;

/// The block in a HEADERS frame and CONTINUATIONs, of so many bytes each.
fn cut(stream: u32, block: &[u8], size: usize) -> Vec<Vec<u8>> {
    let mut frames: Vec<_> = block.chunks(size).collect();
    frames.push(&[]);
    let last = frames.len() - 1;
    let frame = |(index, part): (usize, &&[u8])| {
        let kind = if index == 0 {
            kind::HEADERS
        } else {
            kind::CONTINUATION
        };
        raw(
            kind,
            if index == last { END_HEADERS } else { 0 },
            stream,
            part,
        )
    };
    frames.iter().enumerate().map(frame).collect()
}

#[test]
fn a_block_means_the_same_in_any_number_of_frames() {
    let whole = Talk::server().feed(&head(1, REQUEST, false));
    for size in [1, 7, 50] {
        let frames = cut(1, &block(REQUEST), size).concat();
        assert_eq!(Talk::server().feed(&frames), whole);
    }
}

#[test]
fn padding_and_priority_are_no_part_of_a_block() {
    let whole = Talk::server().feed(&head(1, REQUEST, true));
    let flags = END_HEADERS | END_STREAM | PADDED | PRIORITY_FLAG;
    let payload = [&[3, 0, 0, 0, 0, 9], &block(REQUEST)[..], &[0; 3]].concat();
    assert_eq!(
        Talk::server().feed(&raw(kind::HEADERS, flags, 1, &payload)),
        whole
    );
}

#[test]
fn nothing_else_may_come_within_a_block() {
    let begun = raw(kind::HEADERS, 0, 1, &block(REQUEST)[..5]);
    for bytes in [
        raw(kind::PING, 0, 0, &[0; 8]),
        raw(kind::CONTINUATION, END_HEADERS, 3, &block(REQUEST)[5..]),
        head(1, REQUEST, true),
        data(1, b"x", true),
        raw(0x4d, 0, 0, &[]),
    ] {
        let mut talk = Talk::server();
        talk.feed(&begun);
        assert_eq!(
            fatal(&talk.feed(&bytes)),
            Some(Code::PROTOCOL_ERROR),
            "{bytes:?}"
        );
    }
}

#[test]
fn a_block_that_cannot_be_decoded_ends_the_connection() {
    for bytes in [
        &[0x80][..],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0x00, 0x05, b'x'],
        &[0x3f, 0xff, 0x7f],
    ] {
        let mut talk = Talk::server();
        let seen = talk.feed(&raw(kind::HEADERS, END_HEADERS, 1, bytes));
        assert_eq!(fatal(&seen), Some(Code::COMPRESSION_ERROR), "{bytes:?}");
    }
}

#[test]
fn a_list_beyond_the_limits_is_cut_and_told_so() {
    let long = "x".repeat(20_000);
    for (name, extra) in [
        ("bytes", vec![("long", &long[..])]),
        ("fields", vec![("a", "b"); 200]),
    ] {
        let mut talk = Talk::server();
        let fields = [REQUEST, &extra].concat();
        let frames = cut(1, &block(&fields), 10_000).concat();
        let seen = talk.feed(&frames);
        let [Seen::Head(1, text, false)] = &seen[..] else {
            panic!("{name}: {seen:?}")
        };
        assert!(
            text.ends_with(" cut") && text.contains("/a/b"),
            "{name}: {text}"
        );
        // So are trailers, and the lists of others are whole.
        let mut frames = cut(1, &block(&[TRAILERS, &extra].concat()), 10_000);
        frames[0][4] |= END_STREAM;
        let seen = talk.feed(&frames.concat());
        assert!(
            matches!(&seen[..], [Seen::Trailers(1, text)] if text.ends_with(" cut")),
            "{seen:?}"
        );
        let seen = talk.feed(&head(3, REQUEST, true));
        assert!(matches!(&seen[..], [Seen::Head(3, text, true)] if !text.ends_with(" cut")));
    }
}

#[test]
fn a_block_beyond_its_limit_ends_the_connection_before_it_is_kept() {
    let mut talk = Talk::server();
    let mut frames = cut(1, &[0; 200_000], 16_000).into_iter();
    let count = frames
        .by_ref()
        .take_while(|it| fatal(&talk.feed(it)).is_none())
        .count();
    assert_eq!(count, 65_536 / 16_000);
    assert_eq!(
        talk.connection.failed().map(|it| it.why),
        Some("headers_flood")
    );
    assert_eq!(
        talk.connection.failed().map(|it| it.code),
        Some(Code::ENHANCE_YOUR_CALM)
    );

    let mut talk = Talk::ready(
        Role::Server,
        Config {
            max_frame: 1 << 20,
            ..CONFIG
        },
    );
    let whole = raw(kind::HEADERS, 0, 1, &[0; 100_000]);
    assert_eq!(
        fatal(&talk.feed(&whole[..HEAD])),
        Some(Code::ENHANCE_YOUR_CALM),
        "by its head"
    );
}

#[test]
fn references_to_a_long_field_do_not_make_a_list_of_megabytes() {
    let mut talk = Talk::server();
    // 3,900 bytes enter the table, and each byte after that refers to them.
    let mut bomb = block(REQUEST);
    let entry = block(&[("bomb", &"x".repeat(3900))]);
    bomb.push(0x40);
    bomb.extend(&entry[1..]);
    bomb.extend([0xbe; 10_000]);
    let mut list = 0;
    let mut input = Bytes::from(raw(kind::HEADERS, END_HEADERS, 1, &bomb));
    while let Some(event) = talk.connection.receive(&mut input).unwrap() {
        let Event::Head {
            headers, is_cut, ..
        } = event
        else {
            panic!("{event:?}")
        };
        assert!(is_cut);
        list = headers.memory();
    }
    assert!(
        list < 3 * CONFIG.max_list as usize,
        "{list} bytes of memory"
    );
    assert!(
        talk.connection.decoder.memory() < 16 * 1024,
        "{}",
        talk.connection.decoder.memory()
    );
}

#[test]
fn a_request_that_depends_on_itself_is_reset_and_its_block_is_read() {
    let payload = [&[0, 0, 0, 1, 9], &block(REQUEST)[..]].concat();
    let flags = PRIORITY_FLAG | END_STREAM;
    let (first, rest) = payload.split_at(20);
    for frames in [
        raw(kind::HEADERS, flags | END_HEADERS, 1, &payload),
        [
            raw(kind::HEADERS, flags, 1, first),
            raw(kind::CONTINUATION, END_HEADERS, 1, rest),
        ]
        .concat(),
    ] {
        let mut talk = Talk::server();
        assert_eq!(talk.feed(&frames), []);
        let written = talk.write();
        assert_eq!(
            (written[0].kind, written[0].number()),
            (kind::RST_STREAM, Code::PROTOCOL_ERROR.0)
        );
        talk.request(3, true);
    }
    let mut talk = Talk::client();
    let seen = talk.feed(&raw(kind::HEADERS, flags | END_HEADERS, 1, &payload));
    assert_eq!(fatal(&seen), Some(Code::PROTOCOL_ERROR), "nobody asked");
}
