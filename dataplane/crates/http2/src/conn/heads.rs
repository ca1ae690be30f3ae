//! Header blocks that come: HEADERS and CONTINUATION, and what a list of them means for its stream.

use super::receive::{ON_ITSELF, Step};
use super::settings::{calm, protocol, size};
use super::{Connection, Event, Fatal, Role};
use crate::frame::{self, Code, END_HEADERS, END_STREAM, Head, PADDED, PRIORITY_FLAG, u32_of};
use crate::headers::Headers;
use crate::hpack::Most;
use crate::rules::{self, Judged, List};
use crate::stream::{Key, Part};

/// Requests that forgive a fault: a connection may live for long, with callers behind it of which few are wrong.
const FORGIVES: u32 = 16;

#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    ends: bool,
    depends_on_itself: bool,
    pub(super) bytes: Vec<u8>,
}

/// Whether an answer that has ended says that it has a body. Two statuses never have one, whatever they say
/// (RFC 9110#6.4.1); nor do answers to HEAD, which we do not ask.
fn lacks_body(judged: &Judged) -> bool {
    judged.content_length.is_some_and(|it| it > 0) && !matches!(judged.status, 204 | 304)
}

// === impl Connection ===

impl Connection {
    pub(super) fn on_headers(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
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

    pub(super) fn on_continuation(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
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
        self.taken += 1;
        if self.taken == FORGIVES {
            self.taken = 0;
            self.faults = self.faults.saturating_sub(1);
        }
        let receiving = if ends { Part::Ended } else { Part::Body };
        let stream = self.add(id, receiving, Part::Head);
        let is_crowded = self.streams.listed + headers.size() > self.config.max_memory;
        // Of one that is too many the user keeps nothing.
        let listed = if is_crowded { 0 } else { headers.size() };
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
                Ok(judged) if ends && lacks_body(&judged) => {
                    malformed("less than content-length says")
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
}
