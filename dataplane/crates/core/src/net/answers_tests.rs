//! Which header blocks are too large, in any pieces, and when a connection is stuck.

use std::future::poll_fn;

use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::*;

const MOST: u32 = 100;

fn frame(kind: u8, flags: u8, stream: u8, length: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
    bytes.resize(bytes.len() + usize::from(length), 0xff);
    bytes
}

/// A connection that has brought these bytes, read in pieces.
async fn brought(bytes: &[u8], piece: usize) -> Rc<AnswerState> {
    let (mut answers, state) = Answers::new(bytes, MOST);
    let mut buf = vec![0; piece];
    while answers.read(&mut buf).await.expect("a slice can be read") > 0 {}
    state
}

#[tokio::test]
async fn a_header_block_beyond_the_limit_is_told_once_whatever_its_frames_and_pieces() {
    let bytes = [
        frame(HEADERS, END_HEADERS, 1, 100),
        frame(HEADERS, END_HEADERS, 3, 101),
        frame(0, 0, 5, 200),
        frame(HEADERS, 0, 7, 60),
        frame(CONTINUATION, 0, 7, 40),
        frame(CONTINUATION, END_HEADERS, 7, 1),
        frame(HEADERS, 0, 9, 60),
        frame(CONTINUATION, END_HEADERS, 9, 40),
    ]
    .concat();
    for piece in [1, 7, 64, 4096] {
        let state = brought(&bytes, piece).await;
        let cut: Vec<_> = (1..=9).filter(|stream| state.is_cut(*stream)).collect();
        assert_eq!(cut, [3, 7], "in pieces of {piece}");
        assert!(!state.is_cut(3));
    }
}

#[tokio::test]
async fn no_more_than_some_streams_are_remembered() {
    let bytes: Vec<u8> = (0..200)
        .flat_map(|it| frame(HEADERS, END_HEADERS, it, 101))
        .collect();
    let state = brought(&bytes, 4096).await;
    assert_eq!(state.cut.borrow().len(), MOST_CUT);
    assert!(state.is_cut(199));
}

/// Whether such a connection is found stuck, and after how long of paused time.
async fn stuck(bytes: &[u8]) -> Option<Duration> {
    let state = brought(bytes, 4096).await;
    let limit = Duration::from_secs(5);
    let (start, mut stuck) = (Instant::now(), Stuck::new(state, limit));
    let ended = tokio::time::timeout(4 * limit, poll_fn(|cx| stuck.poll(cx))).await;
    ended.ok().map(|()| start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_stuck_in_the_midst_of_a_block_or_a_frame_and_nowhere_else() {
    let whole = frame(HEADERS, END_HEADERS, 1, 50);
    let limit = Some(Duration::from_secs(5));
    assert_eq!(stuck(&frame(HEADERS, 0, 1, 50)).await, limit);
    assert_eq!(stuck(&whole[..30]).await, limit);
    assert_eq!(stuck(&whole[..4]).await, limit);
    assert_eq!(stuck(&frame(0, 0, 1, 50)[..20]).await, limit);
    assert_eq!(stuck(&whole).await, None);
    assert_eq!(stuck(b"").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_something_comes_now_and_then_is_not_stuck() {
    let state = brought(&frame(HEADERS, 0, 1, 50), 4096).await;
    let mut stuck = Stuck::new(state.clone(), Duration::from_secs(5));
    for _ in 0..20 {
        let waited = tokio::time::timeout(Duration::from_secs(2), poll_fn(|cx| stuck.poll(cx)));
        assert!(waited.await.is_err());
        state.reads.set(state.reads.get() + 1);
    }
}
