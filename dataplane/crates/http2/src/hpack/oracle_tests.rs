//! Against h2: its server reads what our encoder writes, and our decoder reads what its client writes.

use std::collections::BTreeMap;

use bytes::Bytes;
use h2::{client, server};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::decode::tests::list;
use super::{Decoder, Encoder, Most};
use crate::headers::{Headers, Token};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const TABLE_SIZE: u16 = 1;

const MOST: Most = Most {
    list_bytes: 1 << 20,
    fields: 1000,
};

/// Values by name, in order: a map keeps no order among names.
type Fields = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn table_size(size: u32) -> Vec<u8> {
    let mut setting = TABLE_SIZE.to_be_bytes().to_vec();
    setting.extend(size.to_be_bytes());
    setting
}

async fn read_frame(pipe: &mut DuplexStream) -> (u8, u8, Vec<u8>) {
    let mut head = [0; 9];
    pipe.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    pipe.read_exact(&mut payload).await.unwrap();
    (head[3], head[4], payload)
}

/// A small generator: the same numbers each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// Requests whose values repeat, differ, are long, and hold every byte that a value may hold.
fn requests(seed: u64, count: usize) -> Vec<Headers> {
    let mut numbers = Numbers(seed);
    let every_byte: Vec<u8> = (0x20..=0xff).filter(|&byte| byte != 0x7f).collect();
    let names = [
        "te",
        "user-agent",
        "x-request-id",
        "grpc-timeout",
        "cookie",
        "authorization",
        "x-of-others",
        "accept-encoding",
        "vary",
        "x-one-more",
        "grpc-accept-encoding",
        "content-language",
    ];
    let request = |_| {
        let path = format!("/package.Service/Method{}", numbers.below(9));
        let mut request = list(&[
            (":method", ["GET", "POST"][numbers.below(2)]),
            (":scheme", ["http", "https"][numbers.below(2)]),
            (
                ":authority",
                ["a.example", "b.example:8080"][numbers.below(2)],
            ),
            (":path", &path),
        ]);
        for _ in 0..numbers.below(9) {
            let name = names[numbers.below(names.len())].as_bytes();
            let from = numbers.below(every_byte.len());
            let to = from + numbers.below(every_byte.len() + 1 - from);
            let value = match numbers.below(6) {
                // Its one value.
                _ if name == b"te" => b"trailers".to_vec(),
                0 => b"".to_vec(),
                1 => format!("{:x}", numbers.below(1 << 30)).into_bytes(),
                2 => vec![b'a' + numbers.below(26) as u8; numbers.below(700)],
                // A value may not begin or end with a space.
                3 => [b"-", &every_byte[from..to], b"-"].concat(),
                n => vec![b'v'; n],
            };
            match numbers.below(9) {
                // A new value each time, as h2 writes the index of what its table has, marked or not.
                0 => {
                    let secret = format!("secret {}", numbers.below(1 << 30));
                    request.push_sensitive(b"x-token", secret.as_bytes());
                }
                _ => request.push(name, &value),
            }
        }
        request
    };
    (0..count).map(request).collect()
}

fn fields(list: &Headers) -> Fields {
    let mut fields = Fields::new();
    for field in list.iter() {
        let values = fields.entry(field.name.to_vec()).or_default();
        values.push(field.value.to_vec());
    }
    fields
}

/// What the h2 side has, as fields.
fn fields_of<B>(request: &Request<B>) -> Fields {
    let uri = request.uri();
    let pseudo = [
        (":method", request.method().as_str()),
        (":scheme", uri.scheme_str().unwrap()),
        (":authority", uri.authority().unwrap().as_str()),
        (":path", uri.path_and_query().unwrap().as_str()),
    ];
    let mut fields = fields(&list(&pseudo));
    for (name, value) in request.headers() {
        let values = fields.entry(name.as_str().into()).or_default();
        values.push(value.as_bytes().to_vec());
    }
    fields
}

fn to_request(list: &Headers) -> Request<()> {
    let text = |token| std::str::from_utf8(list.get(token).unwrap()).unwrap();
    let (scheme, host) = (text(Token::SCHEME), text(Token::AUTHORITY));
    let uri = format!("{scheme}://{host}{}", text(Token::PATH));
    let mut request = Request::builder().method(text(Token::METHOD)).uri(uri);
    let headers: &mut HeaderMap = request.headers_mut().unwrap();
    for field in list.iter().filter(|it| !it.name.starts_with(b":")) {
        let mut value = HeaderValue::from_bytes(field.value).unwrap();
        value.set_sensitive(field.is_sensitive);
        headers.append(HeaderName::from_bytes(field.name).unwrap(), value);
    }
    request.body(()).unwrap()
}

#[tokio::test]
async fn h2_reads_what_we_write_with_any_size_of_its_table() {
    for (seed, size) in [4096, 0, 100, 500, 65_536].into_iter().enumerate() {
        let lists = requests(seed as u64, 150);
        let (mut ours, theirs) = duplex(1 << 20);
        let mut encoder = Encoder::new();
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        bytes.extend(frame(SETTINGS, ACK, 0, &[]));
        for (turn, list) in lists.iter().enumerate() {
            if turn == 50 {
                encoder.set_max_size(size);
            }
            let mut block = Vec::new();
            encoder.encode(list, &mut block);
            // In two frames.
            let (head, rest) = block.split_at(block.len() / 2);
            let stream = 2 * turn as u32 + 1;
            bytes.extend(frame(HEADERS, END_STREAM, stream, head));
            bytes.extend(frame(CONTINUATION, END_HEADERS, stream, rest));
        }
        let writer = tokio::spawn(async move {
            ours.write_all(&bytes).await.unwrap();
            ours
        });
        let mut server = server::Builder::new();
        server
            .header_table_size(size.max(4096))
            .max_header_list_size(1 << 20);
        let mut server = server.handshake::<_, Bytes>(theirs).await.unwrap();
        for list in &lists {
            let (request, _respond) = server.accept().await.unwrap().unwrap();
            assert_eq!(fields_of(&request), fields(list));
        }
        drop(writer.await.unwrap());
    }
}

#[tokio::test]
async fn we_read_what_h2_writes_with_any_size_of_our_table() {
    for (seed, size) in [4096, 0, 100, 500, 65_536].into_iter().enumerate() {
        let lists = requests(100 + seed as u64, 150);
        let (mut ours, theirs) = duplex(1 << 20);
        ours.write_all(&frame(SETTINGS, 0, 0, &table_size(size)))
            .await
            .unwrap();
        let (client, connection) = client::Builder::new()
            .initial_max_send_streams(1000)
            .handshake::<_, Bytes>(theirs)
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let mut decoder = Decoder::new(size as usize);
        let mut preface = [0; PREFACE.len()];
        ours.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        for list in &lists {
            let mut sender = client.clone().ready().await.unwrap();
            let _response = sender.send_request(to_request(list), true).unwrap();
            let mut block = Vec::new();
            loop {
                let (kind, flags, payload) = read_frame(&mut ours).await;
                match kind {
                    HEADERS | CONTINUATION => {
                        block.extend(payload);
                        if flags & END_HEADERS > 0 {
                            break;
                        }
                    }
                    SETTINGS if flags & ACK > 0 => decoder.acknowledged(),
                    _ => {}
                }
            }
            let mut out = Headers::new();
            let decoded = decoder.decode(&block, &mut out, &MOST).unwrap();
            assert!(!decoded.is_cut);
            assert_eq!(fields(&out), fields(list));
            let marked = |list: &Headers| list.iter().filter(|it| it.is_sensitive).count();
            assert_eq!(marked(&out), marked(list));
        }
        connection.abort();
    }
}
