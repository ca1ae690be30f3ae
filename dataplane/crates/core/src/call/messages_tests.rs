//! Messages read from a real stream, cut in every way, and what they leave held.

use std::future::{Future, poll_fn};
use std::io::Write;
use std::task::Poll;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::Request;
use proptest::prelude::*;

use super::*;
use crate::testing::{frame, requests};

const LIMIT: usize = 100_000;
const STALL: Duration = Duration::from_secs(5);

fn budget(limit: usize) -> Arc<HeldBytes> {
    Arc::new(HeldBytes::new(limit, Arc::default()))
}

/// Send a request whose body comes in these chunks, and read its messages.
async fn reading<T>(
    chunks: Vec<Bytes>,
    encoding: &'static str,
    budget: &Arc<HeldBytes>,
    read: impl AsyncFnOnce(&mut Messages) -> T,
) -> T {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let caller = async {
        let (client, connection) = h2::client::handshake(theirs).await.unwrap();
        let send = async {
            let mut client = client.ready().await.unwrap();
            let request = Request::post("http://x/").header("grpc-encoding", encoding);
            let (_response, mut stream) = client
                .send_request(request.body(()).unwrap(), false)
                .unwrap();
            for chunk in chunks {
                // A reader that has had enough resets the stream.
                let _ = stream.send_data(chunk, false);
            }
            let _ = stream.send_data(Bytes::new(), true);
            std::future::pending::<()>().await;
        };
        tokio::join!(connection, send)
    };
    let reader = async {
        let request = std::cell::RefCell::default();
        let served = requests(ours, |head, body, answer| {
            *request.borrow_mut() = Some((head, body, answer));
        });
        let mut served = std::pin::pin!(served);
        let (head, body, _answer) = poll_fn(|cx| {
            assert!(served.as_mut().poll(cx).is_pending(), "the caller stays");
            request
                .borrow_mut()
                .take()
                .map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        let mut messages = Messages::new(&head.headers, body, LIMIT, budget.clone());
        tokio::select! {
            result = read(&mut messages) => result,
            () = served => unreachable!("the caller stays"),
        }
    };
    tokio::select! {
        result = reader => result,
        _ = caller => unreachable!("the caller stays"),
    }
}

async fn all(messages: &mut Messages) -> Result<Vec<Message>, Status> {
    let mut found = Vec::new();
    while let Some(message) = messages.next().await? {
        found.push(message);
    }
    Ok(found)
}

fn bytes_of(messages: &[Message]) -> Vec<&[u8]> {
    messages.iter().map(|message| &*message.bytes).collect()
}

fn compressed(message: &[u8]) -> Bytes {
    let mut frame = frame(message).to_vec();
    frame[0] = 1;
    frame.into()
}

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn what_is_held_is_what_the_messages_have_until_they_are_dropped() {
    let budget = budget(LIMIT);
    let chunks = vec![frame(&[1; 30_000]), frame(&[2; 7]), frame(b"")];
    let messages = reading(chunks, "identity", &budget, all).await.unwrap();
    assert_eq!(bytes_of(&messages), [&[1; 30_000][..], &[2; 7], b""]);
    assert_eq!(budget.bytes(), 30_007);
    drop(messages);
    assert_eq!(budget.bytes(), 0);
}

#[tokio::test]
async fn a_message_that_does_not_fit_beside_those_held_is_shed_and_leaves_nothing() {
    let budget = budget(10_000);
    let mut other = Held::new(budget.clone());
    other.grow(9_000).unwrap();
    let status = reading(vec![frame(&[1; 2_000])], "identity", &budget, all)
        .await
        .unwrap_err();
    assert_eq!(status.kind, Some(ErrorKind::Shed));
    assert_eq!(budget.bytes(), 9_000);
}

#[tokio::test]
async fn both_encodings_are_inflated_and_anything_else_is_said() {
    let text = [7; 50_000];
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&text).unwrap();
    for (encoding, body) in [("gzip", gzip(&text)), ("deflate", zlib.finish().unwrap())] {
        let budget = budget(LIMIT);
        let messages = reading(vec![compressed(&body)], encoding, &budget, all)
            .await
            .unwrap();
        assert_eq!(bytes_of(&messages), [&text[..]]);
        assert_eq!(budget.bytes(), body.len() + text.len());
    }
    for (encoding, body, kind) in [
        ("snappy", gzip(b"x"), ErrorKind::UnsupportedEncoding),
        ("identity", gzip(b"x"), ErrorKind::MissingEncoding),
        ("gzip", b"no gzip".to_vec(), ErrorKind::BadRequest),
        ("gzip", gzip(&[0; LIMIT + 1]), ErrorKind::MessageTooLarge),
    ] {
        let budget = budget(LIMIT);
        let status = reading(vec![compressed(&body)], encoding, &budget, all)
            .await
            .unwrap_err();
        assert_eq!(status.kind, Some(kind), "{encoding}");
        assert_eq!(budget.bytes(), 0);
    }
}

#[tokio::test]
async fn a_unary_request_has_one_message_and_an_end() {
    for (chunks, expected) in [
        (vec![frame(b"one")], Ok(&b"one"[..])),
        (vec![], Err("the request has no message")),
        (
            vec![frame(b"one"), frame(b"two")],
            Err("a unary call has one message, a second one came"),
        ),
        (
            vec![frame(b"one"), Bytes::from_static(b"\0")],
            Err("the request ended inside a message"),
        ),
    ] {
        let only = async |messages: &mut Messages| messages.only(None, STALL).await;
        let read = reading(chunks, "identity", &budget(LIMIT), only).await;
        match (read, expected) {
            (Ok(message), Ok(bytes)) => assert_eq!(&*message.bytes, bytes),
            (Err(status), Err(text)) => assert_eq!(status.message, text),
            (read, expected) => panic!("{read:?} for {expected:?}"),
        }
    }
}

#[tokio::test]
async fn what_comes_while_there_is_no_room_is_read_later() {
    let stash_then_all = async |messages: &mut Messages| {
        messages.stash().await?;
        messages.stash().await?;
        all(messages).await
    };
    let chunks = vec![frame(b"one"), frame(b"two"), frame(b"three")];
    let messages = reading(chunks, "identity", &budget(LIMIT), stash_then_all)
        .await
        .unwrap();
    assert_eq!(bytes_of(&messages), [&b"one"[..], b"two", b"three"]);
}

#[test]
fn a_small_end_of_a_large_chunk_does_not_keep_the_chunk() {
    let chunk = Bytes::from(vec![5; 16_384]);
    for (length, is_shared) in [(100, false), (16_000, true)] {
        let mut parts = Parts::new(&budget(LIMIT));
        let end = chunk.slice(chunk.len() - length..);
        parts.add(&end, &end, chunk.len()).unwrap();
        let message = parts.finish();
        assert_eq!(message.bytes, end);
        assert_eq!(message.bytes.as_ptr() == end.as_ptr(), is_shared);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40, rng_seed: proptest::test_runner::RngSeed::Fixed(10), ..ProptestConfig::default()
    })]

    #[test]
    fn messages_are_the_same_however_the_body_is_cut(
        sizes in prop::collection::vec(0_usize..20_000, 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let sent: Vec<Vec<u8>> = sizes.iter().map(|&size| (0..size).map(|i| i as u8).collect()).collect();
        let body: Bytes = sent.iter().flat_map(|message| frame(message)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|cut| body.slice(cut[0]..cut[1])).collect();
        let budget = budget(LIMIT);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let messages = runtime.block_on(reading(chunks, "identity", &budget, all)).unwrap();
        prop_assert_eq!(bytes_of(&messages), sent);
        prop_assert_eq!(budget.bytes(), sizes.iter().sum::<usize>());
    }
}
