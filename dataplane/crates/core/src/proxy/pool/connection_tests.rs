//! What becomes of calls when the socket of their connection fails.

use std::io::IoSlice;

use tokio::io::{AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::task::{LocalSet, yield_now};
use tokio::time::Instant;

use super::*;
use crate::headers::Token;
use crate::net::stream::Cause;

/// A socket whose writes fail from a moment on, as those to a process that is gone do, while what it sent is still there.
struct Failing {
    inner: DuplexStream,
    fails: Rc<Cell<bool>>,
}

impl AsyncRead for Failing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Failing {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.fails.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// `:status: 200`, two bytes, and trailers of one field, on stream 1.
const ANSWER: &[u8] = b"\0\0\x01\x01\x04\0\0\0\x01\x88\
    \0\0\x02\0\0\0\0\0\x01hi\
    \0\0\x05\x01\x05\0\0\0\x01\0\x01a\x01b";

/// A connection with a call, whose next write fails; the peer's side of it.
async fn failing() -> (Rc<Connection>, Driver<Failing>, Awaited, DuplexStream) {
    let (inner, mut peer) = tokio::io::duplex(1 << 16);
    peer.write_all(SETTINGS).await.unwrap();
    let fails = Rc::new(Cell::new(false));
    let io = Failing {
        inner,
        fails: fails.clone(),
    };
    let (connection, driver) = Connection::open(io, &config()).await.unwrap();
    let head = || Headers::from_iter([(Token::METHOD, "POST"), (Token::PATH, "/a.B/C")]);
    let (answer, mut sender) = connection.send(head).await.unwrap();
    sender.send("message".into(), true).unwrap();
    fails.set(true);
    (connection, driver, answer, peer)
}

fn config() -> ProxyConfig {
    let document = serde_json::json!({
        "listen": [],
        "admin": null,
        "workers": 1,
        "expose_endpoints": false,
        "admin_methods": false,
        "owns_models": false,
        "access_log": null,
        "tracing": null,
        "latency_buckets_ms": [],
        "limits": crate::testing::limits(),
        "upstream": {
            "route_scan_limit_bytes": 65_536,
            "max_retry_bytes": 65_536,
            "stream_window_bytes": 65_536,
            "max_unread_bytes": 65_536,
            "connect_timeout_ms": 1_000,
            "max_connections_per_endpoint": 1,
            "keepalive_ms": 0,
            "keepalive_timeout_ms": 20_000,
        },
        "uris": crate::testing::uris(),
    });
    serde_json::from_value(document).unwrap()
}

#[tokio::test]
async fn an_answer_that_was_sent_before_the_socket_failed_is_read() {
    let run = async {
        let (connection, driver, answer, mut peer) = failing().await;
        let driving = tokio::task::spawn_local(async move { driver.run(&connection).await });
        // The write has failed before the answer is there to be read.
        yield_now().await;
        peer.write_all(ANSWER).await.unwrap();
        drop(peer);
        let (_, _, mut body) = answer.await.unwrap();
        let chunk = poll_fn(|cx| body.poll_chunk(cx)).await;
        assert_eq!(chunk.unwrap().unwrap(), "hi");
        assert!(poll_fn(|cx| body.poll_chunk(cx)).await.is_none());
        let trailers = poll_fn(|cx| body.poll_trailers(cx)).await;
        assert!(trailers.unwrap().is_some());
        driving.await.unwrap();
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_failed_and_says_nothing_is_given_up_in_time() {
    let (connection, driver, answer, _peer) = failing().await;
    let start = Instant::now();
    driver.run(&connection).await;
    assert_eq!(start.elapsed().as_millis(), LAST_READS.as_millis());
    assert!(answer.await.is_err_and(|it| it.cause() == Cause::Lost));
}
