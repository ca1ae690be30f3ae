//! What is queued comes out once, in order, within the windows, and in turn.

use proptest::prelude::*;

use super::*;
use crate::frame::setting;

#[derive(Clone, Debug)]
enum Step {
    Open,
    Data(usize, usize, bool),
    Trailers(usize),
    Window(u32),
    StreamWindow(usize, u32),
    FirstWindow(u32),
    PeerResets(usize),
    WeReset(usize),
    Pump(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = || 0usize..5;
    let step = prop_oneof![
        2 => Just(Step::Open),
        8 => (which(), prop_oneof![Just(0usize), 1usize..50_000], prop::bool::weighted(0.2))
            .prop_map(|(a, b, c)| Step::Data(a, b, c)),
        2 => which().prop_map(Step::Trailers),
        3 => (1u32..40_000).prop_map(Step::Window),
        4 => (which(), 1u32..40_000).prop_map(|(a, b)| Step::StreamWindow(a, b)),
        2 => prop_oneof![Just(0u32), 1u32..70_000].prop_map(Step::FirstWindow),
        1 => which().prop_map(Step::PeerResets),
        1 => which().prop_map(Step::WeReset),
        6 => (1usize..100_000).prop_map(Step::Pump),
    ];
    prop::collection::vec(step, 1..120)
}

/// What is known of a stream outside.
#[derive(Debug, Default)]
struct Sent {
    queued: Vec<u8>,
    found: Vec<u8>,
    window: i64,
    must_end: bool,
    has_trailers: bool,
    ends: usize,
    is_reset: bool,
}

struct World {
    talk: Talk,
    streams: BTreeMap<u32, Sent>,
    order: Vec<u32>,
    window: i64,
    first: u32,
}

impl World {
    fn new() -> Self {
        let (talk, order) = (Talk::server(), Vec::new());
        Self {
            talk,
            streams: BTreeMap::new(),
            order,
            window: 65_535,
            first: 65_535,
        }
    }

    fn id(&self, which: usize) -> Option<u32> {
        self.order.iter().rev().nth(which).copied()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Open => {
                let id = 1 + 2 * self.order.len() as u32;
                let key = self.talk.request(id, false);
                self.talk
                    .connection
                    .send_head(key, &list(ANSWER), false)
                    .unwrap();
                self.order.push(id);
                self.streams.insert(
                    id,
                    Sent {
                        window: self.first.into(),
                        ..Sent::default()
                    },
                );
            }
            Step::Data(which, length, ends) => {
                let Some(id) = self.id(which) else { return };
                let sent = self.streams.get_mut(&id).unwrap();
                let at = sent.queued.len();
                let bytes: Vec<u8> = (at..at + length).map(|it| (it % 251) as u8).collect();
                let result =
                    self.talk
                        .connection
                        .send_data(self.talk.keys[&id], bytes.clone().into(), ends);
                assert_eq!(result.is_err(), sent.must_end || sent.is_reset);
                if result.is_ok() {
                    sent.queued.extend(bytes);
                    sent.must_end = ends;
                }
            }
            Step::Trailers(which) => {
                let Some(id) = self.id(which) else { return };
                let sent = self.streams.get_mut(&id).unwrap();
                let result = self
                    .talk
                    .connection
                    .send_trailers(self.talk.keys[&id], list(TRAILERS));
                assert_eq!(result.is_err(), sent.must_end || sent.is_reset);
                if result.is_ok() {
                    (sent.must_end, sent.has_trailers) = (true, true);
                }
            }
            Step::Window(bytes) => {
                self.talk.feed(&window_update(0, bytes));
                self.window += i64::from(bytes);
            }
            Step::StreamWindow(which, bytes) => {
                let Some(id) = self.id(which) else { return };
                self.talk.feed(&window_update(id, bytes));
                self.streams.get_mut(&id).unwrap().window += i64::from(bytes);
            }
            Step::FirstWindow(bytes) => {
                self.talk
                    .feed(&settings(&[(setting::INITIAL_WINDOW_SIZE, bytes)]));
                let change = i64::from(bytes) - i64::from(self.first);
                self.streams.values_mut().for_each(|it| it.window += change);
                self.first = bytes;
            }
            Step::PeerResets(which) | Step::WeReset(which) => {
                let Some(id) = self.id(which) else { return };
                self.streams.get_mut(&id).unwrap().is_reset = true;
                match step {
                    Step::WeReset(_) => self
                        .talk
                        .connection
                        .reset(self.talk.keys[&id], Code::CANCEL),
                    _ => drop(self.talk.feed(&reset(id, Code::CANCEL))),
                }
            }
            Step::Pump(enough) => {
                self.talk.connection.pump(enough);
                self.look();
            }
        }
    }

    fn look(&mut self) {
        for frame in parse(&self.talk.take()) {
            let Some(sent) = self.streams.get_mut(&frame.stream) else {
                continue;
            };
            match frame.kind {
                kind::DATA => {
                    let length = frame.payload.len() as i64;
                    assert!(length <= 16_384);
                    sent.window -= length;
                    self.window -= length;
                    // An end needs no window.
                    assert!(
                        length == 0 || sent.window >= 0 && self.window >= 0,
                        "beyond the window"
                    );
                    assert!(length > 0 || frame.ends(), "a frame that says nothing");
                    assert_eq!(sent.ends, 0, "DATA after the end");
                    sent.found.extend(&frame.payload);
                }
                kind::HEADERS if frame.ends() => {
                    assert!(sent.has_trailers);
                    assert_eq!(
                        sent.found.len(),
                        sent.queued.len(),
                        "trailers before the data"
                    );
                }
                _ => {}
            }
            sent.ends += usize::from(frame.ends());
        }
    }
}

proptest! {
    #![proptest_config(cases(250))]

    #[test]
    fn every_byte_comes_out_once_in_order_within_the_windows_and_then_the_end(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.step(&Step::Pump(usize::MAX));
        // What is left waits for a window and nothing else.
        for (id, sent) in world.streams.iter().filter(|(_, it)| !it.is_reset) {
            let left = sent.queued.len() - sent.found.len();
            prop_assert!(left == 0 || sent.window <= 0 || world.window <= 0, "stream {} waits for nothing", id);
        }
        // The streams' by the settings alone, then the connection's.
        let needed: usize = world.streams.values().map(|it| it.queued.len()).sum();
        world.step(&Step::FirstWindow(1 << 30));
        world.step(&Step::Window(needed as u32 + 1));
        world.step(&Step::Pump(usize::MAX));
        prop_assert!(!world.talk.connection.has_work());
        for sent in world.streams.values() {
            if sent.is_reset {
                prop_assert!(sent.queued.starts_with(&sent.found));
            } else {
                prop_assert_eq!(&sent.queued, &sent.found);
                prop_assert_eq!(sent.ends, usize::from(sent.must_end));
            }
        }
    }

    #[test]
    fn streams_share_a_window_that_opens_by_little(
        updates in prop::collection::vec(1u32..40_000, 20..100),
        enough in prop_oneof![1usize..40_000, Just(usize::MAX)],
    ) {
        let mut talk = Talk::server();
        talk.feed(&settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 30)]));
        let streams = 5u32;
        for id in (0..streams).map(|it| 2 * it + 1) {
            let key = talk.request(id, true);
            talk.connection.send_head(key, &list(ANSWER), false).unwrap();
            talk.connection.send_data(key, Bytes::from_static(&[0; 1 << 20]), true).unwrap();
        }
        let mut turns: BTreeMap<u32, u32> = (0..streams).map(|it| (2 * it + 1, 0)).collect();
        let mut left = 65_535;
        let mut look = |talk: &mut Talk, enough| {
            talk.connection.pump(enough);
            let mut sent = 0;
            for frame in parse(&talk.take()).iter().filter(|it| it.kind == kind::DATA) {
                *turns.get_mut(&frame.stream).unwrap() += 1;
                sent += frame.payload.len() as u32;
            }
            (sent, turns.values().max().unwrap() - turns.values().min().unwrap())
        };
        for bytes in updates {
            let (sent, difference) = look(&mut talk, enough);
            prop_assert!(difference <= 1, "one stream had more turns than another");
            left -= sent;
            talk.feed(&window_update(0, bytes));
            left += bytes;
        }
        let (sent, difference) = look(&mut talk, usize::MAX);
        prop_assert_eq!((sent, difference <= 1), (left, true));
    }
}

#[test]
fn streams_that_wait_for_the_connections_window_go_on_when_it_opens() {
    let mut talk = Talk::server();
    for id in [1, 3, 5] {
        let key = talk.request(id, true);
        talk.connection
            .send_head(key, &list(ANSWER), false)
            .unwrap();
        talk.connection
            .send_data(key, Bytes::from_static(&[0; 40_000]), true)
            .unwrap();
    }
    let sent = |talk: &mut Talk| -> usize {
        talk.write()
            .iter()
            .filter(|it| it.kind == kind::DATA)
            .map(|it| it.payload.len())
            .sum()
    };
    assert_eq!(sent(&mut talk), 65_535);
    assert!(
        !talk.connection.has_work(),
        "nothing can be done about what waits"
    );
    talk.feed(&window_update(0, 50_000));
    assert!(talk.connection.has_work());
    assert_eq!(sent(&mut talk), 50_000);
    talk.feed(&window_update(0, 50_000));
    assert_eq!(sent(&mut talk), 120_000 - 115_535);
    assert_eq!(talk.connection.streams(), 0);
}

#[test]
fn whoever_waits_for_room_is_told_when_the_connections_window_opens() {
    let mut talk = Talk::server();
    let key = talk.request(1, true);
    talk.connection
        .send_head(key, &list(ANSWER), false)
        .unwrap();
    talk.feed(&window_update(1, 100_000));
    talk.connection
        .send_data(key, vec![0; 65_535].into(), false)
        .unwrap();
    talk.write();
    talk.connection.want_room(key);
    assert_eq!(talk.connection.next_roomy(), None);
    talk.feed(&window_update(0, 1));
    assert_eq!(talk.connection.next_roomy(), Some(key));
}
