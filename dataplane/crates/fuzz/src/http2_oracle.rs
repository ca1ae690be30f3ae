//! The same bytes of a client given to h2's server and to ours, frame by frame: both tell the same requests and bodies, and
//! reset and end the same, but for the differences that are named here.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use dl_http2::{By, Config, Connection, Event, Headers, PREFACE, Role};

use crate::http2::heads;
use crate::http2_differences::Known;
use crate::http2_h2::Other;

pub const MAX_STREAMS: u32 = 100;
pub const MAX_LIST: u32 = 1 << 20;
pub const WINDOW: u32 = 65_535;

const RST_STREAM: u8 = 3;

/// What became of the bytes so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The connection is over.
    pub is_over: bool,
    /// The requests that were told, by stream.
    pub requests: BTreeMap<u32, Request>,
    /// Streams that were reset by the server.
    pub resets: BTreeSet<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// In order within a name.
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
    pub has_ended: bool,
    pub is_reset: bool,
}

impl Verdict {
    /// Whether the stream is closed, or was passed over.
    pub fn has_passed(&self, stream: u32) -> bool {
        let latest = self.requests.keys().chain(&self.resets).max();
        match self.requests.get(&stream) {
            Some(request) => request.has_ended || request.is_reset,
            None => latest.is_some_and(|it| stream <= *it),
        }
    }

    /// h2 keeps the scheme in an `http::Uri`, which has none without an authority.
    fn without_scheme(&self) -> Self {
        let mut verdict = self.clone();
        for request in verdict.requests.values_mut() {
            request.fields.retain(|(name, _)| name != ":scheme");
        }
        verdict
    }
}

/// # Panics
/// They differ in a way that is not named.
pub fn compare(bytes: &[u8]) {
    let Some(rest) = bytes.strip_prefix(PREFACE) else {
        return;
    };
    let (mut ours, mut other) = (Ours::new(), Other::new());
    let mut known = Known::default();
    ours.feed(PREFACE);
    other.feed(PREFACE);
    for (index, (_, frame)) in heads(rest).enumerate() {
        if known.differs(frame, &ours.verdict).is_some() {
            return;
        }
        ours.feed(frame);
        other.feed(frame);
        if known
            .differs_by_fields(&ours.verdict, &other.verdict)
            .is_some()
        {
            return;
        }
        let what = format!("frame {index}: {frame:?}\nours {:?}", ours.why);
        if ours.verdict.is_over || other.verdict.is_over {
            // Which code ends a connection is not compared: h2 says PROTOCOL_ERROR to most.
            let is_over = (ours.verdict.is_over, other.verdict.is_over);
            assert_eq!(is_over, (true, true), "ours and h2: {what}");
            return;
        }
        assert_eq!(
            ours.verdict.without_scheme(),
            other.verdict,
            "ours and h2: {what}"
        );
    }
}

struct Ours {
    connection: Connection,
    verdict: Verdict,
    why: Option<String>,
}

impl Ours {
    fn new() -> Self {
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
        let connection = Connection::new(Role::Server, config);
        Self {
            connection,
            verdict: Verdict::default(),
            why: None,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
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
            let requests = &mut self.verdict.requests;
            match event {
                Event::Head {
                    stream,
                    headers,
                    ends,
                    ..
                } => {
                    let request = requests.entry(stream.id).or_default();
                    request.fields = fields(&headers);
                    request.has_ended = ends;
                }
                Event::Data {
                    stream,
                    bytes,
                    ends,
                } => {
                    let request = requests.entry(stream.id).or_default();
                    request.body.extend_from_slice(&bytes);
                    request.has_ended = ends;
                }
                Event::Trailers {
                    stream, headers, ..
                } => {
                    let request = requests.entry(stream.id).or_default();
                    request.trailers = fields(&headers);
                    request.has_ended = true;
                }
                Event::Reset { stream, by, .. } => {
                    requests.entry(stream.id).or_default().is_reset = true;
                    if let By::Us(why) = by {
                        self.why = Some(why.to_owned());
                    }
                }
                Event::Settings | Event::GoAway { .. } | Event::Pong(_) => {}
            }
        }
        let mut bytes = Vec::new();
        let out = self.connection.out();
        while !out.is_empty() {
            let mut slice = [io::IoSlice::new(&[])];
            out.slices(&mut slice);
            bytes.extend_from_slice(&slice[0]);
            let length = slice[0].len();
            out.advance(length);
        }
        self.verdict.resets.extend(resets(&bytes));
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

/// The streams that RST_STREAM frames are for.
pub fn resets(bytes: &[u8]) -> Vec<u32> {
    let stream = |frame: &[u8]| u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]);
    let resets = heads(bytes).filter(|(kind, _)| *kind == RST_STREAM);
    resets.map(|(_, frame)| stream(frame)).collect()
}
