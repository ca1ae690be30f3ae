//! The accounting of HTTP/2 frames: what a connection's bytes cost does not depend on the pieces they come in.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use dl_core::fuzzing::{FrameState, Frames};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::input::{Input, cut};

/// Client's preface, RFC 9113#3.4.
const PREFACE_LEN: usize = 24;
const HEAD_LEN: usize = 9;
/// Most credit, as a multiple of the first.
const HOARD: u32 = 64;

/// First credit, credit by frame, how the bytes are cut; then the bytes that are sent, and those that are received.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (credit, per_frame) = (u32::from(input.byte()), u32::from(input.byte()));
    let cuts = input.byte();
    let lengths = input.take(cuts.into());
    let sent_len = input.byte();
    let (sent, received) = (input.take(sent_len.into()), input.rest());

    let expected = flooded(credit, per_frame, sent, received);
    for (sent, received) in [
        (vec![sent], vec![received]),
        (cut(sent, lengths), cut(received, lengths)),
        (sent.chunks(1).collect(), received.chunks(1).collect()),
    ] {
        let found = pass(credit, per_frame, &sent, &received);
        assert_eq!(found, expected, "{} pieces", received.len());
    }
}

/// Send the pieces, then receive those of the other side: the reason why the connection is to be closed.
fn pass(credit: u32, per_frame: u32, sent: &[&[u8]], received: &[&[u8]]) -> Option<&'static str> {
    let pieces = Pieces(received.iter().copied().collect());
    let (mut frames, state): (_, Rc<FrameState>) = Frames::new(pieces, credit, per_frame);
    let mut context = Context::from_waker(Waker::noop());
    for piece in sent {
        let written = Pin::new(&mut frames).poll_write(&mut context, piece);
        assert!(matches!(written, Poll::Ready(Ok(length)) if length == piece.len()));
    }
    for piece in received {
        let mut space = vec![0; piece.len() + 1];
        let mut buf = ReadBuf::new(&mut space);
        match Pin::new(&mut frames).poll_read(&mut context, &mut buf) {
            Poll::Ready(Ok(())) => assert_eq!(buf.filled(), *piece),
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => {
                assert!(
                    state.flooded().is_some(),
                    "nothing more is read, for no reason"
                );
                break;
            }
        }
    }
    state.flooded()
}

/// The same, by frames cut out of the whole.
fn flooded(first: u32, per_frame: u32, sent: &[u8], received: &[u8]) -> Option<&'static str> {
    let mut credit = first;
    let earn = |credit: u32| (credit + per_frame).min(first * HOARD);
    for (kind, _, has_content) in heads(sent) {
        if kind == 0 && has_content {
            credit = earn(credit);
        }
    }
    for (kind, flags, has_content) in heads(received.get(PREFACE_LEN..).unwrap_or_default()) {
        let is_ack = flags & 1 != 0;
        let reason = match kind {
            0 if !has_content => "empty_data_flood",
            0 | 1 => {
                credit = earn(credit);
                continue;
            }
            2 => "priority_flood",
            3 => "rst_stream_flood",
            4 if is_ack => "settings_ack_flood",
            4 => "settings_flood",
            6 if is_ack => "ping_ack_flood",
            6 => "ping_flood",
            7 => "goaway_flood",
            8 => "window_update_flood",
            9 => continue,
            _ => "unknown_frame_flood",
        };
        if credit == 0 {
            return Some(reason);
        }
        credit -= 1;
    }
    None
}

/// Kind, flags, and whether there is more in it than padding, of each frame whose head is there.
fn heads(mut bytes: &[u8]) -> Vec<(u8, u8, bool)> {
    let mut found = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(HEAD_LEN) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let is_padded = head[3] == 0 && head[4] & 8 != 0;
        let overhead = match rest.first() {
            _ if !is_padded || length == 0 => 0,
            Some(padding) => 1 + usize::from(*padding),
            None => break,
        };
        found.push((head[3], head[4], length > overhead));
        bytes = rest.get(length..).unwrap_or_default();
    }
    found
}

/// A socket that brings these pieces, one a read, and takes what is written.
struct Pieces<'a>(VecDeque<&'a [u8]>);

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buf.put_slice(self.0.pop_front().unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
