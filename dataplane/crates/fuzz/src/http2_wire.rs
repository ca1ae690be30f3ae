//! A wire of memory, which an implementation of HTTP/2 that has sockets is put on.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket that brings what it is given, and keeps what is written.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<(VecDeque<u8>, Vec<u8>)>>);

impl Wire {
    pub fn with<R>(&self, then: impl FnOnce(&mut VecDeque<u8>, &mut Vec<u8>) -> R) -> R {
        let mut both = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, output) = &mut *both;
        then(input, output)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|input, _| {
            let length = buf.remaining().min(input.len());
            if length == 0 {
                return Poll::Pending;
            }
            let bytes: Vec<u8> = input.drain(..length).collect();
            buf.put_slice(&bytes);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|_, output| output.extend_from_slice(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
