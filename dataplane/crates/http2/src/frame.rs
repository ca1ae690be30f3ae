//! Frames (RFC 9113#4, #6): their heads, and those that are written.

/// Bytes of a frame's head.
pub const HEAD: usize = 9;
/// What a client sends first (RFC 9113#3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest payload that each peer takes, and the least that it may ask for.
pub const LEAST_MAX_FRAME: u32 = 16_384;
/// Largest SETTINGS_MAX_FRAME_SIZE.
pub const MOST_MAX_FRAME: u32 = (1 << 24) - 1;
/// Largest window (RFC 9113#6.9.1).
pub const MAX_WINDOW: u32 = (1 << 31) - 1;
/// Largest number of a stream.
pub const MAX_STREAM: u32 = (1 << 31) - 1;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITY_FLAG: u8 = 0x20;

/// Types of frames.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Numbers of settings (RFC 9113#6.5.2).
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// An error code (RFC 9113#7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    pub const NO_ERROR: Self = Self(0);
    pub const PROTOCOL_ERROR: Self = Self(1);
    pub const INTERNAL_ERROR: Self = Self(2);
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    pub const STREAM_CLOSED: Self = Self(5);
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    pub const REFUSED_STREAM: Self = Self(7);
    pub const CANCEL: Self = Self(8);
    pub const COMPRESSION_ERROR: Self = Self(9);
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {}", self.0),
        }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub length: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

// === impl Head ===

impl Head {
    pub fn parse(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32_of([s0, s1, s2, s3]),
        }
    }

    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub fn write(self, out: &mut Vec<u8>) {
        let [_, a, b, c] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        out.extend_from_slice(&[a, b, c, self.kind, self.flags, s0, s1, s2, s3]);
    }
}

/// The number of a stream, without its reserved bit.
pub fn u32_of(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & MAX_STREAM
}

pub fn write_reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    small(out, kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
}

pub fn write_window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    small(out, kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
}

pub fn write_ping(out: &mut Vec<u8>, flags: u8, payload: [u8; 8]) {
    small(out, kind::PING, flags, 0, &payload);
}

pub fn write_goaway(out: &mut Vec<u8>, last: u32, code: Code) {
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&last.to_be_bytes());
    payload[4..].copy_from_slice(&code.0.to_be_bytes());
    small(out, kind::GOAWAY, 0, 0, &payload);
}

pub fn write_settings_ack(out: &mut Vec<u8>) {
    small(out, kind::SETTINGS, ACK, 0, &[]);
}

pub fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let head = Head {
        length: 6 * settings.len() as u32,
        kind: kind::SETTINGS,
        flags: 0,
        stream: 0,
    };
    head.write(out);
    for (number, value) in settings {
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// A HEADERS frame, and CONTINUATION frames for what does not fit in `most` bytes.
pub fn write_block(out: &mut Vec<u8>, stream: u32, block: &[u8], ends: bool, most: usize) {
    let mut kind = kind::HEADERS;
    let mut flags = if ends { END_STREAM } else { 0 };
    let mut rest = block;
    loop {
        let (part, left) = rest.split_at(rest.len().min(most));
        if left.is_empty() {
            flags |= END_HEADERS;
        }
        small(out, kind, flags, stream, part);
        if left.is_empty() {
            return;
        }
        (kind, flags, rest) = (kind::CONTINUATION, 0, left);
    }
}

fn small(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let head = Head {
        length: payload.len() as u32,
        kind,
        flags,
        stream,
    };
    head.write(out);
    out.extend_from_slice(payload);
}
