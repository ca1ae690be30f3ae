//! What a connection does in one turn of its task.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use dl_http2::{Config, Connection as Peering, Role};
use tokio::io::AsyncWriteExt;
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::headers::{Headers, Token};
use crate::net::stream::{Answer, Body, Head};

/// Keeps its calls.
#[derive(Default)]
struct Calls(RefCell<Vec<(Body, Answer, StreamGuard)>>);

impl Service for Calls {
    fn call(&self, _: Head, body: Body, answer: Answer, stream: StreamGuard) {
        self.0.borrow_mut().push((body, answer, stream));
    }
}

/// What a caller sends that makes so many calls at once.
fn burst(calls: usize) -> Vec<u8> {
    let config = Config {
        max_frame: 16_384,
        stream_window: 65_535,
        connection_window: 65_535,
        opens_on_receipt: true,
        max_streams: 0,
        max_list: 65_536,
        max_fields: usize::MAX,
        max_memory: usize::MAX,
        credit: None,
        max_faults: None,
    };
    let mut peer = Peering::new(Role::Client, config);
    let head = Headers::from_iter([
        (Token::METHOD, "POST"),
        (Token::SCHEME, "http"),
        (Token::PATH, "/a.B/C"),
        (Token::AUTHORITY, "m"),
    ]);
    for _ in 0..calls {
        peer.open(&head, false).unwrap();
    }
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    let count = peer.out().slices(&mut slices);
    slices[..count].iter().flat_map(|it| it.to_vec()).collect()
}

#[tokio::test]
async fn a_turn_takes_so_many_calls_and_leaves_the_rest_to_the_next() {
    let mut limits = crate::testing::limits();
    limits["max_streams"] = 1000.into();
    let server = Arc::new(Server::new(serde_json::from_value(limits).unwrap()));
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let taken = Rc::new(Calls::default());
    let most = Rc::new(Cell::new(0));
    theirs.write_all(&burst(500)).await.unwrap();
    let local = LocalSet::new();
    let (service, largest) = (taken.clone(), most.clone());
    let _serving = local.spawn_local(serve(ours, Peer::Unix, server, Arc::default(), service));
    local
        .run_until(async {
            // Tasks of a thread take turns.
            let watch = spawn_local(async move {
                let mut before = 0;
                poll_fn(|cx| {
                    let now = taken.0.borrow().len();
                    largest.set(largest.get().max(now - before));
                    before = now;
                    if now == 500 {
                        return Poll::Ready(());
                    }
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
            });
            timeout(Duration::from_secs(10), watch)
                .await
                .unwrap()
                .unwrap();
        })
        .await;
    assert_eq!(most.get(), MOST_CALLS);
}
