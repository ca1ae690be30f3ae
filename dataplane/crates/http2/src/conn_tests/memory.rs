//! What a connection holds when nothing happens on it, and after much has.

use super::*;

/// Bytes that the connection holds beside those of its own type, as far as it can tell.
fn memory(connection: &Connection) -> usize {
    let of_key = size_of::<Key>();
    connection.scratch.capacity()
        + connection.decoder.memory()
        + connection.encoder.memory()
        + connection.scheduled.capacity() * of_key
        + connection.blocked.capacity() * of_key
        + connection.roomy.capacity() * of_key
        + connection.pending.capacity() * size_of::<Event>()
        + connection.streams.memory()
        + connection.incoming.memory()
}

fn exchange(client: &mut Talk, server: &mut Talk, body: usize) {
    client.connection.pump(usize::MAX);
    let seen = server.feed(&client.take());
    for it in seen {
        if let Seen::Head(id, ..) = it {
            let key = server.keys.remove(&id).unwrap();
            let connection = &mut server.connection;
            connection.send_head(key, &list(ANSWER), false).unwrap();
            connection
                .send_data(key, vec![0; body].into(), false)
                .unwrap();
            connection.send_trailers(key, list(TRAILERS)).unwrap();
        }
    }
    server.connection.pump(usize::MAX);
    client.feed(&server.take());
}

#[test]
fn a_connection_is_small_when_it_is_idle_after_traffic() {
    let config = Config {
        connection_window: 65_535,
        ..CONFIG
    };
    let (mut client, mut server) = (Talk::ready(Role::Client, config), Talk::server());
    for _ in 0..100 {
        for _ in 0..50 {
            client.open(true);
        }
        exchange(&mut client, &mut server, 200);
        for id in client.held.keys().copied().collect::<Vec<_>>() {
            client.release(id);
        }
        client.keys.clear();
    }
    for talk in [&mut client, &mut server] {
        talk.write();
        talk.connection.out().give_back();
        assert_eq!(talk.connection.streams(), 0);
        let (own, more) = (size_of::<Connection>(), memory(&talk.connection));
        assert!(own < 2048, "{own}");
        assert!(more < 4096, "{more}");
    }
}

#[test]
fn long_lists_and_frames_leave_nothing_behind() {
    let config = Config {
        max_frame: 1 << 20,
        ..CONFIG
    };
    let mut talk = Talk::ready(Role::Server, config);
    let value = "x".repeat(20_000);
    let frames = [
        raw(kind::HEADERS, 0, 1, &block(REQUEST)),
        raw(kind::CONTINUATION, 0, 1, &block(&[("long", &value)])),
        raw(kind::CONTINUATION, END_HEADERS, 1, &[]),
        raw(0x4d, 0, 0, &[0; 500_000]),
    ];
    // In two pieces, so that the first is kept until the second comes.
    for frame in frames {
        let (first, rest) = frame.split_at(frame.len() - 1);
        talk.feed(first);
        talk.feed(rest);
    }
    let fields = [(":status", "200"), ("long", &value)];
    talk.connection
        .send_head(talk.keys[&1], &list(&fields), false)
        .unwrap();
    talk.connection.reset(talk.keys[&1], Code::CANCEL);
    talk.take();
    let memory = memory(&talk.connection);
    assert!(memory < 2048, "{memory}");
}

#[test]
fn nothing_grows_by_streams_that_came_and_went() {
    let mut talk = Talk::server();
    let mut before = 0;
    for index in 0..100_000u32 {
        let id = 2 * index + 1;
        talk.feed(&[head(id, REQUEST, false), data(id, b"body", false)].concat());
        let key = talk.keys.remove(&id).unwrap();
        talk.connection.release(key, 4);
        if index % 2 == 0 {
            talk.feed(&reset(id, Code::CANCEL));
        } else {
            talk.connection.reset(key, Code::CANCEL);
        }
        talk.held.clear();
        talk.take();
        if index == 1000 {
            before = memory(&talk.connection);
        }
    }
    assert_eq!((talk.connection.streams(), talk.connection.held()), (0, 0));
    assert_eq!(memory(&talk.connection), before);
    assert!(before < 4096, "{before}");
}

#[test]
fn nothing_grows_by_answers_that_no_window_is_there_for() {
    for is_read in [false, true] {
        let mut talk = Talk::server();
        let first = talk.request(1, false);
        talk.connection
            .send_head(first, &list(ANSWER), false)
            .unwrap();
        talk.connection
            .send_data(first, vec![0; 65_535].into(), false)
            .unwrap();
        talk.write();
        let mut before = 0;
        for index in 1..20_000u32 {
            let id = 2 * index + 1;
            let key = talk.request(id, true);
            talk.keys.remove(&id);
            talk.connection
                .send_head(key, &list(ANSWER), false)
                .unwrap();
            talk.connection
                .send_data(key, vec![0; 10].into(), true)
                .unwrap();
            // Either the connection's window is closed, or nothing that was written is read.
            talk.connection.pump(if is_read { usize::MAX } else { 0 });
            talk.feed(&reset(id, Code::CANCEL));
            talk.take();
            if index == 1000 {
                before = memory(&talk.connection);
            }
        }
        assert!(
            memory(&talk.connection) <= before,
            "{} after {before}",
            memory(&talk.connection)
        );
        assert!(before < 8192, "{before}");
    }
}
