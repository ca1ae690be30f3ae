//! Blocks that are made to cost: memory is bounded by the limits, and work by the block's own bytes.

use super::decode::tests::{bytes, list};
use super::*;
use crate::headers::Headers;

const MOST: Most = Most {
    list_bytes: 16 << 10,
    fields: 100,
};
const MOST_MEMORY: usize = MOST.list_bytes + (8 << 10);

/// A literal that enters the table, with a name as a string.
fn entering(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut block = vec![0x40];
    for text in [name, value] {
        integer::write(text.len(), 7, 0, &mut block);
        block.extend(text);
    }
    block
}

fn read(decoder: &mut Decoder, block: &[u8], out: &mut Headers) -> bool {
    out.clear();
    let is_cut = decoder.decode(block, out, &MOST).unwrap().is_cut;
    assert!(out.size() <= MOST.list_bytes && out.len() <= MOST.fields);
    assert!(out.memory() <= MOST_MEMORY, "{} bytes", out.memory());
    assert!(decoder.memory() <= 16 << 10, "{} bytes", decoder.memory());
    is_cut
}

#[test]
fn references_to_a_large_field_are_not_copied_beyond_the_limit() {
    let (mut decoder, mut out) = (Decoder::new(4096), Headers::new());
    assert!(!read(
        &mut decoder,
        &entering(b"x-large", &[b'v'; 4000]),
        &mut out
    ));
    // A million of them: 4 GB if they were copied.
    assert!(read(&mut decoder, &vec![0xbe; 1 << 20], &mut out));
    assert_eq!(out.len(), 4);
}

#[test]
fn a_long_list_takes_little_more_memory_than_its_bytes() {
    let (mut decoder, mut out) = (Decoder::new(4096), Headers::new());
    // Buffers double as they grow.
    assert!(!read(
        &mut decoder,
        &entering(b"x-large", &[b'v'; 3000]),
        &mut out
    ));
    for references in 2..=5 {
        out = Headers::roomy();
        assert!(!read(&mut decoder, &vec![0xbe; references], &mut out));
        let most = out.size() + 3500;
        assert!(out.memory() < most, "{} of {}", out.memory(), out.size());
        // What a proxy adds to it does not double it either.
        for _ in 0..8 {
            out.push("x-added", [b'v'; 50]);
        }
        assert!(out.memory() < most, "{} of {}", out.memory(), out.size());
    }
}

#[test]
fn references_to_small_fields_stop_at_the_number_of_fields() {
    let (mut decoder, mut out) = (Decoder::new(4096), Headers::new());
    assert!(read(&mut decoder, &[0x82; 16 << 10], &mut out));
    assert_eq!(out.len(), MOST.fields);
}

#[test]
fn a_string_that_grows_in_huffmans_code_takes_no_memory_beyond_the_limit() {
    // '0' is five bits: 40,000 bytes in 25,000.
    let code = vec![0; 25_000];
    for form in [0x04, 0x14, 0x44] {
        let (mut decoder, mut out) = (Decoder::new(4096), Headers::new());
        let mut block = vec![form];
        integer::write(code.len(), 7, 0x80, &mut block);
        block.extend(&code);
        assert!(read(&mut decoder, &block, &mut out));
        assert_eq!(out.len(), 0);
    }
}

#[test]
fn what_is_beyond_the_limit_still_enters_the_table() {
    let (mut decoder, mut out) = (Decoder::new(4096), Headers::new());
    let mut block = vec![0x82; MOST.fields];
    block.extend(entering(b"x-plain", b"one"));
    block.extend(bytes_of_huffman());
    assert!(read(&mut decoder, &block, &mut out));
    assert!(!read(&mut decoder, &[0xbe, 0xbf], &mut out));
    assert_eq!(out.get(b"custom-key"), Some(&b"custom-value"[..]));
    assert_eq!(out.get(b"x-plain"), Some(&b"one"[..]));
}

/// custom-key: custom-value, from RFC 7541 C.4.3.
fn bytes_of_huffman() -> Vec<u8> {
    bytes("4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf")
}

#[test]
fn what_is_beyond_the_limit_and_larger_than_the_table_empties_it() {
    for text in [entering(b"x-large", &[b'v'; 4090]), huffman_of_5000()] {
        let (mut decoder, mut out) = (Decoder::new(4096), Headers::new());
        let mut block = entering(b"x-before", b"");
        block.extend([0x82; MOST.fields]);
        block.extend(text);
        assert!(read(&mut decoder, &block, &mut out));
        assert_eq!(decoder.fields(), []);
    }
}

/// :path and 5,000 zeros.
fn huffman_of_5000() -> Vec<u8> {
    let mut block = vec![0x44];
    integer::write(3125, 7, 0x80, &mut block);
    block.extend([0; 3125]);
    block
}

#[test]
fn what_is_beyond_the_limit_is_still_checked() {
    let (mut decoder, mut out) = (Decoder::new(4096), Headers::new());
    for bad in [
        &[0x04, 0x81, 0x1e][..],
        &[0x44, 0x81, 0x1e],
        &[0xbe],
        &[0x80],
    ] {
        let mut block = vec![0x82; MOST.fields + 1];
        block.extend(bad);
        assert_eq!(
            decoder.decode(&block, &mut out, &MOST),
            Err(Malformed),
            "{bad:x?}"
        );
    }
}

#[test]
fn a_long_name_that_enters_again_and_again_is_shared() {
    let (mut decoder, mut out) = (Decoder::new(4096), Headers::new());
    read(&mut decoder, &entering(&[b'n'; 1300], b""), &mut out);
    // Two bytes each: the name of the newest, and an empty value. Copies would be 680 MB.
    let block = [0x7e, 0x00].repeat(512 << 10);
    assert!(read(&mut decoder, &block, &mut out));
    assert_eq!(decoder.fields().len(), 3);
    assert!(decoder.shares_names());
}

#[test]
fn a_long_name_gives_its_memory_back() {
    let (mut decoder, mut out) = (Decoder::new(4096), Headers::new());
    let mut block = vec![0x00];
    integer::write(10_000, 7, 0x80, &mut block);
    block.extend([0; 10_000]);
    block.push(0);
    assert!(!read(&mut decoder, &block, &mut out));
    assert_eq!(
        out.iter().next().map(|field| field.name.len()),
        Some(16_000)
    );
    assert_eq!(decoder.memory(), 0);
}

#[test]
fn a_connection_that_did_nothing_holds_next_to_no_memory() {
    let (encoder, decoder) = (Encoder::new(), Decoder::new(64 << 10));
    assert_eq!(encoder.memory() + decoder.memory(), 0);
    assert!(size_of::<Encoder>() + size_of::<Decoder>() <= 512);
}

// === Just at the limits ===

#[test]
fn a_list_of_just_the_limit_is_whole_and_one_byte_less_cuts_it() {
    let table = "44 01 61 40 01 78 01 62"; // :path a, 38 bytes; x b, 34 bytes
    let forms = [
        ("82", 42),                // :method GET
        ("be", 34),                // from the table
        ("bf", 38),                // with a known name
        ("04 01 63", 38),          // a literal
        ("04 81 1f", 38),          // one in Huffman's code
        ("44 84 00 00 00 03", 43), // to be indexed; six zeros and padding
        ("00 01 78 01 63", 34),    // of another name
        ("0f 2f 01 63", 34),       // the same, from the table
        ("00 81 f3 81 1f", 34),    // x, in Huffman's code
    ];
    for (dump, size) in forms {
        for (list_bytes, fields, is_cut) in [(size, 1, false), (size - 1, 1, true), (size, 0, true)]
        {
            let mut decoder = Decoder::new(4096);
            assert!(!read(&mut decoder, &bytes(table), &mut Headers::new()));
            let mut out = Headers::new();
            let most = Most { list_bytes, fields };
            let decoded = decoder.decode(&bytes(dump), &mut out, &most).unwrap();
            assert_eq!(decoded, Decoded { is_cut }, "{dump} in {list_bytes}");
            assert_eq!(out.size(), if is_cut { 0 } else { size });
        }
    }
}

#[test]
fn what_a_list_holds_already_counts() {
    let mut decoder = Decoder::new(4096);
    let mut out = list(&[("te", "trailers")]); // 42 bytes
    let most = Most {
        list_bytes: 84,
        fields: 2,
    };
    assert_eq!(
        decoder.decode(&[0x82], &mut out, &most),
        Ok(Decoded { is_cut: false })
    );
    assert_eq!(
        decoder.decode(&[0x82], &mut out, &most),
        Ok(Decoded { is_cut: true })
    );
    assert_eq!(out.len(), 2);
}

#[test]
fn nothing_follows_the_first_field_that_is_left_away() {
    let mut decoder = Decoder::new(4096);
    let mut out = Headers::new();
    let most = Most {
        list_bytes: 42 + 41,
        fields: 9,
    };
    // The second is a byte too many; the third, :path /, would fit.
    assert_eq!(
        decoder.decode(&[0x82, 0x82, 0x84], &mut out, &most),
        Ok(Decoded { is_cut: true })
    );
    assert_eq!(out, list(&[(":method", "GET")]));
}
