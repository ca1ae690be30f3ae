//! The walker on any cut of a stream, the credit's arithmetic, and the wrapper's reads and writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::kind::ACK;
use super::*;

/// Every kind, in the order of its number.
const ALL: [FrameKind; 13] = [
    FrameKind::Data,
    FrameKind::EmptyData,
    FrameKind::Headers,
    FrameKind::Priority,
    FrameKind::RstStream,
    FrameKind::Settings,
    FrameKind::SettingsAck,
    FrameKind::Ping,
    FrameKind::PingAck,
    FrameKind::GoAway,
    FrameKind::WindowUpdate,
    FrameKind::Continuation,
    FrameKind::Other,
];

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short payload")
        .to_be_bytes();
    let mut bytes = vec![
        length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
    ];
    bytes.extend_from_slice(payload);
    bytes
}

pub(super) fn ping() -> Vec<u8> {
    frame(6, 0, 0, &[0; 8])
}

/// One frame of each kind that costs credit, and how a flood of it is named.
pub(super) fn control_frames() -> Vec<(Vec<u8>, &'static str)> {
    vec![
        (ping(), "ping_flood"),
        (frame(6, ACK, 0, &[0; 8]), "ping_ack_flood"),
        (frame(4, 0, 0, &[]), "settings_flood"),
        (frame(4, ACK, 0, &[]), "settings_ack_flood"),
        (frame(2, 0, 1, &[0, 0, 0, 0, 16]), "priority_flood"),
        (frame(3, 0, 1, &[0, 0, 0, 8]), "rst_stream_flood"),
        (frame(7, 0, 0, &[0; 8]), "goaway_flood"),
        (frame(8, 0, 0, &[0, 0, 0, 1]), "window_update_flood"),
        (frame(0, 0, 1, &[]), "empty_data_flood"),
        (frame(0, PADDED, 1, &[3, 0, 0, 0]), "empty_data_flood"),
        (frame(0x42, 0xff, 1, b"grease"), "unknown_frame_flood"),
    ]
}

/// A state that has received these frames in one piece.
fn after(frames: &[Vec<u8>], credit: u32, per_frame: u32) -> FrameState {
    let state = FrameState::new(credit, per_frame);
    Walker::new(0).feed(&frames.concat(), |kind| state.on_received(kind));
    state
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    (0u8..12, any::<u8>(), payload)
        .prop_map(|(kind, flags, payload)| frame(kind, flags, 1, &payload))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn any_cut_of_the_stream_gives_the_same_frames(
        frames in prop::collection::vec(any_frame(), 0..30), cuts in prop::collection::vec(1usize..50, 1..20)
    ) {
        let bytes = [PREFACE, &frames.concat()].concat();
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        Walker::new(PREFACE_LEN).feed(&bytes, |kind| whole.push(kind));
        let (mut walker, mut rest, mut cuts) = (Walker::new(PREFACE_LEN), &bytes[..], cuts.iter().cycle());
        while let Some(&cut) = cuts.next().filter(|_| !rest.is_empty()) {
            let (piece, left) = rest.split_at(cut.min(rest.len()));
            walker.feed(piece, |kind| pieces.push(kind));
            rest = left;
        }
        prop_assert_eq!(whole.len(), frames.len());
        prop_assert_eq!(whole, pieces);
    }
}

#[test]
fn a_stream_that_comes_byte_by_byte_is_counted() {
    let frames: Vec<Vec<u8>> = control_frames().into_iter().map(|row| row.0).collect();
    let state = FrameState::new(100, 0);
    let (mut walker, mut counts) = (Walker::new(PREFACE_LEN), [0; 13]);
    for byte in [PREFACE, &frames.concat()].concat() {
        walker.feed(&[byte], |kind| {
            counts[kind as usize] += 1;
            state.on_received(kind);
        });
    }
    assert_eq!(counts, [0, 2, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1]);
    assert_eq!(state.credit.get(), 100 - 11);
}

#[test]
fn kinds_are_numbered_in_the_order_of_all() {
    assert!(ALL.iter().enumerate().all(|(i, &kind)| kind as usize == i));
}

#[test]
fn every_kind_of_control_frame_uses_up_the_credit() {
    for (bytes, name) in control_frames() {
        let within = vec![bytes.clone(); 1000];
        assert_eq!(after(&within, 1000, 10).flooded(), None, "{name}");
        let beyond = vec![bytes; 1001];
        assert_eq!(after(&beyond, 1000, 10).flooded(), Some(name));
    }
}

#[test]
fn requests_and_data_earn_credit() {
    let headers = frame(1, 0x4, 1, b"\x82");
    let data = frame(0, 0, 1, b"x");
    let padded = frame(0, PADDED, 1, b"\x02x__");
    let traffic = [headers, data, padded].concat();
    let frames: Vec<_> = (0..1000)
        .flat_map(|_| [vec![traffic.clone()], vec![ping(); 30]].concat())
        .collect();
    assert_eq!(after(&frames, 1, 10).flooded(), None);
    assert_eq!(after(&frames, 1, 9).flooded(), Some("ping_flood"));
}

#[test]
fn credit_is_not_hoarded_without_bound() {
    let mut frames = vec![frame(0, 0, 1, b"x"); 100_000];
    frames.extend(vec![ping(); 64_000]);
    assert_eq!(after(&frames, 1000, 10).flooded(), None);
    frames.push(ping());
    assert_eq!(after(&frames, 1000, 10).flooded(), Some("ping_flood"));
}

#[test]
fn what_a_naive_client_owes_for_a_window_of_tiny_messages_is_no_flood() {
    let state = FrameState::new(1000, 10);
    (0..11_000).for_each(|_| state.on_sent(FrameKind::Data));
    let owed = [
        FrameKind::Ping,
        FrameKind::WindowUpdate,
        FrameKind::WindowUpdate,
    ];
    (0..11_000).for_each(|_| owed.iter().for_each(|&kind| state.on_received(kind)));
    assert_eq!(state.flooded(), None);
}

/// Gives out prepared reads, and takes at most `room` bytes per write.
#[derive(Default)]
struct Script {
    reads: VecDeque<Vec<u8>>,
    room: usize,
    written: Vec<u8>,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.reads.pop_front();
        read.map_or(Poll::Pending, |bytes| {
            buf.put_slice(&bytes);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = self.room.min(buf.len());
        self.written.extend_from_slice(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: Vec<u8> = bufs
            .iter()
            .flat_map(|buf| buf.iter().copied())
            .take(self.room)
            .collect();
        self.written.extend_from_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn after_a_flood_reading_stops_with_one_wake_and_writing_goes_on() {
    let reads = VecDeque::from([PREFACE.to_vec(), [ping(), ping()].concat(), ping(), ping()]);
    let script = Script {
        reads,
        room: 100,
        ..Script::default()
    };
    let (mut frames, state) = Frames::new(script, 2, 10);
    let wakes = Arc::new(Wakes::default());
    let waker = wakes.clone().into();
    let mut cx = Context::from_waker(&waker);
    let mut read = |frames: &mut Frames<Script>| {
        let mut bytes = [0; 64];
        let mut buf = ReadBuf::new(&mut bytes);
        Pin::new(frames).poll_read(&mut cx, &mut buf).map(|result| {
            result.expect("a read");
            buf.filled().len()
        })
    };
    let lengths: Vec<_> = (0..6).map(|_| read(&mut frames)).collect();
    let expected = [
        Poll::Ready(24),
        Poll::Ready(34),
        Poll::Ready(17),
        Poll::Pending,
        Poll::Pending,
        Poll::Pending,
    ];
    assert_eq!(lengths, expected);
    assert_eq!(state.flooded(), Some("ping_flood"));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    let written = Pin::new(&mut frames).poll_write(&mut cx, &ping());
    assert!(matches!(written, Poll::Ready(Ok(17))));
}

#[test]
fn data_frames_that_are_sent_earn_credit_however_writes_are_cut() {
    let data = frame(0, 0, 1, &[7; 30]);
    let answer = [
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, b"\x88"),
        data.clone(),
        data,
        frame(0, 1, 1, &[]),
    ]
    .concat();
    for room in 1..answer.len() + 1 {
        let (mut frames, state) = Frames::new(
            Script {
                room,
                ..Script::default()
            },
            5,
            10,
        );
        assert!(frames.is_write_vectored());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut sent = 0;
        while sent < answer.len() {
            let middle = sent + (answer.len() - sent) / 2;
            let slices = [
                IoSlice::new(&answer[sent..middle]),
                IoSlice::new(&answer[middle..]),
            ];
            let result = match sent % 2 {
                0 => Pin::new(&mut frames).poll_write_vectored(&mut cx, &slices),
                _ => Pin::new(&mut frames).poll_write(&mut cx, &answer[sent..]),
            };
            let Poll::Ready(Ok(written)) = result else {
                panic!("the script always writes")
            };
            sent += written;
        }
        assert_eq!(frames.inner.written, answer);
        assert_eq!(state.credit.get(), 25, "room {room}");
    }
}
