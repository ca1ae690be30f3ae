//! What comes, frame by frame.

use bytes::{Buf, Bytes};

use super::settings::{calm, flow, protocol, size};
use super::{By, Connection, Event, Fatal, LEAVING_PING, Leaving, Role};
use crate::frame::{
    self, ACK, Code, END_HEADERS, END_STREAM, HEAD, Head, PADDED, PREFACE, PRIORITY_FLAG, kind,
    u32_of,
};
use crate::headers::{Headers, Token};
use crate::hpack::Most;
use crate::rules::{self, List};
use crate::stream::{Key, Part};

/// Parts of a body up to this size are copied, so that they do not keep all that was read with them.
const COPIED: usize = 4096;
/// A packed header block may have so many times the bytes of the list that is taken, and at least [`LEAST_BLOCK`].
const BLOCK: usize = 2;
const LEAST_BLOCK: usize = 64 * 1024;
/// Longest value of a request that is one too many, bytes.
const SHORT: usize = 512;
const ON_ITSELF: &str = "a stream that depends on itself";

/// What has come in part.
#[derive(Debug)]
pub struct Incoming {
    /// Bytes of the preface that are still to come.
    preface: usize,
    has_settings: bool,
    /// A frame that is not whole.
    partial: Vec<u8>,
    /// A header block that is not whole.
    block: Option<Block>,
    /// A DATA frame that is not whole.
    data: Option<Data>,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    ends: bool,
    depends_on_itself: bool,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Data {
    /// None where nobody wants it.
    stream: Option<Key>,
    left: u32,
    padding: u32,
    ends: bool,
}

enum Step {
    /// Go on.
    Done,
    /// Nothing more can be made of what is there.
    Starved,
    Event(Event),
}

// === impl Incoming ===

impl Incoming {
    pub fn new(role: Role) -> Self {
        Self {
            preface: match role {
                Role::Server => PREFACE.len(),
                Role::Client => 0,
            },
            has_settings: false,
            partial: Vec::new(),
            block: None,
            data: None,
        }
    }

    /// Bytes of memory on the heap.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.partial.capacity() + self.block.as_ref().map_or(0, |it| it.bytes.capacity())
    }

    pub fn is_within(&self) -> bool {
        !self.partial.is_empty() || self.block.is_some() || self.data.is_some()
    }
}

/// What is left of a request that is one too many: enough to answer it in its own form.
fn kind_of(request: &Headers) -> Headers {
    let mut kept = Headers::roomy();
    for field in request.iter() {
        if let Some(token) = field.token
            && (token.is_pseudo() || token == Token::CONTENT_TYPE)
            && field.value.len() <= SHORT
        {
            kept.push(token, field.value);
        }
    }
    kept
}

// === impl Connection ===

impl Connection {
    /// Take what came from the front of `input`, up to the next event. None: all of it is taken.
    ///
    /// # Errors
    /// The connection is over. What else comes is thrown away.
    pub fn receive(&mut self, input: &mut Bytes) -> Result<Option<Event>, Fatal> {
        if let Some(fatal) = self.failed {
            input.clear();
            return Err(fatal);
        }
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            match self.step(input) {
                Ok(Step::Done) => {}
                Ok(Step::Starved) => return Ok(None),
                Ok(Step::Event(event)) => return Ok(Some(event)),
                Err(fatal) => {
                    self.close(fatal.code, fatal.why);
                    input.clear();
                    return Err(fatal);
                }
            }
        }
    }

    fn step(&mut self, input: &mut Bytes) -> Result<Step, Fatal> {
        if self.incoming.preface > 0 {
            return self.take_preface(input);
        }
        if let Some(data) = self.incoming.data {
            return Ok(self.take_data(data, input));
        }
        if self.incoming.partial.is_empty() {
            let Some(head) = input.first_chunk::<HEAD>() else {
                return Ok(self.keep(input, HEAD));
            };
            let head = Head::parse(*head);
            let whole = self.whole(head)?;
            if input.len() < whole {
                return Ok(self.keep(input, whole));
            }
            // Of a DATA frame only the head is taken here.
            let step = self.on_frame(head, &input[HEAD..whole]);
            input.advance(whole);
            return step;
        }
        if self.incoming.partial.len() < HEAD && !self.complete(input, HEAD) {
            return Ok(Step::Starved);
        }
        let Some(head) = self.incoming.partial.first_chunk::<HEAD>() else {
            return Ok(Step::Starved);
        };
        let head = Head::parse(*head);
        let whole = self.whole(head)?;
        if !self.complete(input, whole) {
            return Ok(Step::Starved);
        }
        let partial = std::mem::take(&mut self.incoming.partial);
        self.on_frame(head, &partial[HEAD..])
    }

    /// How many bytes of a frame are to be there before it is looked at.
    fn whole(&self, head: Head) -> Result<usize, Fatal> {
        if head.length > self.config.max_frame {
            return Err(size("a frame beyond SETTINGS_MAX_FRAME_SIZE"));
        }
        if head.kind == kind::DATA && self.incoming.block.is_none() {
            return Ok(HEAD + usize::from(head.has(PADDED) && head.length > 0));
        }
        let is_headers = matches!(head.kind, kind::HEADERS | kind::CONTINUATION);
        if is_headers && head.length as usize > self.most_block() {
            return Err(calm("headers_flood"));
        }
        Ok(HEAD + head.length as usize)
    }

    fn most_block(&self) -> usize {
        (self.config.max_list as usize)
            .saturating_mul(BLOCK)
            .max(LEAST_BLOCK)
    }

    /// Keep what is there of a frame of `whole` bytes.
    fn keep(&mut self, input: &mut Bytes, whole: usize) -> Step {
        self.complete(input, whole);
        Step::Starved
    }

    /// Add to the partial frame until it has `whole` bytes. Whether it has.
    fn complete(&mut self, input: &mut Bytes, whole: usize) -> bool {
        let partial = &mut self.incoming.partial;
        let taken = whole.saturating_sub(partial.len()).min(input.len());
        partial.extend_from_slice(&input[..taken]);
        input.advance(taken);
        partial.len() >= whole
    }

    fn take_preface(&mut self, input: &mut Bytes) -> Result<Step, Fatal> {
        let expected = &PREFACE[PREFACE.len() - self.incoming.preface..];
        let taken = expected.len().min(input.len());
        if input[..taken] != expected[..taken] {
            return Err(protocol("what came first is not HTTP/2's preface"));
        }
        input.advance(taken);
        self.incoming.preface -= taken;
        Ok(if self.incoming.preface > 0 {
            Step::Starved
        } else {
            Step::Done
        })
    }

    fn on_frame(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
        if !self.incoming.has_settings {
            if head.kind != kind::SETTINGS || head.has(ACK) {
                return Err(protocol("the first frame is not SETTINGS"));
            }
            self.incoming.has_settings = true;
        }
        if let Some(block) = &self.incoming.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return Err(protocol("a frame within a header block"));
        }
        self.account(head, payload)?;
        match head.kind {
            kind::DATA => self.on_data(head, payload),
            kind::HEADERS => self.on_headers(head, payload),
            kind::CONTINUATION => self.on_continuation(head, payload),
            kind::PRIORITY => self.on_priority(head, payload).map(|()| Step::Done),
            kind::RST_STREAM => self.on_reset(head, payload),
            kind::SETTINGS => self.on_settings(head, payload).map(|()| Step::Done),
            kind::PUSH_PROMISE => Err(protocol("PUSH_PROMISE")),
            kind::PING => self.on_ping(head, payload),
            kind::GOAWAY => self.on_goaway(head, payload),
            kind::WINDOW_UPDATE => self.on_window_update(head, payload),
            // Frames that HTTP/2 does not know say nothing (RFC 9113#4.1).
            _ => Ok(Step::Done),
        }
    }

    /// Let control frames cost, and traffic earn.
    fn account(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        let Some(credit) = &mut self.credit else {
            return Ok(());
        };
        let is_ack = head.has(ACK);
        let flood = match head.kind {
            kind::DATA => {
                let padding = match payload.first() {
                    Some(length) if head.has(PADDED) => 1 + u32::from(*length),
                    _ => 0,
                };
                if head.length > padding {
                    credit.earn();
                    return Ok(());
                }
                "empty_data_flood"
            }
            kind::HEADERS => {
                credit.earn();
                return Ok(());
            }
            kind::CONTINUATION => "continuation_flood",
            kind::PRIORITY => "priority_flood",
            kind::RST_STREAM => "rst_stream_flood",
            kind::SETTINGS if is_ack => "settings_ack_flood",
            kind::SETTINGS => "settings_flood",
            kind::PING if is_ack => "ping_ack_flood",
            kind::PING => "ping_flood",
            kind::GOAWAY => "goaway_flood",
            kind::WINDOW_UPDATE => "window_update_flood",
            _ => "unknown_frame_flood",
        };
        if credit.pay() {
            Ok(())
        } else {
            Err(calm(flood))
        }
    }

    // --- DATA ---

    fn on_data(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
        let mut padding = 0;
        if head.has(PADDED) {
            let Some(length) = payload.first() else {
                return Err(size("a padded frame without the length of its padding"));
            };
            padding = u32::from(*length);
            if padding + 1 > head.length {
                return Err(protocol("padding beyond its frame"));
            }
        }
        if self.is_idle(head.stream) {
            return Err(protocol("DATA on a stream that is none"));
        }
        if self.in_window.receive(head.length).is_err() {
            return Err(flow("more than the connection's window"));
        }
        if self.config.opens_on_receipt {
            self.release_connection(head.length);
        } else {
            // Where most of the window is held, what is left of it may be less than what was released.
            self.announce();
        }
        let overhead = padding + u32::from(head.has(PADDED));
        let found = self.streams.find(head.stream);
        let wanted = match found {
            None => {
                self.on_late(head.stream);
                None
            }
            Some(key) => self.check_data(
                key,
                head.length,
                head.length - overhead,
                head.has(END_STREAM),
            ),
        };
        let data = Data {
            stream: wanted,
            left: head.length - overhead,
            padding,
            ends: head.has(END_STREAM),
        };
        // The byte that tells the padding's length is taken; it and the padding are released at once.
        if overhead > padding {
            self.release_ignored(wanted, 1);
        }
        self.incoming.data = Some(data);
        self.check_faults()?;
        Ok(Step::Done)
    }

    /// DATA on a stream that has ended. Its sender may not know yet that we reset it.
    fn on_late(&mut self, id: u32) {
        if self.role == Role::Server && !self.recent.contains(id) && id <= self.last_taken {
            self.out
                .put(|out| frame::write_reset(out, id, Code::STREAM_CLOSED));
            self.recent.add(id);
        }
    }

    /// The stream, where it may have this DATA; otherwise it is reset.
    fn check_data(&mut self, key: Key, flow: u32, length: u32, ends: bool) -> Option<Key> {
        let stream = self.streams.get_mut(key)?;
        let wrong = match stream.receiving {
            Part::Head => Some((Code::PROTOCOL_ERROR, "DATA before headers")),
            Part::Ended => Some((Code::STREAM_CLOSED, "DATA after the end")),
            Part::Body if stream.in_window.receive(flow).is_err() => {
                Some((Code::FLOW_CONTROL_ERROR, "more than the stream's window"))
            }
            Part::Body => {
                let left = stream.expected.map(|it| it.checked_sub(length.into()));
                stream.expected = left.flatten();
                match left {
                    Some(None) => Some((Code::PROTOCOL_ERROR, "more than content-length says")),
                    Some(Some(1..)) if ends => {
                        Some((Code::PROTOCOL_ERROR, "less than content-length says"))
                    }
                    _ => None,
                }
            }
        };
        if let Some((code, why)) = wrong {
            self.fault(key, code, why);
            return None;
        }
        if !ends && let Some(bytes) = stream.in_window.announce() {
            self.out
                .put(|out| frame::write_window_update(out, key.id, bytes));
        }
        Some(key)
    }

    /// Reset a stream for what the peer did on it.
    fn fault(&mut self, key: Key, code: Code, why: &'static str) {
        self.reset(key, code);
        self.faults += 1;
        let by = By::Us(why);
        self.pending.push_back(Event::Reset {
            stream: key,
            by,
            code,
        });
    }

    fn check_faults(&self) -> Result<(), Fatal> {
        match self.config.max_faults {
            Some(most) if self.faults > most => Err(calm("made_you_reset")),
            _ => Ok(()),
        }
    }

    fn take_data(&mut self, mut data: Data, input: &mut Bytes) -> Step {
        // It may have been reset between its parts.
        let stream = data.stream.filter(|key| self.streams.get(*key).is_some());
        if data.left > 0 {
            let taken = (data.left as usize).min(input.len());
            if taken == 0 {
                return Step::Starved;
            }
            data.left -= taken as u32;
            self.incoming.data = Some(data);
            let is_wanted = stream
                .and_then(|key| self.streams.get(key))
                .is_some_and(|it| !it.is_unwanted);
            let Some(key) = stream.filter(|_| is_wanted) else {
                input.advance(taken);
                self.release_ignored(stream, taken as u32);
                return Step::Done;
            };
            let bytes = if taken <= COPIED {
                let bytes = Bytes::copy_from_slice(&input[..taken]);
                input.advance(taken);
                bytes
            } else {
                input.split_to(taken)
            };
            let ends = data.ends && data.left == 0 && data.padding == 0;
            if ends {
                self.incoming.data = None;
                self.on_received_end(key);
            }
            return Step::Event(Event::Data {
                stream: key,
                bytes,
                ends,
            });
        }
        let skipped = (data.padding as usize).min(input.len());
        if skipped > 0 {
            data.padding -= skipped as u32;
            input.advance(skipped);
            self.release_ignored(stream, skipped as u32);
        }
        if data.padding > 0 {
            self.incoming.data = Some(data);
            return Step::Starved;
        }
        self.incoming.data = None;
        match stream {
            Some(key) if data.ends => {
                self.on_received_end(key);
                let bytes = Bytes::new();
                Step::Event(Event::Data {
                    stream: key,
                    bytes,
                    ends: true,
                })
            }
            _ => Step::Done,
        }
    }

    /// Bytes that nobody is told of are released here.
    fn release_ignored(&mut self, stream: Option<Key>, bytes: u32) {
        match stream {
            Some(key) => self.release(key, bytes as usize),
            None if self.config.opens_on_receipt => {}
            None => self.release_connection(bytes),
        }
    }

    fn on_received_end(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.receiving = Part::Ended;
            if stream.is_closed() {
                self.streams.remove(key);
            }
        }
    }

    // --- HEADERS ---

    fn on_headers(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
        if head.stream == 0 {
            return Err(protocol("HEADERS on stream 0"));
        }
        let mut block = payload;
        if head.has(PADDED) {
            let (length, rest) = block
                .split_first()
                .ok_or(size("no length of the padding"))?;
            let kept = rest.len().checked_sub(usize::from(*length));
            block = &rest[..kept.ok_or(protocol("padding beyond its frame"))?];
        }
        let mut depends_on_itself = false;
        if head.has(PRIORITY_FLAG) {
            let (priority, rest) = block.split_first_chunk::<5>().ok_or(size("no priority"))?;
            let [a, b, c, d, _] = *priority;
            block = rest;
            depends_on_itself = u32_of([a, b, c, d]) == head.stream;
        }
        let (stream, ends) = (head.stream, head.has(END_STREAM));
        if head.has(END_HEADERS) {
            return self.on_block(stream, ends, depends_on_itself, block);
        }
        let bytes = block.to_vec();
        self.incoming.block = Some(Block {
            stream,
            ends,
            depends_on_itself,
            bytes,
        });
        Ok(Step::Done)
    }

    fn on_continuation(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
        let most = self.most_block();
        let Some(block) = &mut self.incoming.block else {
            return Err(protocol("CONTINUATION without HEADERS"));
        };
        if block.bytes.len() + payload.len() > most {
            return Err(calm("headers_flood"));
        }
        block.bytes.extend_from_slice(payload);
        if !head.has(END_HEADERS) {
            return Ok(Step::Done);
        }
        match self.incoming.block.take() {
            Some(block) => self.on_block(
                block.stream,
                block.ends,
                block.depends_on_itself,
                &block.bytes,
            ),
            None => Ok(Step::Done),
        }
    }

    fn decode<R>(
        &mut self,
        block: &[u8],
        then: impl FnOnce(Headers, bool) -> R,
    ) -> Result<R, Fatal> {
        let mut headers = Headers::roomy();
        let most = Most {
            list_bytes: self.config.max_list as usize,
            fields: self.config.max_fields,
        };
        match self.decoder.decode(block, &mut headers, &most) {
            Ok(decoded) => Ok(then(headers, decoded.is_cut)),
            Err(_) => Err(Fatal {
                code: Code::COMPRESSION_ERROR,
                why: "a header block that cannot be decoded",
            }),
        }
    }

    /// A whole header block.
    fn on_block(
        &mut self,
        id: u32,
        ends: bool,
        depends_on_itself: bool,
        block: &[u8],
    ) -> Result<Step, Fatal> {
        // Also what is not wanted counts for compression.
        let (headers, is_cut) = self.decode(block, |headers, is_cut| (headers, is_cut))?;
        if let Some(key) = self.streams.find(id) {
            if depends_on_itself {
                self.fault(key, Code::PROTOCOL_ERROR, ON_ITSELF);
                self.check_faults()?;
                return Ok(Step::Done);
            }
            return self.on_more_headers(key, headers, is_cut, ends);
        }
        match self.role {
            Role::Client if self.is_idle(id) => Err(protocol("HEADERS on a stream that is none")),
            // We reset it, or it has ended.
            Role::Client => Ok(Step::Done),
            Role::Server if id.is_multiple_of(2) => {
                Err(protocol("a client's stream with an even number"))
            }
            Role::Server if id > self.last_seen => {
                self.last_seen = id;
                match id {
                    // It came before our word was read: its sender tries elsewhere.
                    _ if id > self.last_taken => Ok(Step::Done),
                    _ if depends_on_itself => self.refuse(id, Code::PROTOCOL_ERROR),
                    _ => self.on_request(id, headers, is_cut, ends),
                }
            }
            Role::Server if id > self.last_taken || self.recent.may_have_been(id) => Ok(Step::Done),
            Role::Server => Err(Fatal {
                code: Code::STREAM_CLOSED,
                why: "HEADERS on a stream that has ended",
            }),
        }
    }

    fn on_request(
        &mut self,
        id: u32,
        headers: Headers,
        is_cut: bool,
        ends: bool,
    ) -> Result<Step, Fatal> {
        if self.streams.len() >= self.config.max_streams as usize {
            return self.refuse(id, Code::REFUSED_STREAM);
        }
        let judged = match rules::judge(&headers, List::Request, is_cut) {
            Ok(judged) => judged,
            Err(rules::Malformed(_)) => return self.refuse(id, Code::PROTOCOL_ERROR),
        };
        if ends && judged.content_length.is_some_and(|it| it > 0) {
            // Less than content-length says.
            return self.refuse(id, Code::PROTOCOL_ERROR);
        }
        let receiving = if ends { Part::Ended } else { Part::Body };
        let stream = self.add(id, receiving, Part::Head);
        let is_crowded = self.streams.listed + headers.size() > self.config.max_memory;
        let headers = if is_crowded {
            kind_of(&headers)
        } else {
            headers
        };
        let listed = headers.size();
        if let Some(it) = self.streams.get_mut(stream) {
            it.expected = judged.content_length;
            it.listed = listed;
            self.streams.listed += listed;
        }
        Ok(Step::Event(Event::Head {
            stream,
            headers,
            is_cut,
            is_crowded,
            ends,
        }))
    }

    /// Reset a stream of which nobody was told.
    fn refuse(&mut self, id: u32, code: Code) -> Result<Step, Fatal> {
        self.out.put(|out| frame::write_reset(out, id, code));
        self.recent.add(id);
        self.faults += u32::from(code != Code::REFUSED_STREAM);
        self.check_faults()?;
        Ok(Step::Done)
    }

    fn on_more_headers(
        &mut self,
        key: Key,
        headers: Headers,
        is_cut: bool,
        ends: bool,
    ) -> Result<Step, Fatal> {
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(Step::Done);
        };
        let malformed = |why| Err((Code::PROTOCOL_ERROR, why));
        let result = match stream.receiving {
            Part::Ended => Err((Code::STREAM_CLOSED, "HEADERS after the end")),
            Part::Head => match rules::judge(&headers, List::Response, is_cut) {
                Err(rules::Malformed(why)) => malformed(why),
                Ok(judged) if judged.status / 100 == 1 => {
                    // What it announces comes; nobody asks for the announcement.
                    if !ends {
                        return Ok(Step::Done);
                    }
                    malformed("an answer that ends with 1xx")
                }
                Ok(judged) => {
                    stream.receiving = Part::Body;
                    stream.expected = judged.content_length;
                    Ok(Event::Head {
                        stream: key,
                        headers,
                        is_cut,
                        is_crowded: false,
                        ends,
                    })
                }
            },
            Part::Body if !ends => malformed("HEADERS within a body"),
            Part::Body => match rules::judge(&headers, List::Trailers, is_cut) {
                Err(rules::Malformed(why)) => malformed(why),
                Ok(_) if stream.expected.is_some_and(|left| left > 0) => {
                    malformed("less than content-length says")
                }
                Ok(_) => Ok(Event::Trailers {
                    stream: key,
                    headers,
                    is_cut,
                }),
            },
        };
        match result {
            Ok(event) => {
                if ends {
                    self.on_received_end(key);
                }
                Ok(Step::Event(event))
            }
            Err((code, why)) => {
                self.fault(key, code, why);
                self.check_faults()?;
                Ok(Step::Done)
            }
        }
    }

    // --- the others ---

    /// Whether nobody has opened the stream.
    fn is_idle(&self, id: u32) -> bool {
        match self.role {
            Role::Server => id == 0 || id.is_multiple_of(2) || id > self.last_seen,
            Role::Client => id == 0 || id.is_multiple_of(2) || id >= self.next,
        }
    }

    fn on_priority(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream == 0 {
            return Err(protocol("PRIORITY on stream 0"));
        }
        let (code, why) = match *payload {
            [a, b, c, d, _] if u32_of([a, b, c, d]) != head.stream => return Ok(()),
            [_, _, _, _, _] => (Code::PROTOCOL_ERROR, ON_ITSELF),
            _ => (Code::FRAME_SIZE_ERROR, "PRIORITY of a wrong size"),
        };
        // An error of the stream (RFC 9113#6.3), where there is one to reset: an answer may have ended it before.
        match self.streams.find(head.stream) {
            Some(key) => {
                self.fault(key, code, why);
                self.check_faults()
            }
            None => Err(Fatal { code, why }),
        }
    }

    fn on_reset(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
        let code = <[u8; 4]>::try_from(payload).map_err(|_| size("RST_STREAM of a wrong size"))?;
        let code = Code(u32::from_be_bytes(code));
        if self.is_idle(head.stream) {
            return Err(protocol("RST_STREAM on a stream that is none"));
        }
        let Some(stream) = self.streams.find(head.stream) else {
            return Ok(Step::Done);
        };
        self.streams.remove(stream);
        Ok(Step::Event(Event::Reset {
            stream,
            by: By::Peer,
            code,
        }))
    }

    fn on_ping(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
        let payload = <[u8; 8]>::try_from(payload).map_err(|_| size("PING of a wrong size"))?;
        if head.stream != 0 {
            return Err(protocol("PING on a stream"));
        }
        if !head.has(ACK) {
            self.out.put(|out| frame::write_ping(out, ACK, payload));
            return Ok(Step::Done);
        }
        if payload == LEAVING_PING && self.leaving == Leaving::Said {
            self.settle(Code::NO_ERROR);
            return Ok(Step::Done);
        }
        Ok(Step::Event(Event::Pong(payload)))
    }

    fn on_goaway(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
        if head.stream != 0 {
            return Err(protocol("GOAWAY on a stream"));
        }
        let fields = payload
            .first_chunk::<8>()
            .ok_or(size("GOAWAY of a wrong size"))?;
        let [a, b, c, d, rest @ ..] = *fields;
        let (last, code) = (u32_of([a, b, c, d]), Code(u32::from_be_bytes(rest)));
        if self.peer_last.is_some_and(|before| last > before) {
            return Err(protocol("a GOAWAY that takes more than the one before"));
        }
        self.peer_last = Some(last);
        if self.role == Role::Client {
            for stream in self.streams.keys().into_iter().filter(|it| it.id > last) {
                self.streams.remove(stream);
                let (by, code) = (By::Peer, Code::REFUSED_STREAM);
                self.pending.push_back(Event::Reset { stream, by, code });
            }
        }
        Ok(Step::Event(Event::GoAway { last, code }))
    }

    fn on_window_update(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
        let bytes =
            <[u8; 4]>::try_from(payload).map_err(|_| size("WINDOW_UPDATE of a wrong size"))?;
        let bytes = i64::from(u32_of(bytes));
        if head.stream == 0 {
            if bytes == 0 {
                return Err(protocol("WINDOW_UPDATE by 0"));
            }
            let was_closed = self.out_window.available() == 0;
            if self.out_window.open(bytes).is_err() {
                return Err(flow("a connection's window beyond the largest"));
            }
            if was_closed {
                self.scheduled.extend(self.blocked.drain(..));
                for key in self.streams.keys() {
                    self.tell_room(key);
                }
            }
            return Ok(Step::Done);
        }
        if self.is_idle(head.stream) {
            return Err(protocol("WINDOW_UPDATE on a stream that is none"));
        }
        let Some(key) = self.streams.find(head.stream) else {
            return Ok(Step::Done);
        };
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(Step::Done);
        };
        if bytes == 0 {
            self.fault(key, Code::PROTOCOL_ERROR, "WINDOW_UPDATE by 0");
        } else if stream.out_window.open(bytes).is_err() {
            self.fault(key, Code::FLOW_CONTROL_ERROR, "a window beyond the largest");
        } else {
            self.schedule(key);
            self.tell_room(key);
        }
        self.check_faults()?;
        Ok(Step::Done)
    }
}
