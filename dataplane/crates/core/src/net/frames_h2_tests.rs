//! Floods and honest traffic against the real h2 server behind the wrapper.

use std::future::poll_fn;

use bytes::Bytes;
use h2::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::Frames;
use super::tests::{PREFACE, control_frames, frame, ping};

/// A server that answers each call with `chunks` x `size` bytes, and closes as the connection's driver does.
async fn serve(io: DuplexStream, credit: u32, chunks: usize, size: usize) -> Option<&'static str> {
    let (frames, state) = Frames::new(io, credit, 10);
    let mut connection = h2::server::Builder::new()
        .handshake::<_, Bytes>(frames)
        .await
        .expect("a preface");
    let mut has_closed = false;
    loop {
        let accepted = poll_fn(|cx| {
            if state.flooded().is_some() && !has_closed {
                has_closed = true;
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            connection.poll_accept(cx)
        });
        let Some(Ok((request, mut respond))) = accepted.await else {
            return state.flooded();
        };
        tokio::task::spawn_local(async move {
            let mut body = request.into_body();
            while let Some(Ok(chunk)) = body.data().await {
                let _ = body.flow_control().release_capacity(chunk.len());
            }
            // The client may be gone; then there is nobody to answer.
            let Ok(mut out) = respond.send_response(http::Response::new(()), chunks == 0) else {
                return;
            };
            for i in 0..chunks {
                out.reserve_capacity(size);
                while out.capacity() < size && poll_fn(|cx| out.poll_capacity(cx)).await.is_some() {
                }
                let _ = out.send_data(Bytes::from(vec![0; size]), i + 1 == chunks);
            }
        });
    }
}

fn local<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// The error code of the GOAWAY frame in these bytes.
fn goaway_code(bytes: &[u8]) -> Option<u32> {
    let mut rest = bytes;
    while let [a, b, c, kind, ..] = *rest {
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let payload = rest.get(9..9 + length)?;
        if kind == 7 {
            return Some(u32::from_be_bytes(payload[4..8].try_into().ok()?));
        }
        rest = &rest[9 + length..];
    }
    None
}

#[test]
fn a_flood_of_any_control_frame_ends_in_goaway_enhance_your_calm() {
    // What h2 itself answers with an error of its own is not a flood to us.
    let own = [
        "goaway_flood",
        "empty_data_flood",
        "rst_stream_flood",
        "ping_ack_flood",
        "settings_ack_flood",
    ];
    for (bytes, name) in control_frames()
        .into_iter()
        .filter(|row| !own.contains(&row.1))
    {
        local(async {
            let (client, server) = duplex(64 * 1024);
            let served = tokio::task::spawn_local(serve(server, 1000, 0, 0));
            let (mut reader, mut writer) = tokio::io::split(client);
            let flood = tokio::task::spawn_local(async move {
                let bytes = [PREFACE, &frame(4, 0, 0, &[]), &bytes.repeat(20_000)].concat();
                // The server closes before it has read all of it.
                let _ = writer.write_all(&bytes).await;
            });
            let mut answer = Vec::new();
            reader
                .read_to_end(&mut answer)
                .await
                .expect("the server closes its side");
            let reason = served.await.expect("the server ends");
            drop(reader);
            flood.abort();
            assert_eq!(reason, Some(name));
            assert_eq!(
                goaway_code(&answer),
                Some(u32::from(Reason::ENHANCE_YOUR_CALM)),
                "{name}"
            );
        });
    }
}

#[test]
fn an_ordinary_client_sends_10_000_requests_with_a_small_credit() {
    local(async {
        let (client, server) = duplex(64 * 1024);
        let served = tokio::task::spawn_local(serve(server, 50, 1, 100));
        let (send, connection) = h2::client::handshake(client).await.expect("a handshake");
        let connection = tokio::task::spawn_local(connection);
        let mut send = send.ready().await.expect("a connection");
        for _ in 0..10_000 {
            let request = http::Request::post("http://a/b")
                .body(())
                .expect("a request");
            let (response, mut body) = send.send_request(request, false).expect("a stream");
            body.send_data(Bytes::from_static(b"12345"), true)
                .expect("room");
            let mut answer = response.await.expect("an answer").into_body();
            while let Some(chunk) = answer.data().await {
                let chunk = chunk.expect("a chunk");
                answer
                    .flow_control()
                    .release_capacity(chunk.len())
                    .expect("a window");
            }
            send = send.ready().await.expect("a connection");
        }
        drop(send);
        connection.await.expect("no panic").expect("a clean end");
        assert_eq!(served.await.expect("no panic"), None);
    });
}

#[test]
fn a_client_that_pings_and_opens_windows_for_each_data_frame_is_not_a_flood() {
    local(async {
        let (client, server) = duplex(64 * 1024);
        let served = tokio::task::spawn_local(serve(server, 1000, 5000, 20));
        let (mut reader, mut writer) = tokio::io::split(client);
        // HPACK: POST, http, /, and no more.
        let request = frame(1, 0x5, 1, b"\x83\x86\x84\x01\x01a");
        writer
            .write_all(&[PREFACE, &frame(4, 0, 0, &[]), &request].concat())
            .await
            .expect("room");
        let update = [0, 0, 0, 20];
        let mut bytes = 0;
        while bytes < 5000 * 20 {
            let mut head = [0; 9];
            reader.read_exact(&mut head).await.expect("a frame");
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            reader.read_exact(&mut payload).await.expect("a payload");
            if head[3] == 0 {
                bytes += payload.len();
                let answer = [ping(), frame(8, 0, 0, &update), frame(8, 0, 1, &update)].concat();
                writer.write_all(&answer).await.expect("room");
            }
        }
        writer.shutdown().await.expect("a clean end");
        drop((reader, writer));
        assert_eq!(served.await.expect("no panic"), None);
    });
}
