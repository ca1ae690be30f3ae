use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

const MAX_BYTES: usize = 1000;

fn config(hosts: &[&str], networks: &[&str]) -> UriConfig {
    let owned = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect();
    UriConfig {
        hosts: owned(hosts),
        networks: owned(networks),
        types: owned(&["image/*", "text/plain"]),
        max_bytes: MAX_BYTES,
        timeout_ms: 5000,
    }
}

/// That many bytes may be held.
const MAX_HELD: usize = 10 * MAX_BYTES;

fn made(config: &UriConfig) -> Result<Uris, String> {
    let held = HeldBytes::new(MAX_HELD, Arc::default());
    Uris::new(config, Arc::new(held))
}

fn uris(hosts: &[&str]) -> Arc<Uris> {
    Arc::new(made(&config(hosts, &["127.0.0.0/8"])).unwrap())
}

/// A server that answers by path; `{port}` in an answer is its own. Returns its port, and how often it was asked.
async fn server(answers: &'static [(&'static str, &'static str)]) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer(stream, port, answers));
        }
    });
    (port, asked)
}

async fn answer(mut stream: TcpStream, port: u16, answers: &[(&str, &str)]) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|it| it > 0) {}
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let found = answers.iter().find(|(known, _)| *known == path);
    let (_, text) = found.unwrap_or(&("", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"));
    let _ = stream
        .write_all(text.replace("{port}", &port.to_string()).as_bytes())
        .await;
    if path == "/hangs" {
        // Until the other side goes.
        let _ = stream.read_buf(&mut Vec::new()).await;
    }
}

async fn error(uris: &Uris, uri: &str) -> String {
    uris.fetch(uri).await.unwrap_err().to_string()
}

#[tokio::test]
async fn without_hosts_nothing_is_fetched() {
    let (port, asked) = server(&[]).await;
    let uris = made(&config(&[], &["127.0.0.0/8"])).unwrap();
    let error = error(&uris, &format!("http://127.0.0.1:{port}/")).await;
    assert!(
        error.starts_with("uri_denied") && error.contains("uris.hosts"),
        "{error}"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn data_comes_from_a_host_of_the_list_only() {
    let answers = &[
        (
            "/a?b=1",
            "HTTP/1.1 200 OK\r\ncontent-type: Image/PNG; x=1\r\ncontent-length: 2\r\n\r\nhi",
        ),
        (
            "/chunked",
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ),
        (
            "/moved",
            "HTTP/1.1 302 Found\r\nlocation: a?b=1\r\ncontent-length: 0\r\n\r\n",
        ),
    ];
    let (port, asked) = server(answers).await;
    let host = format!("localhost:{port}");
    let uris = uris(&[&host]);
    for path in ["a?b=1", "chunked", "moved"] {
        let fetched = uris.fetch(&format!("http://{host}/{path}")).await.unwrap();
        assert_eq!(fetched.bytes, "hi", "{path}");
    }
    assert_eq!(asked.swap(0, Ordering::Relaxed), 4);
    for uri in [
        format!("http://127.0.0.1:{port}/a?b=1"),
        format!("http://user:secret@{host}/a?b=1"),
        format!("ftp://{host}/a"),
        "file:///etc/passwd".to_owned(),
    ] {
        let error = error(&uris, &uri).await;
        assert!(error.starts_with("uri_denied"), "{error}");
        assert!(
            !error.contains("secret") && !error.contains("b=1"),
            "{error}"
        );
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_address_that_is_not_public_is_not_connected_to() {
    let (port, asked) = server(&[]).await;
    let host = format!("localhost:{port}");
    let literal = format!("127.0.0.1:{port}");
    let uris = made(&config(&[&host, &literal], &["10.0.0.0/8"])).unwrap();
    for host in [host, literal] {
        let error = error(&uris, &format!("http://{host}/")).await;
        assert!(
            error.starts_with("uri_denied") && error.contains("uris.networks"),
            "{error}"
        );
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_redirect_leads_nowhere_that_the_list_does_not_name() {
    let answers = &[
        (
            "/out",
            "HTTP/1.1 301 M\r\nlocation: http://127.0.0.1:{port}/secret\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "/file",
            "HTTP/1.1 308 M\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "/loop",
            "HTTP/1.1 302 M\r\nlocation: /loop\r\ncontent-length: 0\r\n\r\n",
        ),
        ("/nowhere", "HTTP/1.1 302 M\r\ncontent-length: 0\r\n\r\n"),
        (
            "/secret",
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nno",
        ),
    ];
    let (port, asked) = server(answers).await;
    let host = format!("localhost:{port}");
    let uris = uris(&[&host]);
    for (path, expected, times) in [
        ("out", "uri_denied", 1),
        ("file", "uri_denied", 1),
        ("loop", "more than 3 redirects", 4),
        ("nowhere", "without saying where", 1),
    ] {
        let error = error(&uris, &format!("http://{host}/{path}")).await;
        assert!(error.contains(expected), "{path}: {error}");
        assert_eq!(asked.swap(0, Ordering::Relaxed), times, "{path}");
    }
}

#[tokio::test]
async fn a_host_that_answers_badly_is_an_error_that_says_how() {
    let answers = &[
        (
            "/html",
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi",
        ),
        ("/untyped", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
        (
            "/large",
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1001\r\n\r\n",
        ),
        (
            "/cut",
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\nhi",
        ),
        ("/garbage", "SSH-2.0-OpenSSH\r\n\r\n"),
        (
            "/hangs",
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\nhi",
        ),
    ];
    let (port, _) = server(answers).await;
    let host = format!("localhost:{port}");
    let mut config = config(&[&host], &["127.0.0.0/8"]);
    config.timeout_ms = 1000;
    let uris = made(&config).unwrap();
    for (path, expected) in [
        (
            "html",
            "its type \"text/html\" is none of image/*, text/plain (uris.types)",
        ),
        ("untyped", "its type \"\" is none of"),
        (
            "large",
            "1001 bytes are over the limit of 1000 (uris.max_bytes)",
        ),
        ("cut", "broke off"),
        ("garbage", "broke off"),
        ("none", "answers 404"),
        ("hangs", "longer than 1000 ms (uris.timeout_ms)"),
    ] {
        let error = error(&uris, &format!("http://{host}/{path}")).await;
        assert!(error.contains(expected), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_body_without_a_length_ends_at_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("localhost:{}", listener.local_addr().unwrap().port());
    let sending = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // An answer before its request is none.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut head).await.unwrap();
        }
        let mut sent = 0;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
            .await;
        // Until the other side has had enough.
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {
            sent += 4096;
        }
        sent
    });
    let error = error(&uris(&[&host]), &format!("http://{host}/")).await;
    assert!(error.contains("over the limit of 1000"), "{error}");
    assert!(sending.await.unwrap() < 64 << 20);
}

#[tokio::test]
async fn several_are_fetched_together_and_each_has_its_own_error() {
    // Answers only when all are there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let mut streams = Vec::new();
        for _ in 0..AT_ONCE {
            streams.push(listener.accept().await.unwrap().0);
        }
        for stream in streams {
            let found = &[(
                "/",
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi",
            )];
            tokio::spawn(answer(stream, 0, found));
        }
    });
    let mut wanted = vec![format!("http://{host}/"); AT_ONCE];
    wanted.push("http://elsewhere.test/".to_owned());
    let fetched = uris(&[&host]).fetch_all(wanted).await.unwrap();
    let texts: Vec<String> = fetched
        .into_iter()
        .map(|it| {
            it.map_or_else(
                |error| error.kind.name().to_owned(),
                |it| format!("{:?}", it.bytes),
            )
        })
        .collect();
    assert_eq!(texts[..AT_ONCE], vec!["b\"hi\""; AT_ONCE]);
    assert_eq!(texts[AT_ONCE..], ["uri_denied"]);
}

#[tokio::test]
async fn https_needs_a_certificate_of_that_host() {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config_of_server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config_of_server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let _ = stream.read_buf(&mut Vec::with_capacity(1000)).await;
                let text =
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi";
                let _ = stream.write_all(text).await;
                let _ = stream.flush().await;
                let _ = stream.read_buf(&mut Vec::with_capacity(1000)).await;
            });
        }
    });
    let (name, literal) = (format!("localhost:{port}"), format!("127.0.0.1:{port}"));
    let uri = format!("https://{name}/");
    let mut uris = made(&config(&[&name, &literal], &["127.0.0.0/8"])).unwrap();
    let unknown = error(&uris, &uri).await;
    assert!(
        unknown.starts_with("uri_failed") && unknown.contains("TLS"),
        "{unknown}"
    );
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    uris.0.as_mut().unwrap().tls = Arc::new(tls);
    assert_eq!(uris.fetch(&uri).await.unwrap().bytes, "hi");
    let other = error(&uris, &format!("https://{literal}/")).await;
    assert!(other.contains("TLS"), "{other}");
}

#[test]
fn an_entry_that_cannot_be_read_is_named() {
    let error = made(&config(&["a/b"], &[])).unwrap_err();
    assert!(error.contains("\"a/b\""), "{error}");
    let error = made(&config(&[], &["x"])).unwrap_err();
    assert!(error.contains("\"x\""), "{error}");
}

#[tokio::test]
async fn what_is_fetched_counts_among_the_bytes_held_until_it_is_dropped() {
    let answers = &[(
        "/",
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi",
    )];
    let (port, _) = server(answers).await;
    let host = format!("localhost:{port}");
    let uri = format!("http://{host}/");
    let held = Arc::new(HeldBytes::new(3, Arc::default()));
    let uris = Uris::new(&config(&[&host], &["127.0.0.0/8"]), held.clone()).unwrap();
    let fetched = uris.fetch(&uri).await.unwrap();
    assert_eq!(held.bytes(), 2);
    let error = error(&uris, &uri).await;
    assert!(error.starts_with("shed"), "{error}");
    drop(fetched);
    assert_eq!(held.bytes(), 0);
    assert!(uris.fetch(&uri).await.is_ok());
}

#[tokio::test]
async fn a_request_that_names_too_many_is_refused_before_any_is_fetched() {
    let (port, asked) = server(&[]).await;
    let host = format!("localhost:{port}");
    let wanted = vec![format!("http://{host}/"); MAX_URIS + 1];
    let error = uris(&[&host]).fetch_all(wanted).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("257 data by URI, and at most 256"),
        "{error}"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}
