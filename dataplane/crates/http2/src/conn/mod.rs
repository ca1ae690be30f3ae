//! One connection, of a server or of a client. Bytes that came go into [`Connection::receive`], which tells one event after
//! another; what is to be written gathers in [`Connection::out`], where [`Connection::pump`] adds the bodies that the
//! windows allow.

mod control;
mod data;
mod heads;
mod receive;
mod send;
mod settings;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::flow::{Receiving, Sending};
use crate::frame::{self, Code, LEAST_MAX_FRAME, MAX_STREAM, PREFACE};
use crate::headers::Headers;
use crate::hpack::{Decoder, Encoder};
use crate::limits::{Credit, Recent};
use crate::out::Out;
use crate::stream::{Key, Streams};

pub use send::{Full, Gone};

/// First window of each connection (RFC 9113#6.9.2).
const FIRST_WINDOW: u32 = 65_535;
/// What we decode with, and the largest table of a peer that we encode for.
const TABLE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Server,
    Client,
}

/// What a connection announces and bears.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// SETTINGS_MAX_FRAME_SIZE, 16,384 to 16,777,215 bytes.
    pub max_frame: u32,
    /// Window of each stream, bytes.
    pub stream_window: u32,
    /// Window of the connection, bytes.
    pub connection_window: u32,
    /// Whether what comes leaves the connection's window as it is: then only the streams' windows bound what is held, and
    /// one stream that nobody reads does not stop the others.
    pub opens_on_receipt: bool,
    /// SETTINGS_MAX_CONCURRENT_STREAMS of a server.
    pub max_streams: u32,
    /// SETTINGS_MAX_HEADER_LIST_SIZE, bytes. What is beyond is left away, and the list told to be cut.
    pub max_list: u32,
    /// Most fields of a list; as with `max_list`.
    pub max_fields: usize,
    /// Size that the lists of open streams may have in all, bytes; a request beyond it is told to be one too many. As much
    /// may wait to be sent before no stream has room.
    pub max_memory: usize,
    /// Control frames that are free, and those that each frame of traffic earns; none: they are not counted.
    pub credit: Option<(u32, u32)>,
    /// Most streams that the peer may make us reset, of which sixteen requests forgive one; none: any number.
    pub max_faults: Option<u32>,
}

/// What came.
#[derive(Debug)]
pub enum Event {
    /// A request, or the head of an answer.
    Head {
        stream: Key,
        headers: Headers,
        is_cut: bool,
        /// The lists of open streams would be larger than they may be in all: this one does not count, and its user is to
        /// drop it.
        is_crowded: bool,
        ends: bool,
    },
    /// A part of a body. `bytes.len()` bytes are to be [released](Connection::release), once they are done with, whether
    /// or not the stream is open then.
    Data {
        stream: Key,
        bytes: Bytes,
        ends: bool,
    },
    Trailers {
        stream: Key,
        headers: Headers,
        is_cut: bool,
    },
    /// The stream is over.
    Reset { stream: Key, by: By, code: Code },
    /// The peer's settings came.
    Settings,
    /// The peer will take no more streams. Those above `last` were told to be refused.
    GoAway { last: u32, code: Code },
    /// The answer to a [ping](Connection::ping).
    Pong([u8; 8]),
}

/// Whose reset it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Peer,
    /// Ours: what the peer sent on the stream is against the rules.
    Us(&'static str),
}

/// The connection is over: what the peer sent is against the rules, or too much. A GOAWAY is among what is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal {
    pub code: Code,
    pub why: &'static str,
}

#[derive(Debug)]
pub struct Connection {
    role: Role,
    config: Config,
    out: Out,
    streams: Streams,
    decoder: Decoder,
    encoder: Encoder,
    /// For blocks that are encoded.
    scratch: Vec<u8>,
    in_window: Receiving,
    out_window: Sending,
    /// Streams with something to send, in turn.
    scheduled: VecDeque<Key>,
    /// Those of them that wait for the connection's window.
    blocked: Vec<Key>,
    /// Streams whose users are to be told that there is room.
    roomy: Vec<Key>,
    pending: VecDeque<Event>,
    incoming: receive::Incoming,
    peer: settings::Peer,
    recent: Recent,
    credit: Option<Credit>,
    faults: u32,
    /// Requests taken since the last that forgave a fault.
    taken: u32,
    /// A stream wants room that others have.
    is_full: bool,
    /// Highest stream of the peer's that we have seen.
    last_seen: u32,
    /// The next stream of ours.
    next: u32,
    leaving: Leaving,
    /// Above this stream the peer's are not ours any more.
    last_taken: u32,
    /// What the peer's GOAWAY said.
    peer_last: Option<u32>,
    failed: Option<Fatal>,
}

/// How far we are with saying that no more streams are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Said, and a ping is under way behind which no stream is older than the word.
    Said,
    /// No stream above `last_taken` is taken.
    Settled,
}

/// The ping that follows the first GOAWAY.
const LEAVING_PING: [u8; 8] = *b"dl-leave";

// === impl Connection ===

impl Connection {
    pub fn new(role: Role, config: Config) -> Self {
        let mut connection = Self {
            role,
            config,
            out: Out::default(),
            streams: Streams::default(),
            decoder: Decoder::new(TABLE),
            encoder: Encoder::new(),
            scratch: Vec::new(),
            in_window: Receiving::new(FIRST_WINDOW, config.connection_window),
            out_window: Sending::new(FIRST_WINDOW),
            scheduled: VecDeque::new(),
            blocked: Vec::new(),
            roomy: Vec::new(),
            pending: VecDeque::new(),
            incoming: receive::Incoming::new(role),
            peer: settings::Peer::default(),
            recent: Recent::default(),
            credit: config.credit.map(|(first, each)| Credit::new(first, each)),
            faults: 0,
            taken: 0,
            is_full: false,
            last_seen: 0,
            next: 1,
            leaving: Leaving::No,
            last_taken: MAX_STREAM,
            peer_last: None,
            failed: None,
        };
        connection.open_with_settings();
        connection
    }

    fn open_with_settings(&mut self) {
        use crate::frame::setting::*;
        let config = &self.config;
        let own = match self.role {
            Role::Server => (MAX_CONCURRENT_STREAMS, config.max_streams),
            Role::Client => (ENABLE_PUSH, 0),
        };
        let settings = [
            own,
            (INITIAL_WINDOW_SIZE, config.stream_window),
            (MAX_FRAME_SIZE, config.max_frame.max(LEAST_MAX_FRAME)),
            (MAX_HEADER_LIST_SIZE, config.max_list),
        ];
        let role = self.role;
        self.out.put(|out| {
            if role == Role::Client {
                out.extend_from_slice(PREFACE);
            }
            frame::write_settings(out, &settings);
        });
        if let Some(bytes) = self.in_window.announce_all() {
            self.out
                .put(|out| frame::write_window_update(out, 0, bytes));
        }
    }

    /// What is to be written.
    pub fn out(&mut self) -> &mut Out {
        &mut self.out
    }

    /// Whether there is something to write, as far as the windows allow it.
    pub fn has_work(&self) -> bool {
        !self.out.is_empty() || !self.scheduled.is_empty()
    }

    /// Whether a frame or a header block has begun and not ended.
    pub fn is_within(&self) -> bool {
        self.incoming.is_within()
    }

    /// Streams that are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes that came, were told, and were not released.
    pub fn held(&self) -> u64 {
        self.in_window.held()
    }

    /// The streams that are open.
    pub fn keys(&self) -> Vec<Key> {
        self.streams.keys()
    }

    pub fn failed(&self) -> Option<Fatal> {
        self.failed
    }

    /// Whether the connection has ended in good order: no stream is left, and none is to come.
    pub fn is_done(&self) -> bool {
        let is_leaving = self.leaving == Leaving::Settled || self.peer_last.is_some();
        is_leaving && self.streams.len() == 0 && self.pending.is_empty()
    }

    /// Take no more streams, and let those that are open end.
    pub fn leave(&mut self) {
        if self.leaving != Leaving::No {
            return;
        }
        if self.role == Role::Client {
            return self.settle(Code::NO_ERROR);
        }
        self.leaving = Leaving::Said;
        self.out.put(|out| {
            frame::write_goaway(out, MAX_STREAM, Code::NO_ERROR);
            frame::write_ping(out, 0, LEAVING_PING);
        });
    }

    /// End the connection: what is to be written ends with this word, and what comes means nothing any more.
    pub fn close(&mut self, code: Code, why: &'static str) {
        if self.failed.is_none() {
            self.failed = Some(Fatal { code, why });
            self.settle(code);
        }
    }

    fn settle(&mut self, code: Code) {
        self.leaving = Leaving::Settled;
        // What was said before may not grow (RFC 9113#6.8).
        self.last_taken = self.last_taken.min(self.last_seen);
        let last = self.last_taken;
        self.out.put(|out| frame::write_goaway(out, last, code));
    }

    /// Ask for a [`Event::Pong`].
    pub fn ping(&mut self, payload: [u8; 8]) {
        self.out.put(|out| frame::write_ping(out, 0, payload));
    }

    /// Let the connection's window be one of so many bytes.
    pub fn set_window(&mut self, bytes: u32) {
        self.in_window.set_target(bytes);
        self.announce();
    }

    fn announce(&mut self) {
        if let Some(bytes) = self.in_window.announce() {
            self.out
                .put(|out| frame::write_window_update(out, 0, bytes));
        }
    }
}

#[cfg(test)]
#[path = "../conn_tests/mod.rs"]
mod tests;
