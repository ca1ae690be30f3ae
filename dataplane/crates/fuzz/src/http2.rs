//! HTTP/2: what a connection tells and writes does not depend on the pieces that its bytes come in, and is what another
//! implementation makes of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use dl_http2::testing::{list, written};
use dl_http2::{Config, Connection, Event, Key, PREFACE, Role};

use crate::http2_oracle;
use crate::input::{Input, cut};

pub const HEAD: usize = 9;
const WINDOW_UPDATE: u8 = 8;
pub const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// What a client asks for, and whether that is all: streams 1, 3 and 5.
pub const REQUESTS: [(&[(&str, &str)], bool); 3] =
    [(REQUEST, false), (REQUEST, true), (REQUEST, true)];
const REQUEST: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "http"), (":path", "/")];

const CONFIG: Config = Config {
    max_frame: 16_384,
    stream_window: 2000,
    connection_window: 100_000,
    opens_on_receipt: false,
    max_streams: 10,
    max_list: 4096,
    max_fields: 50,
    max_memory: usize::MAX,
    credit: None,
    max_faults: None,
};

/// Which role and settings, credit, how the bytes are cut; then what the peer sends.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (bits, first, each) = (input.byte(), input.byte(), input.byte());
    let cuts = input.byte();
    let lengths = input.take((cuts % 32).into());
    let is = |bit: u8| bits >> bit & 1 == 1;
    let role = if is(0) { Role::Client } else { Role::Server };
    let config = Config {
        opens_on_receipt: is(1),
        credit: is(2).then(|| (first.into(), each.into())),
        max_faults: is(3).then_some(3),
        max_frame: if is(4) { 100_000 } else { 16_384 },
        ..CONFIG
    };
    // Most that a fuzzer makes up is no preface.
    let begin = match role {
        Role::Server if !is(5) => [PREFACE, SETTINGS].concat(),
        Role::Client if !is(5) => SETTINGS.to_vec(),
        _ => Vec::new(),
    };
    let bytes = [&begin, input.rest()].concat();

    let whole = converse(role, config, &[&bytes]);
    for pieces in [cut(&bytes, lengths), bytes.chunks(1).collect()] {
        assert_eq!(
            converse(role, config, &pieces),
            whole,
            "{} pieces",
            pieces.len()
        );
    }
    if bits < 2 {
        http2_oracle::compare(role, &bytes);
    }
}

/// What became of it, in order, and the frames that were written, but for those that open windows.
type Found = (Vec<String>, Vec<Vec<u8>>);

fn converse(role: Role, config: Config, pieces: &[&[u8]]) -> Found {
    let mut talk = Talk {
        connection: Connection::new(role, config),
        told: Vec::new(),
        held: BTreeMap::new(),
        received: 0,
    };
    if role == Role::Client {
        for (fields, ends) in REQUESTS {
            let _ = talk.connection.open(&list(fields), ends);
        }
    }
    for piece in pieces {
        if !talk.feed(piece) {
            break;
        }
    }
    for (stream, bytes) in std::mem::take(&mut talk.held).into_values() {
        talk.connection.release(stream, bytes);
    }
    talk.connection.pump(usize::MAX);
    let mut written = written(talk.connection.out());
    if role == Role::Client {
        written.drain(..PREFACE.len());
    }
    // When windows are opened does depend on the pieces, where bytes of no stream are let go.
    let frames = heads(&written).filter(|(kind, _)| *kind != WINDOW_UPDATE);
    let frames = frames.map(|(_, frame)| frame.to_vec()).collect();
    (talk.told, frames)
}

struct Talk {
    connection: Connection,
    told: Vec<String>,
    /// Bytes of bodies that were told, by stream.
    held: BTreeMap<u32, (Key, usize)>,
    received: usize,
}

impl Talk {
    /// Whether the connection goes on.
    fn feed(&mut self, piece: &[u8]) -> bool {
        self.received += piece.len();
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match self.connection.receive(&mut input) {
                Ok(Some(event)) => self.take(event),
                Ok(None) => return true,
                Err(fatal) => {
                    self.told.push(format!("{fatal:?}"));
                    return false;
                }
            }
            let held: usize = self.held.values().map(|(_, bytes)| bytes).sum();
            assert!(
                held <= 10 * CONFIG.stream_window as usize,
                "{held} bytes are held"
            );
            assert!(self.connection.streams() <= CONFIG.max_streams as usize);
            let waiting = self.connection.out().len();
            assert!(
                waiting <= 1000 + 20 * self.received,
                "{waiting} bytes are to be written"
            );
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Data {
                stream,
                bytes,
                ends,
            } => {
                self.held.entry(stream.id).or_insert((stream, 0)).1 += bytes.len();
                // Parts that follow each other are joined.
                let begin = format!("data on {}:", stream.id);
                let more = format!(
                    "{}{}",
                    bytes.escape_ascii(),
                    if ends { "\nend" } else { "" }
                );
                match self.told.last_mut() {
                    Some(last) if last.starts_with(&begin) && !last.ends_with("\nend") => {
                        last.push_str(&more)
                    }
                    _ => self.told.push(begin + &more),
                }
            }
            Event::Head {
                stream,
                ref headers,
                ..
            } => {
                assert!(
                    headers.size() <= CONFIG.max_list as usize
                        && headers.len() <= CONFIG.max_fields
                );
                assert!(
                    headers.memory() <= 4 * CONFIG.max_list as usize,
                    "{}",
                    headers.memory()
                );
                self.told.push(format!("{event:?}"));
                // A client's stream may not be answered.
                let _ =
                    self.connection
                        .send_head(stream, &list(&[(":status", "200")]), stream.id == 3);
                let _ = self
                    .connection
                    .send_data(stream, Bytes::from_static(&[1; 3000]), false);
                let _ = self
                    .connection
                    .send_trailers(stream, list(&[("grpc-status", "0")]));
            }
            other => self.told.push(format!("{other:?}")),
        }
    }
}

/// Type and bytes of each frame; the last one may not be whole.
pub fn heads(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.get(..HEAD)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (frame, rest) = bytes.split_at((HEAD + length).min(bytes.len()));
        bytes = rest;
        Some((frame[3], frame))
    })
}
