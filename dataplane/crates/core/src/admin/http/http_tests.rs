use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use flate2::read::GzDecoder;

use super::*;

#[derive(Default)]
struct Pages {
    is_ready: AtomicBool,
    has_remarks: AtomicBool,
}

impl AdminPages for Pages {
    fn metrics(&self) -> String {
        "dl_draining 0\n".repeat(1_000)
    }
    fn status_json(&self) -> String {
        "{\"ready\":true}".to_owned()
    }
    fn ready(&self) -> Result<(), String> {
        if self.is_ready.load(SeqCst) {
            Ok(())
        } else {
            Err("draining".to_owned())
        }
    }
    fn order(&self, action: &str, model: &str) -> Option<Ordered> {
        match (action, model) {
            ("load", "a b") => Some(Ordered::Given(7)),
            ("unload", _) => Some(Ordered::Denied),
            _ => None,
        }
    }
    fn remarks(&self) -> Vec<String> {
        let lines = ["source a is gone".to_owned(), "source b, too".to_owned()];
        lines
            .into_iter()
            .filter(|_| self.has_remarks.load(SeqCst))
            .collect()
    }
}

fn bound(address: &str) -> Bound {
    (Arc::new(Listener::bind(address).unwrap()), None)
}

fn start() -> (String, AdminServer, Arc<Pages>) {
    let pages = Arc::new(Pages::default());
    let bound = bound("127.0.0.1:0");
    let address = bound.0.address().unwrap();
    let server = AdminServer::start(bound, pages.clone()).unwrap();
    (address, server, pages)
}

/// Send one request that asks to close, and return (head, body).
fn exchange(mut stream: impl Read + Write, request: &str) -> (String, Vec<u8>) {
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let split = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let body = answer.split_off(split + 4);
    (
        String::from_utf8(answer).unwrap().to_ascii_lowercase(),
        body,
    )
}

fn get(address: &str, request: &str) -> (String, String) {
    let (head, body) = exchange(TcpStream::connect(address).unwrap(), request);
    (head, String::from_utf8(body).unwrap())
}

#[test]
fn each_page_answers_with_its_type() {
    let (address, _server, _) = start();
    for (path, content_type, beginning) in [
        (
            "/metrics",
            "text/plain; version=0.0.4; charset=utf-8",
            "dl_draining 0\n",
        ),
        ("/status", "application/json", "{\"ready\":true}"),
        ("/live", "text/plain; charset=utf-8", "live\n"),
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        (
            "/metrics?x=1",
            "text/plain; version=0.0.4; charset=utf-8",
            "dl_draining 0\n",
        ),
    ] {
        let (head, body) = get(&address, &format!("GET {path}"));
        assert!(head.starts_with("http/1.1 200 "), "{path}: {head}");
        assert!(
            head.contains(&format!("content-type: {content_type}\r\n")),
            "{path}: {head}"
        );
        assert!(body.starts_with(beginning), "{path}: {body}");
    }
}

#[test]
fn ready_follows_its_source_and_says_why_not() {
    let (address, _server, pages) = start();
    let (head, body) = get(&address, "GET /ready");
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(body, "draining\n");
    pages.is_ready.store(true, SeqCst);
    let (head, body) = get(&address, "GET /ready");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body, "ready\n");
}

#[test]
fn remarks_follow_behind_what_ready_says_and_change_no_status() {
    let (address, _server, pages) = start();
    pages.has_remarks.store(true, SeqCst);
    let (head, body) = get(&address, "GET /ready");
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(body, "draining\nsource a is gone\nsource b, too\n");
    pages.is_ready.store(true, SeqCst);
    let (head, body) = get(&address, "GET /ready");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body, "ready\nsource a is gone\nsource b, too\n");
}

#[test]
fn other_pages_are_404_and_other_methods_405() {
    let (address, _server, _) = start();
    assert!(
        get(&address, "GET /metrics/x")
            .0
            .starts_with("http/1.1 404 ")
    );
    assert!(
        get(&address, "POST /nothing")
            .0
            .starts_with("http/1.1 404 ")
    );
    let (head, _) = get(&address, "POST /metrics");
    assert!(
        head.starts_with("http/1.1 405 ") && head.contains("allow: get, head\r\n"),
        "{head}"
    );
}

#[test]
fn an_order_is_taken_only_as_a_post_with_the_header_that_web_pages_cannot_send() {
    let (address, _server, _) = start();
    let post = |path: &str, header: &str| {
        let request = format!("{path} HTTP/1.1\r\n{header}: x\r\nx-rest:");
        let (head, body) = exchange(TcpStream::connect(&address).unwrap(), &request);
        let status = head.split(' ').nth(1).unwrap().to_owned();
        (status, String::from_utf8(body).unwrap())
    };
    let order = |path: &str| post(path, "x-dl-inference");
    let taken = ("202".to_owned(), "{\"order\":7}".to_owned());
    assert_eq!(order("POST /models/a%20b/load"), taken);
    assert_eq!(order("POST /models/a%20b/unload").0, "403");
    for path in [
        "POST /models/c/load",
        "POST /models/a%2/load",
        "POST /models/load",
    ] {
        assert_eq!(order(path).0, "404", "{path}");
    }
    assert_eq!(post("POST /models/a%20b/load", "x-other").0, "405");
    assert_eq!(order("GET /models/a%20b/load").0, "405");
}

#[test]
fn head_answers_the_head_of_get_without_its_body() {
    let (address, _server, _) = start();
    let (head, body) = get(&address, "HEAD /metrics");
    assert!(
        head.starts_with("http/1.1 200 ") && head.contains("content-length: 14000\r\n"),
        "{head}"
    );
    assert_eq!(body, "");
}

#[test]
fn metrics_are_compressed_when_asked() {
    let (address, _server, _) = start();
    let stream = TcpStream::connect(&address).unwrap();
    let (head, body) = exchange(
        stream,
        "GET /metrics HTTP/1.1\r\naccept-encoding: gzip\r\nx-rest:",
    );
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    assert!(body.len() < 1_000);
    let mut text = String::new();
    GzDecoder::new(body.as_slice())
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "dl_draining 0\n".repeat(1_000));
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let (address, _server, _) = start();
    let mut stream = TcpStream::connect(&address).unwrap();
    for _ in 0..3 {
        stream
            .write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"live\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    }
}

#[test]
fn garbage_and_oversized_heads_are_refused_and_others_go_on() {
    let (address, _server, _) = start();
    for request in [
        b"\x16\x03\x01\x02\x00 garbage\r\n\r\n".to_vec(),
        vec![b'a'; 100_000],
    ] {
        let mut stream = TcpStream::connect(&address).unwrap();
        // The server may close before all of it is written.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{answer:?}"
        );
    }
    assert!(get(&address, "GET /live").0.starts_with("http/1.1 200 "));
}

#[test]
fn a_caller_that_opens_every_connection_delays_others_only_until_it_closes_one() {
    let (address, _server, _) = start();
    let mut held: Vec<_> = (0..MAX_CONNECTIONS)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    for stream in &mut held {
        // An answer proves that the connection has been accepted.
        stream
            .write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
            .unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    let waiting = {
        let address = address.clone();
        std::thread::spawn(move || get(&address, "GET /live").0)
    };
    drop(held.pop());
    assert!(waiting.join().unwrap().starts_with("http/1.1 200 "));
}

#[test]
fn a_unix_socket_works_and_its_file_goes_at_the_stop() {
    let path = std::env::temp_dir().join(format!("dl-admin-{}.sock", std::process::id()));
    let address = format!("unix:{}", path.display());
    let bound = bound(&address);
    assert_eq!(bound.0.address().unwrap(), address);
    let server = AdminServer::start(bound, Arc::new(Pages::default())).unwrap();
    let (head, body) = exchange(UnixStream::connect(&path).unwrap(), "GET /live");
    assert!(head.starts_with("http/1.1 200 "));
    assert_eq!(body, b"live\n");
    server.stop();
    assert!(!path.exists());
}

#[test]
fn after_the_stop_connections_are_closed_and_the_port_is_free() {
    let (address, server, _) = start();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream
        .write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    stream.read_exact(&mut [0]).unwrap();
    server.stop();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(TcpStream::connect(&address).is_err());
}

/// Paused time: what takes 20 s and more is proved at once.
#[tokio::test(start_paused = true)]
async fn a_silent_caller_is_cut_off_and_an_old_connection_ends_with_its_next_answer() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut caller, stream) = tokio::io::duplex(1_024);
    let task = tokio::spawn(serve(stream, Arc::new(Pages::default()), Arc::default()));
    caller.write_all(b"GET /live HT").await.unwrap();
    task.await.unwrap();
    let mut rest = Vec::new();
    caller.read_to_end(&mut rest).await.unwrap();

    let begun = tokio::time::Instant::now();
    let (mut caller, stream) = tokio::io::duplex(1_024);
    let task = tokio::spawn(serve(stream, Arc::new(Pages::default()), Arc::default()));
    while caller
        .write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .is_ok()
    {
        if caller.read(&mut [0; 1_024]).await.unwrap() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    task.await.unwrap();
    let age = begun.elapsed();
    assert!(
        age >= MAX_AGE && age <= MAX_AGE + GRACE + Duration::from_secs(10),
        "{age:?}"
    );
}
