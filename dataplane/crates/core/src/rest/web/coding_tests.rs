use std::sync::Arc;

use super::*;
use crate::call::limit::HeldBytes;

fn held(limit: usize) -> Held {
    Held::new(Arc::new(HeldBytes::new(limit, Arc::default())))
}

/// Bytes that get smaller, and not by too much.
fn text(length: usize) -> Bytes {
    let digits = (0u64..).flat_map(|it| (it * it % 9973).to_string().into_bytes());
    digits.take(length).collect()
}

fn request(name: Token, values: &[&str]) -> Headers {
    values.iter().map(|it| (name, it)).collect()
}

#[test]
fn an_answer_has_the_coding_that_its_caller_wants_most() {
    let cases: [(&[&str], Option<Coding>); 18] = [
        (&[], None),
        (&[""], None),
        (&["identity"], None),
        (&["br"], None),
        (&["gzip"], Some(Coding::Gzip)),
        (&["X-GZIP"], Some(Coding::Gzip)),
        (&["gzip, deflate, br, zstd"], Some(Coding::Zstd)),
        (&["deflate", "gzip"], Some(Coding::Gzip)),
        (&["deflate;q=1.0, gzip;q=0.5"], Some(Coding::Deflate)),
        (&["zstd;q=0.4,gzip ; q=0.5"], Some(Coding::Gzip)),
        (&["gzip;q=0"], None),
        (&["gzip;q=0, *"], Some(Coding::Zstd)),
        (&["*"], Some(Coding::Zstd)),
        (&["*;q=0"], None),
        (&["identity, gzip;q=0.5"], None),
        (&["identity;q=0.2, gzip;q=0.5"], Some(Coding::Gzip)),
        (&["gzip;q=x"], None),
        (&["gzip;level=1"], Some(Coding::Gzip)),
    ];
    for (values, expected) in cases {
        let headers = request(Token::ACCEPT_ENCODING, values);
        assert_eq!(Coding::wanted(&headers), expected, "{values:?}");
    }
}

#[test]
fn a_body_has_one_coding_or_is_refused() {
    let of = |values: &[&str]| {
        let found = Coding::of_body(&request(Token::CONTENT_ENCODING, values));
        found.map_err(|error| error.message.into_owned())
    };
    assert_eq!(of(&[]), Ok(None));
    assert_eq!(of(&["identity"]), Ok(None));
    assert_eq!(of(&["ZSTD"]), Ok(Some(Coding::Zstd)));
    assert_eq!(of(&["identity, x-gzip"]), Ok(Some(Coding::Gzip)));
    for values in [
        &["br"][..],
        &["gzip, gzip"],
        &["gzip", "zstd"],
        &["gzip, br"],
        &["br, gzip"],
    ] {
        let error = of(values).unwrap_err();
        assert!(error.contains(&values.join(", ")), "{error}");
        assert!(
            error.contains("only one of gzip, deflate and zstd"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_is_compressed_is_inflated_to_the_same_bytes() {
    for coding in Coding::ALL {
        // At once; on a thread beside; and in several blocks of Zstandard.
        for length in [MIN_BYTES, AT_ONCE, AT_ONCE + 1, 700_000] {
            let whole = text(length);
            let compressed = coding.compress(&whole).await.unwrap();
            assert!(compressed.len() < length * 9 / 10, "{coding:?} {length}");
            let budget = Arc::new(HeldBytes::new(1 << 20, Arc::default()));
            let held = Held::new(budget.clone());
            let (inflated, held) = coding.inflate(compressed, held, length).await.unwrap();
            assert_eq!(inflated, whole, "{coding:?} {length}");
            assert_eq!(budget.bytes(), length);
            drop(held);
            assert_eq!(budget.bytes(), 0);
        }
    }
}

#[tokio::test]
async fn what_would_not_get_smaller_stays_as_it_is() {
    let random: Bytes = (0..200_000).map(|_| fastrand::u8(..)).collect();
    for coding in Coding::ALL {
        assert_eq!(coding.compress(&text(MIN_BYTES - 1)).await, None);
        assert_eq!(coding.compress(&random).await, None, "{coding:?}");
        assert_eq!(coding.compress(&random.slice(..2000)).await, None);
    }
}

#[tokio::test]
async fn a_body_is_inflated_as_far_as_the_limits_go_and_no_farther() {
    for coding in Coding::ALL {
        for length in [1000, 3 << 20] {
            let bomb = coding.compressed(&vec![0; length]).unwrap();
            let bomb = Bytes::from(bomb);
            let error = coding
                .inflate(bomb.clone(), held(1 << 30), length - 1)
                .await;
            let error = error.unwrap_err();
            assert_eq!(error.kind, ErrorKind::MessageTooLarge, "{coding:?}");
            let error = coding.inflate(bomb.clone(), held(length - 1), length).await;
            assert_eq!(error.unwrap_err().kind, ErrorKind::Shed, "{coding:?}");
            assert!(coding.inflate(bomb, held(length), length).await.is_ok());
        }
    }
}

#[tokio::test]
async fn a_body_that_is_cut_or_changed_is_a_bad_request() {
    for coding in Coding::ALL {
        let whole = Bytes::from(coding.compressed(&text(5000)).unwrap());
        let cut = whole.slice(..whole.len() - 1);
        let mut changed = whole.to_vec();
        changed[whole.len() - 2] ^= 1;
        for broken in [cut, changed.into(), Bytes::from_static(b"{\"inputs\":[]}")] {
            let error = coding
                .inflate(broken, held(1 << 20), 1 << 20)
                .await
                .unwrap_err();
            assert_eq!(error.kind, ErrorKind::BadRequest);
            let expected = format!("the body is not valid {}: ", coding.name());
            assert!(error.message.starts_with(&expected), "{}", error.message);
        }
    }
}

#[tokio::test]
async fn frames_of_zstandard_follow_each_other_and_some_are_skipped() {
    let frame = |bytes: &[u8]| zstd::bulk::compress(bytes, ZSTD_LEVEL).unwrap();
    let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0xyz".to_vec();
    let body = [
        skipped.clone(),
        frame(b"one "),
        skipped.clone(),
        frame(b"two"),
        skipped,
    ]
    .concat();
    let (inflated, _held) = Coding::Zstd
        .inflate(body.into(), held(100), 100)
        .await
        .unwrap();
    assert_eq!(inflated, "one two");
    // A frame to skip that is longer than what is there.
    let cut = Bytes::from_static(b"\x50\x2a\x4d\x18\xff\xff\xff\xffxyz");
    assert!(Coding::Zstd.inflate(cut, held(100), 100).await.is_err());
}

#[tokio::test]
async fn a_frame_that_needs_a_large_window_is_refused() {
    // Window descriptor: exponent 14 and mantissa 0 are 16 MiB, exponent 13 is 8 MiB; then one empty last block.
    let frame = |exponent: u8| Bytes::from(vec![0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0]);
    assert!(
        Coding::Zstd
            .inflate(frame(13), held(100), 100)
            .await
            .is_ok()
    );
    let error = Coding::Zstd
        .inflate(frame(14), held(100), 100)
        .await
        .unwrap_err();
    assert!(error.message.contains("memory"), "{}", error.message);
}
