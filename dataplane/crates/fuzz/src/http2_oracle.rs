//! The same bytes of a client given to h2's server and to ours, frame by frame, or those of a server to h2's client and to
//! ours: both tell the same messages, and reset and end the same, but for the differences that are named.

use std::collections::BTreeMap;

use bytes::Bytes;
use dl_http2::testing::{list, written};
use dl_http2::{By, Config, Connection, Event, Headers, PREFACE, Role};

use crate::http2::{HEAD, REQUESTS, heads};
use crate::http2_differences::Known;
use crate::http2_h2::Other;
use crate::http2_h2_client::OtherClient;

pub const MAX_STREAMS: u32 = 100;
pub const MAX_LIST: u32 = 1 << 20;
pub const WINDOW: u32 = 65_535;

const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
/// Where a frame has its stream's number.
const STREAM: usize = 5;
const PROTOCOL_ERROR: u32 = 1;

/// What became of the bytes so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The connection is over.
    pub is_over: bool,
    /// The requests, or answers, that were told, by stream.
    pub messages: BTreeMap<u32, Message>,
    /// The code of the GOAWAY that ends it; of the latest one, where there are several.
    pub code: Option<u32>,
    /// Streams that the one who is judged has reset, with the code.
    pub resets: BTreeMap<u32, u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// In order within a name.
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
    pub has_ended: bool,
    pub is_reset: bool,
}

/// One who is judged.
pub trait Side {
    fn feed(&mut self, bytes: &[u8]);
    fn verdict(&self) -> &Verdict;
}

impl Verdict {
    /// What the one who is judged has written.
    pub fn note(&mut self, bytes: &[u8]) {
        let number = |frame: &[u8], at: usize| {
            let bytes = frame.get(at..).and_then(|it| it.first_chunk());
            bytes.map_or(0, |it| u32::from_be_bytes(*it))
        };
        let bytes = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
        for (kind, frame) in heads(bytes) {
            match kind {
                RST_STREAM => drop(
                    self.resets
                        .insert(number(frame, STREAM), number(frame, HEAD)),
                ),
                GOAWAY => self.code = Some(number(frame, HEAD + 4)),
                _ => {}
            }
        }
    }

    /// Whether the stream is closed, or was passed over.
    pub fn has_passed(&self, stream: u32) -> bool {
        let latest = self.messages.keys().chain(self.resets.keys()).max();
        match self.messages.get(&stream) {
            Some(message) => message.has_ended || message.is_reset,
            None => latest.is_some_and(|it| stream <= *it),
        }
    }

    /// h2 keeps the scheme in an `http::Uri`, which has none without an authority.
    fn without_scheme(&self) -> Self {
        let mut verdict = self.clone();
        for message in verdict.messages.values_mut() {
            message.fields.retain(|(name, _)| name != ":scheme");
        }
        verdict
    }
}

/// # Panics
/// They differ in a way that is not named.
pub fn compare(role: Role, bytes: &[u8]) {
    match role {
        Role::Server => {
            let Some(rest) = bytes.strip_prefix(PREFACE) else {
                return;
            };
            let (mut ours, mut other) = (Ours::new(role), Other::new());
            ours.feed(PREFACE);
            other.feed(PREFACE);
            compare_frames(role, ours, other, rest);
        }
        Role::Client => compare_frames(role, Ours::new(role), OtherClient::new(), bytes),
    }
}

fn compare_frames(role: Role, mut ours: Ours, mut other: impl Side, bytes: &[u8]) {
    let mut known = Known::new(role);
    for (index, (_, frame)) in heads(bytes).enumerate() {
        if known.differs(frame, ours.verdict()).is_some() {
            return;
        }
        ours.feed(frame);
        other.feed(frame);
        let (verdict, others) = (ours.verdict(), other.verdict());
        let why = ours.why.as_deref();
        if known.differs_by_fields(verdict, others, why).is_some() {
            return;
        }
        let what = format!("frame {index}: {frame:?}\nours {why:?}");
        if verdict.is_over || others.is_over {
            let is_over = (verdict.is_over, others.is_over);
            assert_eq!(is_over, (true, true), "ours and h2: {what}");
            // h2 says PROTOCOL_ERROR also where there is a code that says more.
            if others.code != Some(PROTOCOL_ERROR) {
                let codes = (verdict.code.unwrap_or(0), others.code.unwrap_or(0));
                assert_eq!(codes.0, codes.1, "ours and h2: {what}");
            }
            return;
        }
        assert_eq!(&verdict.without_scheme(), others, "ours and h2: {what}");
    }
}

struct Ours {
    connection: Connection,
    verdict: Verdict,
    why: Option<String>,
}

impl Ours {
    fn new(role: Role) -> Self {
        let config = Config {
            max_frame: 16_384,
            stream_window: WINDOW,
            connection_window: WINDOW,
            opens_on_receipt: false,
            max_streams: MAX_STREAMS,
            max_list: MAX_LIST,
            max_fields: usize::MAX,
            max_memory: usize::MAX,
            credit: None,
            max_faults: None,
        };
        let mut connection = Connection::new(role, config);
        if role == Role::Client {
            for (fields, ends) in REQUESTS {
                // The first ones always have room.
                let _ = connection.open(&list(fields), ends);
            }
        }
        Self {
            connection,
            verdict: Verdict::default(),
            why: None,
        }
    }
}

impl Side for Ours {
    fn feed(&mut self, bytes: &[u8]) {
        self.why = None;
        let mut input = Bytes::copy_from_slice(bytes);
        loop {
            let event = match self.connection.receive(&mut input) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(fatal) => {
                    self.verdict.is_over = true;
                    self.why = Some(format!("{fatal:?}"));
                    break;
                }
            };
            let messages = &mut self.verdict.messages;
            match event {
                Event::Head {
                    stream,
                    headers,
                    ends,
                    ..
                } => {
                    let message = messages.entry(stream.id).or_default();
                    message.fields = fields(&headers);
                    message.has_ended = ends;
                }
                Event::Data {
                    stream,
                    bytes,
                    ends,
                } => {
                    let message = messages.entry(stream.id).or_default();
                    message.body.extend_from_slice(&bytes);
                    message.has_ended = ends;
                }
                Event::Trailers {
                    stream, headers, ..
                } => {
                    let message = messages.entry(stream.id).or_default();
                    message.trailers = fields(&headers);
                    message.has_ended = true;
                }
                Event::Reset { stream, by, .. } => {
                    messages.entry(stream.id).or_default().is_reset = true;
                    if let By::Us(why) = by {
                        self.why = Some(why.to_owned());
                    }
                }
                Event::Settings | Event::GoAway { .. } | Event::Pong(_) => {}
            }
        }
        // After GOAWAY, with its last stream, a connection ends in good order.
        self.verdict.is_over |= self.connection.is_done();
        let written = written(self.connection.out());
        self.verdict.note(&written);
    }

    fn verdict(&self) -> &Verdict {
        &self.verdict
    }
}

fn fields(headers: &Headers) -> Vec<(String, Vec<u8>)> {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    sorted(
        headers
            .iter()
            .map(|it| (text(it.name), it.value.to_vec()))
            .collect(),
    )
}

pub fn sorted(mut fields: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}
