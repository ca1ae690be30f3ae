use fastrand::Rng;
use ring::{digest, hmac};

use super::signing::{Asked, FUTURE_S, PAST_S, Signature, Wrong};

const NOW: u64 = 1_764_000_000;
const ASKED: Asked<'_> = Asked {
    verb: "POST",
    path: "/tensorflow.serving.PredictionService/Predict",
    model: b"",
    version: b"2",
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn secret(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

/// Sign as docs/signing.md says, written down a second time.
fn signed(secret: &hmac::Key, asked: &Asked<'_>, body: &[u8], time: u64, nonce: &str) -> String {
    let digest = hex(digest::digest(&digest::SHA256, body).as_ref());
    let text = |bytes| std::str::from_utf8(bytes).expect("text");
    let content = format!(
        "x-signature 1\n{}\n{}\n{}\n{}\n{time}\n{nonce}\n{digest}",
        asked.verb,
        asked.path,
        text(asked.model),
        text(asked.version)
    );
    let mac = hex(hmac::sign(secret, content.as_bytes()).as_ref());
    format!("id=shop-1,time={time},nonce={nonce},digest={digest},mac={mac}")
}

fn good() -> String {
    signed(
        &secret(b"a secret"),
        &ASKED,
        b"body",
        NOW,
        "0123456789abcdef",
    )
}

#[test]
fn what_was_signed_is_taken_and_its_body_is_known() {
    let header = good();
    let signature = Signature::read(header.as_bytes()).expect("its form");
    assert_eq!((signature.id, signature.time), ("shop-1", NOW));
    assert_eq!(
        signature.check(Some(&secret(b"a secret")), &ASKED, NOW),
        Ok(())
    );
    for (parts, is_same) in [
        (&[&b"body"[..]][..], Ok(())),
        (&[b"bo", b"", b"dy"], Ok(())),
        (&[b"bodY"], Err(Wrong::Body)),
        (&[b"body", b"!"], Err(Wrong::Body)),
        (&[], Err(Wrong::Body)),
    ] {
        let mut body = signature.body();
        parts.iter().for_each(|part| body.update(part));
        assert_eq!(body.finish(), is_same, "{parts:?}");
    }
}

#[test]
fn a_signature_is_for_one_request_and_one_secret() {
    let header = good();
    let signature = Signature::read(header.as_bytes()).expect("its form");
    let right = secret(b"a secret");
    for asked in [
        Asked {
            verb: "GET",
            ..ASKED
        },
        Asked {
            path: "/tensorflow.serving.PredictionService/Classify",
            ..ASKED
        },
        Asked {
            model: b"other",
            ..ASKED
        },
        Asked {
            version: b"3",
            ..ASKED
        },
        Asked {
            version: b"",
            model: b"2",
            ..ASKED
        },
    ] {
        let checked = signature.check(Some(&right), &asked, NOW);
        assert_eq!(checked, Err(Wrong::Mac), "{asked:?}");
    }
    for wrong in [&b"another"[..], b"", b"a secret\0x"] {
        let checked = signature.check(Some(&secret(wrong)), &ASKED, NOW);
        assert_eq!(checked, Err(Wrong::Mac), "{wrong:?}");
    }
    assert_eq!(signature.check(None, &ASKED, NOW), Err(Wrong::Mac));
}

#[test]
fn nobody_has_the_secret_that_stands_in_for_none() {
    let header = signed(&secret(b""), &ASKED, b"body", NOW, "0123456789abcdef");
    let signature = Signature::read(header.as_bytes()).expect("its form");
    assert_eq!(signature.check(None, &ASKED, NOW), Err(Wrong::Mac));
}

#[test]
fn a_signature_is_good_for_a_while() {
    let right = secret(b"a secret");
    for (time, is_taken) in [
        (NOW - PAST_S, true),
        (NOW - PAST_S - 1, false),
        (NOW + FUTURE_S, true),
        (NOW + FUTURE_S + 1, false),
        (99_999_999_999, false),
    ] {
        let header = signed(&right, &ASKED, b"", time, "0123456789abcdef");
        let signature = Signature::read(header.as_bytes()).expect("its form");
        let checked = signature.check(Some(&right), &ASKED, NOW);
        let wanted = if is_taken { Ok(()) } else { Err(Wrong::Time) };
        assert_eq!(checked, wanted, "{time}");
    }
}

#[test]
fn only_one_way_of_writing_a_signature_is_read() {
    let header = good();
    let with = |from: &str, to: &str| header.replacen(from, to, 1);
    let long = "n".repeat(65);
    for wrong in [
        String::new(),
        "id=a".to_owned(),
        with("id=", "ID="),
        with("id=shop-1", "id="),
        with("id=shop-1", "id=sh op"),
        with("id=shop-1", "id=shöp"),
        with("id=", " id="),
        with(",time", ", time"),
        with("time=1", "time=+1"),
        with("time=1764000000", "time="),
        with("time=1764000000", "time=0"),
        with("time=1764000000", "time=01764000000"),
        with("time=1764000000", "time=000001764000000"),
        with("nonce=0123456789abcdef", "nonce=0123456789abcde"),
        with("nonce=0123456789abcdef", &format!("nonce={long}")),
        with("nonce=0123456789abcdef", "nonce=0123456789abcde\n"),
        with("digest=", "digest=0"),
        with("mac=", "digest=,mac="),
        format!("{header}0"),
        format!("{header},"),
        format!("{header},mac={}", "0".repeat(64)),
        header[..header.len() - 1].to_owned(),
        header.to_uppercase(),
        format!("{}A", &header[..header.len() - 1]),
    ] {
        assert_eq!(
            Signature::read(wrong.as_bytes()),
            Err(Wrong::Form),
            "{wrong}"
        );
    }
    assert_eq!(Signature::read(b"id=\xff"), Err(Wrong::Form));
}

#[test]
fn no_change_of_a_signature_is_taken() {
    let (header, right) = (good(), secret(b"a secret"));
    for seed in 0..20_000 {
        let mut random = Rng::with_seed(seed);
        let mut bytes = header.clone().into_bytes();
        for _ in 0..random.u8(1..=3) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] ^= 1 << random.u8(..8),
                2 => bytes.insert(at, random.alphanumeric() as u8),
                _ => drop(bytes.remove(at)),
            }
        }
        let Ok(signature) = Signature::read(&bytes) else {
            continue;
        };
        let is_renamed = bytes.ends_with(&header.as_bytes()[header.find(',').expect("one")..]);
        let checked = signature.check(Some(&right), &ASKED, NOW);
        // The id says which secret it is: with that secret, it is not a part of what is signed.
        assert!(
            checked.is_err() || is_renamed,
            "seed {seed}: {}",
            String::from_utf8_lossy(&bytes)
        );
    }
}
