//! Nothing of the windows that the peer has is lost or made, over whole conversations.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Request,
    /// A stream by its place among those that were opened, bytes, padding, and the end.
    Data(usize, usize, Option<u8>, bool),
    Trailers(usize),
    PeerResets(usize),
    /// So many bytes of a frame come, then ours is done, then the rest.
    Within(usize, Act),
    We(usize, Act),
    Release(usize, usize),
    Window(u32),
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Reset,
    Ignore,
    Abandon,
    Answer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = || 0usize..6;
    let act = || {
        prop_oneof![
            Just(Act::Reset),
            Just(Act::Ignore),
            Just(Act::Abandon),
            Just(Act::Answer)
        ]
    };
    let padding = prop::option::of(any::<u8>());
    let length = prop_oneof![Just(0usize), 1usize..200, 4000usize..16_000];
    let step = prop_oneof![
        3 => Just(Step::Request),
        12 => (which(), length, padding, prop::bool::weighted(0.1)).prop_map(|(a, b, c, d)| Step::Data(a, b, c, d)),
        1 => which().prop_map(Step::Trailers),
        1 => which().prop_map(Step::PeerResets),
        2 => (which(), act()).prop_map(|(a, b)| Step::Within(a, b)),
        2 => (which(), act()).prop_map(|(a, b)| Step::We(a, b)),
        8 => (which(), 0usize..20_000).prop_map(|(a, b)| Step::Release(a, b)),
        1 => (10_000u32..100_000).prop_map(Step::Window),
    ];
    prop::collection::vec(step, 1..120)
}

/// A client that keeps to the windows, as it knows them.
struct World {
    talk: Talk,
    streams: Vec<u32>,
    /// What may still be sent: on the connection, and by stream that it has not ended or reset.
    connection: i64,
    open: BTreeMap<u32, i64>,
    /// What the connection's window is to be.
    target: i64,
    /// The piece that frames come in.
    piece: usize,
}

const STREAM: i64 = 30_000;

impl World {
    fn new(opens_on_receipt: bool, piece: usize) -> Self {
        let config = Config {
            opens_on_receipt,
            stream_window: STREAM as u32,
            connection_window: 80_000,
            ..CONFIG
        };
        let mut talk = Talk::new(Role::Server, config);
        talk.feed(PREFACE);
        talk.feed(&settings(&[]));
        let mut world = Self {
            talk,
            streams: Vec::new(),
            connection: 65_535,
            open: BTreeMap::new(),
            target: 80_000,
            piece,
        };
        world.look();
        assert_eq!(world.connection, 80_000);
        world
    }

    /// See what we wrote.
    fn look(&mut self) {
        for frame in self.talk.write() {
            match frame.kind {
                kind::WINDOW_UPDATE if frame.stream == 0 => {
                    self.connection += i64::from(frame.number())
                }
                kind::WINDOW_UPDATE => {
                    if let Some(window) = self.open.get_mut(&frame.stream) {
                        *window += i64::from(frame.number());
                        assert!(*window <= STREAM);
                    }
                }
                kind::RST_STREAM => {
                    assert_ne!(frame.number(), Code::FLOW_CONTROL_ERROR.0);
                    self.open.remove(&frame.stream);
                }
                _ => {}
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.piece) {
            let seen = self.talk.feed(piece);
            assert_eq!(fatal(&seen), None, "{seen:?}");
        }
    }

    fn id(&self, which: usize) -> Option<u32> {
        self.streams.iter().rev().nth(which).copied()
    }

    /// A DATA frame as far as the windows allow it, and what it costs; streams that ended have none any more.
    fn frame(
        &mut self,
        which: usize,
        length: usize,
        padding: Option<u8>,
        ends: bool,
    ) -> Option<Vec<u8>> {
        let id = self.id(which)?;
        let allowed = self.connection.min(*self.open.get(&id)?);
        let overhead = padding.map_or(0, |it| 1 + i64::from(it));
        let length = (length as i64).min(allowed - overhead);
        if length < 0 {
            return None;
        }
        self.connection -= length + overhead;
        *self.open.get_mut(&id)? -= length + overhead;
        let bytes = vec![1; length as usize];
        Some(match padding {
            Some(padding) => padded(id, &bytes, padding, ends),
            None => data(id, &bytes, ends),
        })
    }

    fn act(&mut self, which: usize, act: Act) {
        let Some(id) = self.id(which) else { return };
        let (key, connection) = (self.talk.keys[&id], &mut self.talk.connection);
        match act {
            Act::Reset => connection.reset(key, Code::CANCEL),
            Act::Ignore => connection.ignore(key),
            Act::Abandon => connection.abandon(key),
            Act::Answer => drop(connection.send_head(key, &list(ANSWER), true)),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Request => {
                let id = self.streams.last().map_or(1, |it| it + 2);
                self.feed(&head(id, REQUEST, false));
                self.streams.push(id);
                self.open.insert(id, STREAM);
            }
            Step::Data(which, length, padding, ends) => {
                if let Some(frame) = self.frame(which, length, padding, ends) {
                    self.feed(&frame);
                    if ends {
                        self.open.remove(&self.id(which).unwrap());
                    }
                }
            }
            Step::Trailers(which) => {
                if let Some(id) = self.id(which)
                    && self.open.remove(&id).is_some()
                {
                    self.feed(&head(id, TRAILERS, true));
                }
            }
            Step::PeerResets(which) => {
                if let Some(id) = self.id(which)
                    && self.open.remove(&id).is_some()
                {
                    self.feed(&reset(id, Code::CANCEL));
                }
            }
            Step::Within(which, act) => {
                if let Some(frame) = self.frame(which, 9000, Some(200), false) {
                    let (first, rest) = frame.split_at(frame.len() / 2);
                    self.feed(first);
                    self.act(which, act);
                    self.feed(rest);
                }
            }
            Step::We(which, act) => self.act(which, act),
            Step::Release(which, bytes) => {
                if let Some(id) = self.id(which)
                    && let Some(held) = self.talk.held.get_mut(&id)
                {
                    let bytes = bytes.min(*held);
                    *held -= bytes;
                    self.talk.connection.release(self.talk.keys[&id], bytes);
                }
            }
            Step::Window(bytes) => {
                self.talk.connection.set_window(bytes);
                self.target = bytes.into();
            }
        }
        self.look();
    }
}

proptest! {
    #![proptest_config(cases(250))]

    #[test]
    fn in_the_end_the_peer_has_the_whole_windows_again(
        steps in steps(), opens_on_receipt: bool, piece in prop_oneof![1usize..300, 300usize..20_000],
    ) {
        let mut world = World::new(opens_on_receipt, piece);
        for step in steps {
            world.step(step);
            let held: usize = world.talk.held.values().sum();
            let expected = if opens_on_receipt { 0 } else { held as i64 };
            prop_assert_eq!(world.talk.connection.held() as i64, expected);
            // Whoever may send little is told at once of what is more than that.
            prop_assert!(world.target - world.connection - expected <= world.connection);
            for (id, window) in &world.open {
                let held = world.talk.held.get(id).map_or(0, |it| *it as i64);
                let stream = world.talk.connection.streams.get(world.talk.keys[id]);
                let is_unwanted = stream.is_none_or(|it| it.is_unwanted);
                prop_assert!(is_unwanted || STREAM - window - held <= *window);
            }
        }
        for id in world.talk.held.keys().copied().collect::<Vec<_>>() {
            world.talk.release(id);
        }
        world.look();
        prop_assert_eq!(world.talk.connection.held(), 0);
        // At least half of it was told, and the rest is to be told later.
        prop_assert!(world.connection * 2 >= world.target, "{} of {}", world.connection, world.target);
        let rest = world.talk.connection.in_window.announce_all().map_or(0, i64::from);
        prop_assert_eq!(world.connection + rest, world.target.max(world.connection));
        for (id, window) in &world.open {
            let key = world.talk.keys[id];
            let Some(stream) = world.talk.connection.streams.get_mut(key) else {
                return Err(TestCaseError::fail(format!("stream {id} is gone and nobody said so")));
            };
            // Where the rest is not wanted, the peer does not need a window.
            if !stream.is_unwanted {
                prop_assert!(window * 2 >= STREAM);
                let rest = stream.in_window.announce_all().map_or(0, i64::from);
                prop_assert_eq!(window + rest, STREAM);
            }
        }
    }
}

#[test]
fn more_than_the_streams_window_ends_the_stream_and_more_than_the_connections_the_connection() {
    let mut talk = Talk::ready(
        Role::Server,
        Config {
            stream_window: 10,
            ..CONFIG
        },
    );
    talk.request(1, false);
    assert_eq!(talk.feed(&data(1, &[0; 10], false)).len(), 1);
    assert_eq!(
        talk.feed(&data(1, &[0; 1], false)),
        [Seen::Reset(1, true, Code::FLOW_CONTROL_ERROR)]
    );

    let mut talk = Talk::ready(
        Role::Server,
        Config {
            connection_window: 65_535,
            ..CONFIG
        },
    );
    talk.request(1, false);
    talk.request(3, false);
    for _ in 0..3 {
        talk.feed(&data(1, &[0; 16_384], false));
    }
    talk.feed(&data(3, &[0; 16_383], false));
    assert_eq!(talk.feed(&data(3, &[], false)), []);
    assert_eq!(
        fatal(&talk.feed(&data(3, &[0; 1], false))),
        Some(Code::FLOW_CONTROL_ERROR)
    );
}

#[test]
fn streams_that_nobody_reads_leave_a_window_that_opens_on_receipt_to_the_others() {
    let config = Config {
        opens_on_receipt: true,
        connection_window: 65_535,
        stream_window: 65_535,
        ..CONFIG
    };
    let mut talk = Talk::ready(Role::Server, config);
    for id in [1, 3, 5, 7] {
        talk.request(id, false);
        for _ in 0..3 {
            assert_eq!(fatal(&talk.feed(&data(id, &[0; 16_384], false))), None);
        }
    }
    assert_eq!(talk.held.values().sum::<usize>(), 4 * 3 * 16_384);
}

#[test]
fn bytes_of_a_stream_that_ended_are_released_to_the_connection() {
    let mut talk = Talk::ready(
        Role::Server,
        Config {
            connection_window: 65_535,
            ..CONFIG
        },
    );
    let key = talk.request(1, false);
    talk.feed(&data(1, &[0; 16_384], false));
    talk.feed(&data(1, &[0; 16_384], true));
    talk.connection.send_head(key, &list(ANSWER), true).unwrap();
    assert_eq!(
        (talk.connection.streams(), talk.connection.held()),
        (0, 32_768)
    );
    talk.write();
    talk.release(1);
    let written = talk.write();
    assert_eq!(written.len(), 1);
    assert_eq!((written[0].stream, written[0].number()), (0, 32_768));
}
