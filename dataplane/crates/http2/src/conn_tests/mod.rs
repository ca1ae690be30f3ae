//! Conversations with a connection: what is fed to it, what it tells, and what it writes.

mod blocks;
mod bounds;
mod floods;
mod keys;
mod leaving;
mod lists;
mod memory;
mod peer;
mod pieces;
mod sending;
mod settings;
mod states;
mod windows;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::peer::*;
use super::*;
use crate::frame::{ACK, END_HEADERS, END_STREAM, HEAD, Head, PADDED, PRIORITY_FLAG, kind};
use crate::testing::{list, written};

/// No limit but those that every connection has.
const CONFIG: Config = Config {
    max_frame: 16_384,
    stream_window: 65_535,
    connection_window: 1 << 20,
    opens_on_receipt: false,
    max_streams: 100,
    max_list: 16_384,
    max_fields: 100,
    max_memory: usize::MAX,
    credit: None,
    max_faults: None,
};

const REQUEST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a/b"),
    ("te", "trailers"),
];
const ANSWER: &[(&str, &str)] = &[(":status", "200")];
const TRAILERS: &[(&str, &str)] = &[("grpc-status", "0")];

/// So many cases of a property. What fails is made a test by hand.
fn cases(count: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        failure_persistence: None,
        ..proptest::test_runner::Config::with_cases(count)
    }
}

/// A frame that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn ends(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & END_STREAM != 0
    }

    /// The number that the frame consists of.
    fn number(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

fn parse(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
        let head = Head::parse(*head);
        let (payload, rest) = rest.split_at(head.length as usize);
        let (kind, flags, stream) = (head.kind, head.flags, head.stream);
        frames.push(Frame {
            kind,
            flags,
            stream,
            payload: payload.to_vec(),
        });
        bytes = rest;
    }
    assert_eq!(bytes, [], "what is written is not whole frames");
    frames
}

/// An event, or the connection's end, in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Head(u32, String, bool),
    Data(u32, Vec<u8>, bool),
    Trailers(u32, String),
    Reset(u32, bool, Code),
    Settings,
    GoAway(u32, Code),
    Pong([u8; 8]),
    Fatal(Code, &'static str),
}

/// A connection and what is known of it.
struct Talk {
    connection: Connection,
    keys: BTreeMap<u32, Key>,
    /// Bytes of bodies by stream that were told and are not released.
    held: BTreeMap<u32, usize>,
}

impl Talk {
    /// A connection whose peer has said nothing.
    fn new(role: Role, config: Config) -> Self {
        let connection = Connection::new(role, config);
        let (keys, held) = (BTreeMap::new(), BTreeMap::new());
        Self {
            connection,
            keys,
            held,
        }
    }

    /// A connection that has the settings of its peer, and has written all that belongs to that.
    fn ready(role: Role, config: Config) -> Self {
        let mut talk = Self::new(role, config);
        if role == Role::Server {
            assert_eq!(talk.feed(PREFACE), []);
        }
        assert_eq!(talk.feed(&settings(&[])), [Seen::Settings]);
        talk.write();
        talk
    }

    fn server() -> Self {
        Self::ready(Role::Server, CONFIG)
    }

    fn client() -> Self {
        Self::ready(Role::Client, CONFIG)
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<Seen> {
        self.feed_with(bytes, |_, _| ())
    }

    /// As `feed`; `act` is called after each event.
    fn feed_with(&mut self, bytes: &[u8], mut act: impl FnMut(&mut Self, &Seen)) -> Vec<Seen> {
        let mut input = Bytes::copy_from_slice(bytes);
        let mut all = Vec::new();
        loop {
            let seen = match self.connection.receive(&mut input) {
                Ok(None) => {
                    assert!(input.is_empty(), "not all is taken");
                    return all;
                }
                Ok(Some(event)) => self.seen(event),
                Err(fatal) => {
                    assert!(input.is_empty(), "not all is thrown away");
                    all.push(Seen::Fatal(fatal.code, fatal.why));
                    return all;
                }
            };
            act(self, &seen);
            all.push(seen);
        }
    }

    fn seen(&mut self, event: Event) -> Seen {
        let text = |headers: &Headers, (is_cut, is_crowded)| {
            let cut = if is_cut { " cut" } else { "" };
            let crowded = if is_crowded { " crowded" } else { "" };
            format!("{headers:?}{cut}{crowded}")
        };
        match event {
            Event::Head {
                stream,
                headers,
                is_cut,
                is_crowded,
                ends,
            } => {
                self.keys.insert(stream.id, stream);
                Seen::Head(stream.id, text(&headers, (is_cut, is_crowded)), ends)
            }
            Event::Data {
                stream,
                bytes,
                ends,
            } => {
                *self.held.entry(stream.id).or_default() += bytes.len();
                Seen::Data(stream.id, bytes.to_vec(), ends)
            }
            Event::Trailers {
                stream,
                headers,
                is_cut,
            } => Seen::Trailers(stream.id, text(&headers, (is_cut, false))),
            Event::Reset { stream, by, code } => Seen::Reset(stream.id, by != By::Peer, code),
            Event::Settings => Seen::Settings,
            Event::GoAway { last, code } => Seen::GoAway(last, code),
            Event::Pong(payload) => Seen::Pong(payload),
        }
    }

    /// Open a stream as a client.
    fn open(&mut self, ends: bool) -> Key {
        let key = self.connection.open(&list(REQUEST), ends).unwrap();
        self.keys.insert(key.id, key);
        key
    }

    /// Let a client open a stream.
    fn request(&mut self, id: u32, ends: bool) -> Key {
        let seen = self.feed(&head(id, REQUEST, ends));
        assert!(matches!(seen[..], [Seen::Head(..)]), "{seen:?}");
        self.keys[&id]
    }

    fn release(&mut self, id: u32) {
        let bytes = self.held.remove(&id).unwrap_or_default();
        self.connection.release(self.keys[&id], bytes);
    }

    /// All that can be written now.
    fn write(&mut self) -> Vec<Frame> {
        self.connection.pump(usize::MAX);
        parse(&self.take())
    }

    /// The frames that wait to be written, as bytes.
    fn take(&mut self) -> Vec<u8> {
        let mut bytes = written(self.connection.out());
        if bytes.starts_with(PREFACE) {
            bytes.drain(..PREFACE.len());
        }
        bytes
    }
}

/// The code of a connection that has ended.
fn fatal(seen: &[Seen]) -> Option<Code> {
    match seen.last() {
        Some(Seen::Fatal(code, _)) => Some(*code),
        _ => None,
    }
}

/// Parts of a body that follow each other, joined.
fn joined(seen: &[Seen]) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    for it in seen {
        if let (Some(Seen::Data(id, bytes, ends @ false)), Seen::Data(next, more, end)) =
            (all.last_mut(), it)
            && id == next
        {
            bytes.extend_from_slice(more);
            *ends = *end;
        } else {
            all.push(it.clone());
        }
    }
    all
}
