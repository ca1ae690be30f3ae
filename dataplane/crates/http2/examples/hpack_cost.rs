//! Count what header compression costs: `valgrind --tool=callgrind --toggle-collect='*measure*' hpack_cost request 1000`.
//! The first blocks fill the tables and are not counted.

use dl_http2::headers::{Headers, Token};
use dl_http2::hpack::{Decoder, Encoder, Most};

const MOST: Most = Most {
    list_bytes: 16 << 10,
    fields: 100,
};
const KINDS: usize = 16;

fn requests() -> Vec<Vec<Headers>> {
    let request = |n: usize| {
        let mut list = Headers::new();
        list.push(Token::METHOD, b"POST");
        list.push(Token::SCHEME, b"http");
        list.push(Token::PATH, b"/inference.GRPCInferenceService/ModelInf");
        list.push(Token::AUTHORITY, b"models.example.internal:8080");
        list.push(Token::TE, b"trailers");
        list.push(Token::CONTENT_TYPE, b"application/grpc");
        list.push(
            Token::USER_AGENT,
            b"grpc-python/1.76.0 grpc-c/51.0.0 (linux; chttp2)",
        );
        list.push(Token::GRPC_TIMEOUT, format!("{}m", 4980 + n).as_bytes());
        list.push(Token::GRPC_ACCEPT_ENCODING, b"identity, deflate, gzip");
        let id = 0x1234_5678_9abc_def0_u64.wrapping_mul(2 * n as u64 + 1);
        let id = format!(
            "{:08x}-{:04x}-4{:03x}-{:016x}",
            id >> 32,
            id >> 16 & 0xffff,
            id & 0xfff,
            !id
        );
        list.push(Token::X_REQUEST_ID, id.as_bytes());
        vec![list]
    };
    (0..KINDS).map(request).collect()
}

fn responses() -> Vec<Vec<Headers>> {
    let mut head = Headers::new();
    head.push(Token::STATUS, b"200");
    head.push(Token::CONTENT_TYPE, b"application/grpc");
    head.push(Token::GRPC_ACCEPT_ENCODING, b"identity, deflate, gzip");
    let mut trailers = Headers::new();
    trailers.push(Token::GRPC_STATUS, b"0");
    trailers.push(Token::GRPC_MESSAGE, b"");
    vec![vec![head, trailers]; KINDS]
}

#[inline(never)]
fn measure_encode(encoder: &mut Encoder, lists: &[Headers], out: &mut [Vec<u8>]) {
    for (list, block) in lists.iter().zip(out) {
        block.clear();
        encoder.encode(list, block);
    }
}

#[inline(never)]
fn measure_decode(decoder: &mut Decoder, blocks: &[Vec<u8>], list: &mut Headers) {
    for block in blocks {
        list.clear();
        let decoded = decoder.decode(block, list, &MOST).expect("our own block");
        assert!(!decoded.is_cut);
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let lists = match arguments.next().as_deref() {
        Some("responses") => responses(),
        _ => requests(),
    };
    let turns: usize = arguments
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1000);
    let (mut encoder, mut decoder, mut list) = (Encoder::new(), Decoder::new(4096), Headers::new());
    let mut blocks = vec![Vec::with_capacity(512); lists[0].len()];
    for turn in 0..turns {
        measure_encode(&mut encoder, &lists[turn % KINDS], &mut blocks);
        measure_decode(&mut decoder, &blocks, &mut list);
        assert_eq!(list, lists[turn % KINDS][blocks.len() - 1]);
    }
    let bytes: usize = blocks.iter().map(Vec::len).sum();
    let memory = (
        encoder.memory(),
        decoder.memory(),
        size_of::<Encoder>(),
        size_of::<Decoder>(),
    );
    eprintln!("{bytes} bytes a turn, memory (encoder, decoder, and inline) {memory:?}");
}
