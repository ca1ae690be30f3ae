//! Bodies that come: DATA, and the windows that it takes.

use bytes::{Buf, Bytes};

use super::receive::Step;
use super::settings::{calm, flow, protocol, size};
use super::{By, Connection, Event, Fatal, Role};
use crate::frame::{self, Code, END_STREAM, Head, PADDED};
use crate::stream::{Key, Part};

/// Parts of a body up to this size are copied, so that they do not keep all that was read with them.
const COPIED: usize = 4096;

#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    /// None where nobody wants it.
    stream: Option<Key>,
    left: u32,
    padding: u32,
    ends: bool,
}

// === impl Connection ===

impl Connection {
    pub(super) fn on_data(&mut self, head: Head, payload: &[u8]) -> Result<Step, Fatal> {
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
    pub(super) fn fault(&mut self, key: Key, code: Code, why: &'static str) {
        self.reset(key, code);
        self.faults += 1;
        let by = By::Us(why);
        self.pending.push_back(Event::Reset {
            stream: key,
            by,
            code,
        });
    }

    pub(super) fn check_faults(&self) -> Result<(), Fatal> {
        match self.config.max_faults {
            Some(most) if self.faults > most => Err(calm("made_you_reset")),
            _ => Ok(()),
        }
    }

    pub(super) fn take_data(&mut self, mut data: Data, input: &mut Bytes) -> Step {
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

    pub(super) fn on_received_end(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.receiving = Part::Ended;
            if stream.is_closed() {
                self.streams.remove(key);
            }
        }
    }
}
