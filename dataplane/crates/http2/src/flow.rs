//! Windows of flow control (RFC 9113#5.2), of a connection and of a stream alike.

use crate::frame::MAX_WINDOW;

/// What a peer may send us. At any time `window + held + freed == target`: what it may still send, what has come and was
/// not released, and what was released and not announced.
#[derive(Clone, Copy, Debug)]
pub struct Receiving {
    target: i64,
    window: i64,
    held: i64,
}

/// What we may send to a peer; below zero after it has lowered its first window.
#[derive(Clone, Copy, Debug)]
pub struct Sending(i64);

/// More than the window allows, or a window beyond the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded;

// === impl Receiving ===

impl Receiving {
    /// A window of `window` that is to become one of `target`.
    pub fn new(window: u32, target: u32) -> Self {
        Self {
            target: target.min(MAX_WINDOW).into(),
            window: window.min(MAX_WINDOW).into(),
            held: 0,
        }
    }

    /// # Errors
    /// The peer sent more than it may.
    pub fn receive(&mut self, bytes: u32) -> Result<(), Exceeded> {
        let bytes = i64::from(bytes);
        if bytes > self.window {
            return Err(Exceeded);
        }
        self.window -= bytes;
        self.held += bytes;
        Ok(())
    }

    /// So many of the bytes that came are done with.
    pub fn release(&mut self, bytes: u32) {
        debug_assert!(i64::from(bytes) <= self.held, "released twice");
        self.held = (self.held - i64::from(bytes)).max(0);
    }

    /// What the window is to be when nothing is held.
    pub fn set_target(&mut self, target: u32) {
        self.target = target.min(MAX_WINDOW).into();
    }

    /// What is to be announced now: nothing before it is half the window, or more than is left of it.
    pub fn announce(&mut self) -> Option<u32> {
        let freed = self.freed();
        if freed * 2 >= self.target || freed > self.window {
            return self.announce_all();
        }
        None
    }

    /// What is to be announced, however little.
    pub fn announce_all(&mut self) -> Option<u32> {
        let freed = self.freed();
        let bytes = u32::try_from(freed).ok().filter(|it| *it > 0)?;
        self.window += freed;
        Some(bytes)
    }

    pub fn held(&self) -> u64 {
        self.held.unsigned_abs()
    }

    /// Below zero where the target was lowered.
    fn freed(&self) -> i64 {
        self.target - self.window - self.held
    }
}

// === impl Sending ===

impl Sending {
    pub fn new(window: u32) -> Self {
        Self(window.into())
    }

    /// The peer opened the window by so much.
    ///
    /// # Errors
    /// It would be larger than the largest.
    pub fn open(&mut self, bytes: i64) -> Result<(), Exceeded> {
        let window = self.0 + bytes;
        if window > MAX_WINDOW.into() {
            return Err(Exceeded);
        }
        self.0 = window;
        Ok(())
    }

    pub fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub fn send(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
