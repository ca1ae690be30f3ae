//! What first bytes are taken for, whole and byte by byte.

use super::*;

const CASES: [(&[u8], Opening); 22] = [
    (PREFACE, Opening::Http2),
    (b"GET / HTTP/1.1\r\n\r\n", Opening::Http1),
    (b"GET /ready HTTP/1.0\n\n", Opening::Http1),
    (b"POST /v1/models/m:predict HTTP/1.1\r\n", Opening::Http1),
    (b"PUT / HTTP/1.1\r\n", Opening::Http1),
    (b"PROPFIND / HTTP/1.1\r\n", Opening::Http1),
    (b"VERSION-CONTROL / HTTP/1.1\r\n", Opening::Http1),
    (b"\x16\x03\x01\x02\x00\x01", Opening::Tls),
    (b"\x16\x03\x03\x02\x00\x01", Opening::Tls),
    (b"\x16\x04", Opening::Other),
    (b"PRI * HTTP/2.0\r\n\r\nSX", Opening::Other),
    (b"PRI * HTTP/1.1\r\n\r\n", Opening::Other),
    (b" / HTTP/1.1\r\n", Opening::Other),
    (b"get / HTTP/1.1\r\n", Opening::Other),
    (b"\r\nGET / HTTP/1.1", Opening::Http1),
    (b"\r\n\r\nGET / HTTP/1.1", Opening::Other),
    (b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Opening::Other),
    (b"SSH-2.0-OpenSSH_9.2\r\n", Opening::Other),
    (b"\0\0\0\x04\0\0\0\0\0", Opening::Other),
    (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Opening::Other),
    (b"GET", Opening::Other), // and then nothing
    (b"", Opening::Silent),
];

#[tokio::test]
async fn the_first_bytes_say_what_a_caller_speaks_however_they_come() {
    let end = Instant::now() + Duration::from_secs(10);
    for (bytes, expected) in CASES {
        let mut seen = Vec::new();
        let whole = read(&mut &*bytes, &mut seen, end).await.unwrap();
        assert_eq!(whole, expected, "{}", bytes.escape_ascii());
        assert_eq!(seen, bytes);
        let mut trickle = one_by_one(bytes);
        let mut seen = Vec::new();
        let single = read(&mut trickle, &mut seen, end).await.unwrap();
        assert_eq!(single, expected, "{} byte by byte", bytes.escape_ascii());
        assert!(bytes.starts_with(&seen));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_begin_is_waited_for_no_longer_than_its_time() {
    let (mut near, _far) = tokio::io::duplex(64);
    let end = Instant::now() + Duration::from_secs(3);
    let result = read(&mut near, &mut Vec::new(), end).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(Instant::now(), end);
}

/// A reader that gives one byte at a time.
fn one_by_one(bytes: &[u8]) -> impl AsyncRead + Unpin {
    bytes.iter().fold(
        Box::new(tokio::io::empty()) as Box<dyn AsyncRead + Unpin>,
        |before, &byte| Box::new(before.chain(io::Cursor::new([byte]))),
    )
}
