//! What the peer's SETTINGS say.

use super::{Connection, Event, Fatal, Role, TABLE};
use crate::frame::{self, ACK, Code, Head, LEAST_MAX_FRAME, MAX_WINDOW, MOST_MAX_FRAME, setting};

/// The peer's settings.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Whether it has told them.
    pub is_known: bool,
    pub max_streams: u32,
    pub first_window: u32,
    pub max_frame: u32,
    /// Largest header list that it takes.
    pub max_list: u32,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            is_known: false,
            max_streams: u32::MAX,
            first_window: super::FIRST_WINDOW,
            max_frame: LEAST_MAX_FRAME,
            max_list: u32::MAX,
        }
    }
}

// === impl Connection ===

impl Connection {
    /// The size of the largest header list that the peer says it takes.
    pub fn peer_max_list(&self) -> u32 {
        self.peer.max_list
    }

    /// Whether the peer's settings have come.
    pub fn is_ready(&self) -> bool {
        self.peer.is_known
    }

    pub(super) fn on_settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(protocol("SETTINGS on a stream"));
        }
        if head.has(ACK) {
            return match payload {
                [] => Ok(()),
                _ => Err(size("SETTINGS that acknowledge and say something")),
            };
        }
        if !payload.len().is_multiple_of(6) {
            return Err(size("SETTINGS of a wrong size"));
        }
        for entry in payload.chunks_exact(6) {
            let number = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match number {
                setting::HEADER_TABLE_SIZE => {
                    // Each size on the way counts for who decodes (RFC 7541#4.2).
                    self.encoder.set_max_size(value.min(TABLE as u32));
                }
                setting::ENABLE_PUSH if value > 1 => {
                    return Err(protocol("SETTINGS_ENABLE_PUSH that is neither 0 nor 1"));
                }
                setting::ENABLE_PUSH if value == 1 && self.role == Role::Client => {
                    return Err(protocol("a server's SETTINGS_ENABLE_PUSH of 1"));
                }
                setting::MAX_CONCURRENT_STREAMS => self.peer.max_streams = value,
                setting::INITIAL_WINDOW_SIZE => self.set_first_window(value)?,
                setting::MAX_FRAME_SIZE => {
                    if !(LEAST_MAX_FRAME..=MOST_MAX_FRAME).contains(&value) {
                        return Err(protocol("SETTINGS_MAX_FRAME_SIZE out of its range"));
                    }
                    self.peer.max_frame = value;
                }
                setting::MAX_HEADER_LIST_SIZE => self.peer.max_list = value,
                _ => {}
            }
        }
        self.out.put(frame::write_settings_ack);
        self.peer.is_known = true;
        self.pending.push_back(Event::Settings);
        Ok(())
    }

    /// A new first window changes that of each stream (RFC 9113#6.9.2), and may let it send again.
    fn set_first_window(&mut self, value: u32) -> Result<(), Fatal> {
        if value > MAX_WINDOW {
            return Err(flow(
                "SETTINGS_INITIAL_WINDOW_SIZE beyond the largest window",
            ));
        }
        let change = i64::from(value) - i64::from(self.peer.first_window);
        self.peer.first_window = value;
        for stream in self.streams.iter_mut() {
            if stream.out_window.open(change).is_err() {
                return Err(flow(
                    "SETTINGS_INITIAL_WINDOW_SIZE makes a window too large",
                ));
            }
        }
        if change > 0 {
            for key in self.streams.keys() {
                self.schedule(key);
                self.tell_room(key);
            }
        }
        Ok(())
    }
}

pub(super) const fn protocol(why: &'static str) -> Fatal {
    let code = Code::PROTOCOL_ERROR;
    Fatal { code, why }
}

pub(super) const fn size(why: &'static str) -> Fatal {
    let code = Code::FRAME_SIZE_ERROR;
    Fatal { code, why }
}

pub(super) const fn flow(why: &'static str) -> Fatal {
    let code = Code::FLOW_CONTROL_ERROR;
    Fatal { code, why }
}

pub(super) const fn calm(why: &'static str) -> Fatal {
    let code = Code::ENHANCE_YOUR_CALM;
    Fatal { code, why }
}
