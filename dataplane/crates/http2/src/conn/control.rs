//! The other frames that come: PRIORITY, RST_STREAM, PING, GOAWAY and WINDOW_UPDATE.

use super::receive::{ON_ITSELF, Step};
use super::settings::{flow, protocol, size};
use super::{By, Connection, Event, Fatal, LEAVING_PING, Leaving, Role};
use crate::frame::{self, ACK, Code, Head, u32_of};

// === impl Connection ===

impl Connection {
    /// Whether nobody has opened the stream.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        match self.role {
            Role::Server => id == 0 || id.is_multiple_of(2) || id > self.last_seen,
            Role::Client => id == 0 || id.is_multiple_of(2) || id >= self.next,
        }
    }

    pub(super) fn on_priority(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
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

    pub(super) fn on_reset(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
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

    pub(super) fn on_ping(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
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

    pub(super) fn on_goaway(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
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

    pub(super) fn on_window_update(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
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
