//! An answer of many pieces on its way to the caller: who reads slowly gets all of it, who stops reading is not waited
//! for, and who goes is noticed while the next piece is awaited.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::net::stream::Sender;

/// Bytes that are sent at a time.
const PIECE: usize = 64 * 1024;

/// Nobody takes the answer any more.
#[derive(Debug)]
pub struct Left;

/// Sends an answer.
#[derive(Debug)]
pub struct Sending {
    sender: Sender,
    /// How long the caller may take for a piece.
    limit: Duration,
}

// === impl Sending ===

impl Sending {
    pub fn new(sender: Sender, limit: Duration) -> Self {
        Self { sender, limit }
    }

    /// Send bytes, whole.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), Left> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(PIECE.min(bytes.len()));
            match timeout(self.limit, self.sender.send_all(piece)).await {
                Ok(sent) => sent.map_err(|_| Left)?,
                Err(_) => {
                    self.sender.reset();
                    return Err(Left);
                }
            }
        }
        Ok(())
    }

    /// Wait for what is sent next.
    pub async fn next<T>(&mut self, next: impl Future<Output = T>) -> Result<T, Left> {
        let mut next = pin!(next);
        poll_fn(|cx| match next.as_mut().poll(cx) {
            Poll::Ready(next) => Poll::Ready(Ok(next)),
            Poll::Pending => self.sender.poll_reset(cx).map(|()| Err(Left)),
        })
        .await
    }

    /// End the answer.
    pub fn end(mut self) -> Result<(), Left> {
        self.sender.send(Bytes::new(), true).map_err(|_| Left)
    }

    /// Break the answer off: its caller sees that it is not whole.
    pub fn break_off(mut self) {
        self.sender.reset();
    }
}
