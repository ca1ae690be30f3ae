//! Integers of RFC 7541 appendix C.1, and at the ends of each prefix.

use super::*;

fn written(value: usize, prefix: u32, pattern: u8) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, prefix, pattern, &mut out);
    out
}

#[test]
fn the_examples_of_the_rfc_are_written() {
    assert_eq!(written(10, 5, 0), [0b0000_1010]);
    assert_eq!(written(1337, 5, 0), [0b0001_1111, 0b1001_1010, 0b0000_1010]);
    assert_eq!(written(42, 8, 0), [0b0010_1010]);
    assert_eq!(written(1337, 5, 0xe0), [0xff, 0x9a, 0x0a]);
}

#[test]
fn any_number_is_read_as_it_was_written() {
    let ends = |bits: u32| {
        [
            (1_usize << bits) - 2,
            (1 << bits) - 1,
            1 << bits,
            (1 << bits) + 1,
        ]
    };
    let around = |prefix: u32| ends(prefix).map(|end| end + (1 << prefix) - 1);
    for prefix in 1..=8 {
        let sizes = [7, 14, 21, 28, 31].into_iter().flat_map(ends);
        let last = u32::MAX as usize;
        for value in ends(prefix)
            .into_iter()
            .chain(around(prefix))
            .chain(sizes)
            .chain([0, last])
        {
            let mut bytes = written(value, prefix, 0);
            bytes.push(7);
            let mut input = &bytes[..];
            assert_eq!(read(&mut input, prefix), Ok(value), "{value} in {prefix}");
            assert_eq!(input, [7]);
        }
    }
}

#[test]
fn more_than_32_bits_are_refused() {
    for prefix in 1..=8 {
        let bytes = written(u32::MAX as usize + 1, prefix, 0);
        assert_eq!(read(&mut &bytes[..], prefix), Err(Malformed));
    }
    assert_eq!(
        read(&mut &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f][..], 7),
        Err(Malformed)
    );
}

#[test]
fn a_number_that_ends_early_is_refused() {
    for bytes in [&[][..], &[0x7f], &[0x7f, 0x80], &[0x7f, 0xff, 0xff]] {
        assert_eq!(read(&mut &bytes[..], 7), Err(Malformed));
    }
}

#[test]
fn a_small_number_in_too_many_bytes_is_refused() {
    let five = [0x7f, 0x80, 0x80, 0x80, 0x80, 0x00];
    assert_eq!(read(&mut &five[..], 7), Ok(127));
    let six = [0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
    assert_eq!(read(&mut &six[..], 7), Err(Malformed));
}
