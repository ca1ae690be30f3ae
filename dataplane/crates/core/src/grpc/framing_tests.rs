use proptest::prelude::*;

use super::*;

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut frame = crate::testing::frame(message).to_vec();
    frame[0] = flag;
    frame
}

/// Feed chunks and join what comes out: (compressed, bytes) of each complete message, and the rest.
fn walk(frames: &mut Frames, chunks: &[&[u8]]) -> Result<Vec<(bool, Vec<u8>)>, Error> {
    let mut done = Vec::new();
    let mut current = None;
    for chunk in chunks {
        let mut rest = *chunk;
        while let Some(event) = frames.next(&mut rest)? {
            match event {
                Event::Start { compressed, length } => {
                    assert!(current.is_none());
                    current = Some((length, compressed, Vec::new()));
                }
                Event::Data(data) => {
                    assert!(!data.is_empty());
                    current.as_mut().unwrap().2.extend_from_slice(data);
                }
                Event::End => {
                    let (length, compressed, message) = current.take().unwrap();
                    assert_eq!(length, message.len());
                    done.push((compressed, message));
                }
            }
        }
        assert!(rest.is_empty());
    }
    Ok(done)
}

#[test]
fn an_empty_body_is_complete_and_holds_no_message() {
    let mut frames = Frames::new(10);
    assert_eq!(walk(&mut frames, &[b""]).unwrap(), []);
    assert!(!frames.incomplete());
}

#[test]
fn an_empty_message_ends_with_its_prefix() {
    let mut frames = Frames::new(0);
    assert_eq!(
        walk(&mut frames, &[&frame(0, b"")]).unwrap(),
        [(false, Vec::new())]
    );
    assert!(!frames.incomplete());
}

#[test]
fn a_body_cut_anywhere_inside_a_message_is_incomplete() {
    let whole = frame(0, b"abc");
    for cut in 1..whole.len() {
        let mut frames = Frames::new(10);
        assert_eq!(walk(&mut frames, &[&whole[..cut]]).unwrap(), []);
        assert!(frames.incomplete(), "{cut}");
    }
}

#[test]
fn a_message_over_the_limit_is_refused_at_its_prefix() {
    let mut frames = Frames::new(3);
    let error = walk(&mut frames, &[&frame(0, b"abcd")[..PREFIX]]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::MessageTooLarge);
    assert!(error.message.contains("4 bytes") && error.message.contains("of 3"));
    assert!(walk(&mut Frames::new(4), &[&frame(0, b"abcd")]).is_ok());
}

#[test]
fn a_flag_other_than_0_and_1_is_refused() {
    let error = walk(&mut Frames::new(10), &[&frame(2, b"")]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRequest);
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(3), ..ProptestConfig::default() })]

    #[test]
    fn messages_are_the_same_under_any_chunking(
        messages in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let body: Vec<u8> = messages.iter().flat_map(|(flag, message)| frame(u8::from(*flag), message)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]).collect();
        let mut frames = Frames::new(100);
        prop_assert_eq!(walk(&mut frames, &chunks).unwrap(), messages);
        prop_assert!(!frames.incomplete());
    }

    #[test]
    fn arbitrary_bytes_never_panic(chunks in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
        let mut frames = Frames::new(1000);
        for chunk in &chunks {
            let mut rest = &chunk[..];
            while let Ok(Some(_)) = frames.next(&mut rest) {}
        }
    }
}

#[test]
fn a_chunk_that_is_passed_is_judged_as_one_whose_messages_are_read() {
    let bodies = [
        frame(0, b"abc"),
        frame(1, b""),
        [frame(0, b"abc"), frame(1, b"0123456789")].concat(),
        [frame(0, b"a"), frame(0, b"01234567890")].concat(),
        frame(2, b"abc"),
        frame(0, b"01234567890"),
    ];
    for body in &bodies {
        for cut in 0..=body.len() {
            let (mut read, mut passed) = (Frames::new(10), Frames::new(10));
            for chunk in [&body[..cut], &body[cut..]] {
                let mut rest = chunk;
                let expected = loop {
                    match read.next(&mut rest) {
                        Ok(Some(_)) => {}
                        Ok(None) => break None,
                        Err(error) => break Some(error.message),
                    }
                };
                let error = passed.pass(chunk).err().map(|error| error.message);
                assert_eq!(error, expected, "{body:?} at {cut}");
                if error.is_some() {
                    break;
                }
                assert_eq!(passed.incomplete(), read.incomplete());
            }
        }
    }
}
