//! What a peer may cost us that is not a request.

/// Most credit, as a multiple of the first one. What a client answers late must fit, as it earned while the credit
/// may have been full: 64 KiB of one-byte messages are 11,000 DATA frames, for each of which a naive client may owe
/// two WINDOW_UPDATE frames and a PING. What an attacker can save up is bounded all the same.
const HOARD: u32 = 64;
/// Numbers of streams that are remembered after they were reset.
pub(crate) const REMEMBERED: usize = 64;

/// The credit for frames that carry nothing: each costs one, and traffic earns, as honest control frames follow it (a
/// client pings once per round trip while it receives).
#[derive(Clone, Copy, Debug)]
pub struct Credit {
    left: u32,
    per_frame: u32,
    most: u32,
}

/// Streams that we reset lately. What was under way to them is nobody's fault.
#[derive(Debug, Default)]
pub struct Recent {
    streams: Vec<u32>,
    next: usize,
    /// The highest that is remembered no more.
    forgotten: u32,
}

// === impl Credit ===

impl Credit {
    /// So many free frames, and so many more for each frame of traffic.
    pub fn new(first: u32, per_frame: u32) -> Self {
        Self {
            left: first,
            per_frame,
            most: first.saturating_mul(HOARD),
        }
    }

    pub fn earn(&mut self) {
        self.left = self.left.saturating_add(self.per_frame).min(self.most);
    }

    /// Whether one more frame could be paid.
    #[must_use]
    pub fn pay(&mut self) -> bool {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

// === impl Recent ===

impl Recent {
    pub fn add(&mut self, stream: u32) {
        if self.streams.len() < REMEMBERED {
            self.streams.push(stream);
        } else {
            self.forgotten = self.forgotten.max(self.streams[self.next]);
            self.streams[self.next] = stream;
            self.next = (self.next + 1) % REMEMBERED;
        }
    }

    /// Whether the stream is among them, or was perhaps before it was forgotten.
    pub fn may_have_been(&self, stream: u32) -> bool {
        stream <= self.forgotten || self.contains(stream)
    }

    pub fn contains(&self, stream: u32) -> bool {
        self.streams.contains(&stream)
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
