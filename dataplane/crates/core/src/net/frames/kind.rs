//! Kinds of HTTP/2 frames, as far as they are told apart here.

pub const HEAD_LEN: usize = 9;
/// Flag of a SETTINGS or PING frame (RFC 9113#6.5).
pub const ACK: u8 = 0x1;
/// Flag of a DATA frame whose first byte is the length of its padding (RFC 9113#6.1).
pub const PADDED: u8 = 0x8;

/// Frames as the accounting tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    Data,
    /// DATA without content, padding apart.
    EmptyData,
    Headers,
    Priority,
    RstStream,
    Settings,
    SettingsAck,
    Ping,
    PingAck,
    GoAway,
    WindowUpdate,
    Continuation,
    /// PUSH_PROMISE (which no client may send) and types that HTTP/2 does not know.
    Other,
}

// === impl FrameKind ===

impl FrameKind {
    /// The reason for closing a connection that has sent too many of these.
    pub const fn flood(self) -> &'static str {
        match self {
            Self::Data => "data_flood",
            Self::EmptyData => "empty_data_flood",
            Self::Headers => "headers_flood",
            Self::Priority => "priority_flood",
            Self::RstStream => "rst_stream_flood",
            Self::Settings => "settings_flood",
            Self::SettingsAck => "settings_ack_flood",
            Self::Ping => "ping_flood",
            Self::PingAck => "ping_ack_flood",
            Self::GoAway => "goaway_flood",
            Self::WindowUpdate => "window_update_flood",
            Self::Continuation => "continuation_flood",
            Self::Other => "unknown_frame_flood",
        }
    }

    pub fn of(head: &[u8; HEAD_LEN + 1], length: usize) -> Self {
        let (kind, flags) = (head[3], head[4]);
        let is_ack = flags & ACK != 0;
        match kind {
            0 => {
                let overhead = if flags & PADDED == 0 {
                    0
                } else {
                    1 + usize::from(head[HEAD_LEN])
                };
                if length > overhead {
                    Self::Data
                } else {
                    Self::EmptyData
                }
            }
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::RstStream,
            4 if is_ack => Self::SettingsAck,
            4 => Self::Settings,
            6 if is_ack => Self::PingAck,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Other,
        }
    }
}
