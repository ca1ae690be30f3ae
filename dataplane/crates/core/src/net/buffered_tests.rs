use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Waker;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A peer that takes and gives bytes in pieces of given sizes; a size of 0 is "not now".
#[derive(Default)]
struct Peer {
    takes: VecDeque<usize>,
    taken: Rc<RefCell<Vec<Vec<u8>>>>,
    gives: VecDeque<Vec<u8>>,
    reads: Rc<Cell<usize>>,
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads.set(self.reads.get() + 1);
        match self.gives.pop_front() {
            None => Poll::Ready(Ok(())),
            Some(bytes) if bytes.is_empty() => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(mut bytes) => {
                let rest = bytes.split_off(bytes.len().min(buf.remaining()));
                buf.put_slice(&bytes);
                if !rest.is_empty() {
                    self.gives.push_front(rest);
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        match self.takes.pop_front() {
            Some(0) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(most) => all.truncate(most),
            None => {}
        }
        let length = all.len();
        self.taken.borrow_mut().push(all);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn counted(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

#[test]
fn frames_wait_for_the_driver_and_go_in_one_write() {
    let taken = Rc::default();
    let peer = Peer {
        taken: Rc::clone(&taken),
        ..Peer::default()
    };
    let (mut io, flush) = buffered(peer);
    flush.take_over();
    run(async {
        for frame in [&b"one"[..], b"two", b"three"] {
            io.write_all(frame).await.unwrap();
            io.flush().await.unwrap();
        }
        assert!(taken.borrow().is_empty());
        poll_fn(|cx| flush.poll(cx)).await.unwrap();
    });
    assert_eq!(*taken.borrow(), [b"onetwothree"]);
}

#[test]
fn before_the_driver_takes_over_a_flush_writes() {
    let taken = Rc::default();
    let peer = Peer {
        taken: Rc::clone(&taken),
        ..Peer::default()
    };
    let (mut io, _flush) = buffered(peer);
    run(async {
        io.write_all(b"preface").await.unwrap();
        io.flush().await.unwrap();
    });
    assert_eq!(*taken.borrow(), [b"preface"]);
}

#[test]
fn a_shutdown_writes_what_waits() {
    let taken = Rc::default();
    let peer = Peer {
        taken: Rc::clone(&taken),
        ..Peer::default()
    };
    let (mut io, flush) = buffered(peer);
    flush.take_over();
    run(async {
        io.write_all(b"goaway").await.unwrap();
        io.shutdown().await.unwrap();
    });
    assert_eq!(*taken.borrow(), [b"goaway"]);
}

#[test]
fn a_peer_that_takes_nothing_holds_up_no_more_than_a_piece() {
    let peer = Peer {
        takes: VecDeque::from(vec![0; 100]),
        ..Peer::default()
    };
    let (mut io, flush) = buffered(peer);
    flush.take_over();
    let mut cx = Context::from_waker(Waker::noop());
    let frame = counted(16 * 1024);
    let taken = (0..100)
        .take_while(|_| Pin::new(&mut io).poll_write(&mut cx, &frame).is_ready())
        .count();
    assert_eq!(taken * frame.len(), PIECE);
}

#[test]
fn small_reads_are_not_read_ahead_and_bulk_is() {
    let reads = Rc::default();
    let bulk = 10 * PIECE;
    let peer = Peer {
        gives: VecDeque::from([b"small".to_vec(), counted(bulk)]),
        reads: Rc::clone(&reads),
        ..Peer::default()
    };
    let (mut io, _flush) = buffered(peer);
    run(async {
        let mut chunk = vec![0; 8192];
        assert_eq!(io.read(&mut chunk).await.unwrap(), 5);
        assert_eq!(reads.get(), 1);
        let mut all = Vec::new();
        loop {
            let length = io.read(&mut chunk).await.unwrap();
            if length == 0 {
                break;
            }
            all.extend_from_slice(&chunk[..length]);
        }
        assert!(all == counted(bulk));
    });
    assert!(reads.get() < 16, "{} reads", reads.get());
    assert!(io.shared.borrow().ahead.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(5), cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_arrives_once_and_in_order(
        frames in prop::collection::vec((0_usize..40_000, any::<bool>()), 1..20),
        takes in prop::collection::vec(0_usize..50_000, 0..60),
    ) {
        let taken = Rc::default();
        let peer = Peer { takes: takes.into(), taken: Rc::clone(&taken), ..Peer::default() };
        let (mut io, flush) = buffered(peer);
        flush.take_over();
        let all = counted(frames.iter().map(|(length, _)| length).sum());
        run(async {
            let mut rest = &all[..];
            for (length, flushes) in frames {
                io.write_all(&rest[..length]).await.unwrap();
                rest = &rest[length..];
                if flushes {
                    poll_fn(|cx| flush.poll(cx)).await.unwrap();
                }
            }
            poll_fn(|cx| flush.poll(cx)).await.unwrap();
        });
        prop_assert!(taken.borrow().concat() == all);
        prop_assert!(io.shared.borrow().out.capacity() == 0, "an idle connection keeps no buffer");
    }

    #[test]
    fn what_is_read_is_what_was_sent(
        pieces in prop::collection::vec(0_usize..90_000, 0..12),
        asks in prop::collection::vec(1_usize..20_000, 1..8),
    ) {
        let all = counted(pieces.iter().sum());
        let mut rest = &all[..];
        let gives = pieces.iter().map(|length| { let (piece, after) = rest.split_at(*length); rest = after; piece.to_vec() }).collect();
        let (mut io, _flush) = buffered(Peer { gives, ..Peer::default() });
        let got = run(async {
            let mut got = Vec::new();
            for ask in asks.iter().cycle() {
                let mut chunk = vec![0; *ask];
                match io.read(&mut chunk).await.unwrap() {
                    0 => break,
                    length => got.extend_from_slice(&chunk[..length]),
                }
            }
            got
        });
        prop_assert!(got == all);
    }
}
