//! Blocks of RFC 7541 appendix C byte for byte, and blocks that break its rules.

use super::*;
pub(crate) use crate::testing::list;

pub(crate) const MOST: Most = Most {
    list_bytes: 64 << 10,
    fields: 100,
};

/// Bytes of a dump as the RFC prints it.
pub(crate) fn bytes(dump: &str) -> Vec<u8> {
    let digits: Vec<u8> = dump.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Headers, Malformed> {
    let mut out = Headers::new();
    let decoded = decoder.decode(block, &mut out, &MOST)?;
    assert!(!decoded.is_cut);
    Ok(out)
}

fn read_dump(decoder: &mut Decoder, dump: &str) -> Headers {
    read(decoder, &bytes(dump)).unwrap()
}

#[track_caller]
fn refuses(dump: &str) {
    let mut decoder = Decoder::new(4096);
    assert_eq!(read(&mut decoder, &bytes(dump)), Err(Malformed), "{dump}");
}

// === Appendix C ===

#[test]
fn c2_1_a_literal_with_indexing_enters_the_table() {
    let mut decoder = Decoder::new(4096);
    let dump = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    let expected = list(&[("custom-key", "custom-header")]);
    assert_eq!(read_dump(&mut decoder, dump), expected);
    assert_eq!(read_dump(&mut decoder, "be"), expected);
    assert_eq!(decoder.table.size(), 55);
}

#[test]
fn c2_2_a_literal_without_indexing_does_not() {
    let mut decoder = Decoder::new(4096);
    let dump = "040c 2f73 616d 706c 652f 7061 7468";
    assert_eq!(
        read_dump(&mut decoder, dump),
        list(&[(":path", "/sample/path")])
    );
    assert_eq!(decoder.table.len(), 0);
}

#[test]
fn c2_3_a_literal_never_indexed_keeps_its_mark() {
    let mut decoder = Decoder::new(4096);
    let dump = "1008 7061 7373 776f 7264 0673 6563 7265 74";
    let mut expected = Headers::new();
    expected.push_sensitive(b"password", b"secret");
    assert_eq!(read_dump(&mut decoder, dump), expected);
    assert_eq!(decoder.table.len(), 0);
}

#[test]
fn c2_4_an_index_is_a_field_of_the_static_table() {
    let mut decoder = Decoder::new(4096);
    assert_eq!(read_dump(&mut decoder, "82"), list(&[(":method", "GET")]));
}

fn requests(dumps: [&str; 3]) {
    let first = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ];
    let third = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    let mut decoder = Decoder::new(4096);
    assert_eq!(read_dump(&mut decoder, dumps[0]), list(&first));
    assert_eq!(decoder.table.size(), 57);
    let mut second = first.to_vec();
    second.push(("cache-control", "no-cache"));
    assert_eq!(read_dump(&mut decoder, dumps[1]), list(&second));
    assert_eq!(decoder.table.size(), 110);
    assert_eq!(read_dump(&mut decoder, dumps[2]), list(&third));
    assert_eq!(decoder.table.size(), 164);
}

#[test]
fn c3_requests_without_huffman_are_read() {
    requests([
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]);
}

#[test]
fn c4_requests_with_huffman_are_read() {
    requests([
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ]);
}

fn responses(dumps: [&str; 3]) {
    let first = [
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ];
    let mut second = first;
    second[0].1 = "307";
    let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    let third = [
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", cookie),
    ];
    let mut decoder = Decoder::new(4096);
    // The examples begin with a table of 256 bytes.
    assert_eq!(read_dump(&mut decoder, "3fe1 01"), Headers::new());
    assert_eq!(read_dump(&mut decoder, dumps[0]), list(&first));
    assert_eq!(decoder.table.size(), 222);
    assert_eq!(read_dump(&mut decoder, dumps[1]), list(&second));
    assert_eq!((decoder.table.size(), decoder.table.len()), (222, 4));
    assert_eq!(read_dump(&mut decoder, dumps[2]), list(&third));
    assert_eq!((decoder.table.size(), decoder.table.len()), (215, 3));
}

#[test]
fn c5_responses_without_huffman_evict_the_oldest() {
    responses([
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a
         3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04
         677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49
         553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ]);
}

#[test]
fn c6_responses_with_huffman_evict_the_oldest() {
    responses([
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e
         919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7
         821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed
         4ee5 b106 3d50 07",
    ]);
}

// === Malformed blocks ===

#[test]
fn an_index_of_nothing_is_refused() {
    refuses("80"); // 0
    refuses("be"); // the first of an empty table
    refuses("7e 01 61"); // a name of it
    refuses("ff 80 80 80 80 0f"); // 4,026,531,967
}

#[test]
fn an_integer_beyond_32_bits_is_refused() {
    refuses("ff ff ff ff ff 7f");
}

#[test]
fn a_block_that_ends_inside_a_field_is_refused() {
    let whole = bytes("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572");
    for length in 1..whole.len() {
        let mut decoder = Decoder::new(4096);
        assert_eq!(
            read(&mut decoder, &whole[..length]),
            Err(Malformed),
            "{length}"
        );
    }
    refuses("ff"); // inside an integer
    refuses("ff 80");
}

#[test]
fn padding_other_than_up_to_seven_ones_is_refused() {
    let mut decoder = Decoder::new(4096);
    assert_eq!(read_dump(&mut decoder, "04 81 1f"), list(&[(":path", "a")])); // 00011 111
    refuses("04 81 1e"); // 00011 110
    refuses("04 81 18"); // 00011 000
    refuses("04 82 1f ff"); // eight ones more
    refuses("04 81 ff"); // nothing but padding, of eight bits
}

#[test]
fn the_end_of_string_symbol_is_refused() {
    refuses("04 84 ff ff ff ff"); // EOS and two ones
    refuses("04 85 1f ff ff ff ff"); // behind an 'a'
    refuses("04 88 ff ff ff fc 1f 1f 1f 1f"); // not at the end
}

#[test]
fn a_table_beyond_what_was_advertised_is_refused() {
    refuses("3f e2 1f"); // 4,097
    let mut decoder = Decoder::new(8192);
    assert_eq!(read_dump(&mut decoder, "3f e1 3f"), Headers::new()); // 8,192
    assert_eq!(read(&mut decoder, &bytes("3f e2 3f")), Err(Malformed));
}

#[test]
fn a_size_update_behind_a_field_is_refused() {
    let mut decoder = Decoder::new(4096);
    assert_eq!(
        read_dump(&mut decoder, "20 3f e1 1f 82"),
        list(&[(":method", "GET")])
    );
    refuses("82 20");
    refuses("82 20 82");
}

#[test]
fn a_peer_that_saw_a_smaller_table_must_say_so_first() {
    let mut decoder = Decoder::new(100);
    read_dump(&mut decoder, "82"); // it has not seen it yet
    read_dump(&mut decoder, "3f e1 1f"); // so 4,096 are fine
    decoder.acknowledged();
    read_dump(&mut decoder, "");
    assert_eq!(read(&mut decoder, &bytes("82")), Err(Malformed));
    assert_eq!(read(&mut decoder, &bytes("3f 46")), Err(Malformed)); // 101
    read_dump(&mut decoder, "3f 45 82"); // 100
    read_dump(&mut decoder, "82");
    let mut same = Decoder::new(4096);
    same.acknowledged();
    read_dump(&mut same, "82");
}

// === The table ===

#[test]
fn a_field_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(4096);
    read_dump(&mut decoder, "3f 45"); // 100 bytes
    read_dump(&mut decoder, "44 01 61"); // :path a, 38 bytes
    let mut block = vec![0x44, 64];
    block.extend([b'b'; 64]); // 101 bytes
    read(&mut decoder, &block).unwrap();
    assert_eq!((decoder.table.len(), decoder.table.size()), (0, 0));
    block[1] = 63;
    block.pop();
    read(&mut decoder, &block).unwrap();
    assert_eq!((decoder.table.len(), decoder.table.size()), (1, 100));
}

#[test]
fn a_name_outlives_the_entry_that_it_comes_from() {
    let mut decoder = Decoder::new(4096);
    read_dump(&mut decoder, "3f 0d"); // 44 bytes: one entry
    let first = read_dump(&mut decoder, "40 04 6e616d65 01 61");
    assert_eq!(first, list(&[("name", "a")]));
    // Its own name is evicted while it enters.
    let second = read_dump(&mut decoder, "7e 01 62");
    assert_eq!(second, list(&[("name", "b")]));
    assert_eq!(read_dump(&mut decoder, "be"), second);
    assert_eq!(decoder.table.len(), 1);
}

#[test]
fn a_smaller_table_forgets_the_oldest() {
    let mut decoder = Decoder::new(4096);
    read_dump(&mut decoder, "44 01 61 44 01 62 44 01 63"); // :path a, b, c: 38 bytes each
    let both = read_dump(&mut decoder, "3f 2d be bf"); // 76 bytes
    assert_eq!(both, list(&[(":path", "c"), (":path", "b")]));
    assert_eq!(read(&mut decoder, &bytes("c0")), Err(Malformed));
    read_dump(&mut decoder, "20 3f e1 1f");
    assert_eq!(read(&mut decoder, &bytes("be")), Err(Malformed));
}

/// A path in Huffman's code that does not enter the table, as nghttp2 sends it.
fn path_block(path: &str) -> Vec<u8> {
    let mut code = Vec::new();
    super::super::encode::string(path.as_bytes(), &mut code);
    assert!(code[0] & 0x80 != 0, "{path} is sent plain");
    [&[0x04], &code[..]].concat()
}

#[test]
fn paths_that_come_again_are_the_same_whatever_came_between() {
    let long = "/long".repeat(50);
    let paths = [
        "/a.b.C/Predict",
        "/a.b.C/Predict",
        "/a.b.C/Other",
        "/tests",
        &long,
        "/tests",
    ];
    let mut decoder = Decoder::new(4096);
    for round in 0..3 {
        for path in paths.iter().cycle().skip(round).take(12) {
            let read = read(&mut decoder, &path_block(path)).unwrap();
            assert_eq!(read, list(&[(":path", path)]));
            assert_eq!(read.size(), 5 + path.len() + FIELD_OVERHEAD);
        }
    }
    assert_eq!(decoder.table.len(), 0);
    assert!(decoder.memory() < 1024, "{}", decoder.memory());
}

#[test]
fn what_is_no_code_is_refused_after_a_path_too() {
    let mut decoder = Decoder::new(4096);
    let mut block = path_block("/a.b.C/Predict");
    read(&mut decoder, &block).unwrap();
    *block.last_mut().unwrap() &= 0xfe;
    assert_eq!(read(&mut decoder, &block), Err(Malformed));
    // Of another name it means the same, and is not taken for a path.
    let mut block = path_block("/a.b.C/Predict");
    block[0] = 0x0f;
    block.insert(1, 33 - 15);
    let read = read(&mut decoder, &block).unwrap();
    assert_eq!(read, list(&[("date", "/a.b.C/Predict")]));
}

#[test]
fn a_path_that_comes_again_is_cut_where_there_is_no_room() {
    let mut decoder = Decoder::new(4096);
    let block = path_block("/a.b.C/Predict");
    for (list_bytes, is_cut) in [(1000, false), (1000, false), (50, true), (51, false)] {
        let most = Most {
            list_bytes,
            fields: 100,
        };
        let mut out = Headers::new();
        assert_eq!(
            decoder.decode(&block, &mut out, &most),
            Ok(Decoded { is_cut }),
            "{list_bytes}"
        );
        assert_eq!(out.len(), usize::from(!is_cut));
    }
}

#[test]
fn the_content_type_of_a_list_that_was_cut_is_kept_however_it_is_written() {
    let most = Most {
        list_bytes: 300,
        fields: 100,
    };
    let kept = |decoder: &mut Decoder, block: &[u8]| {
        let mut out = Headers::new();
        let decoded = decoder.decode(block, &mut out, &most);
        assert_eq!(decoded, Ok(Decoded { is_cut: true }));
        let fields: Vec<_> = out.iter().map(|it| it.token).collect();
        assert!(matches!(
            fields[..],
            [Some(Token::PATH)] | [Some(Token::PATH), Some(Token::CONTENT_TYPE)]
        ));
        assert_eq!(
            out.size(),
            out.iter()
                .map(|it| it.name.len() + it.value.len() + FIELD_OVERHEAD)
                .sum()
        );
        out.text(Token::CONTENT_TYPE).map(str::to_owned)
    };
    // The path, and an accept-encoding of 290 bytes.
    let cut = [&[0x84, 0x0f, 1, 127, 0xa3, 1][..], &[b'a'; 290]].concat();
    let with = |field: &[u8]| [&cut[..], field].concat();
    let plain = [&[0x0f, 16, 16][..], b"application/grpc"].concat();
    let to_index = [&[0x5f, 16][..], b"application/grpc"].concat();
    let mut huffman = vec![0x5f];
    super::super::encode::string(b"application/grpc", &mut huffman);
    let grpc = Some("application/grpc".to_owned());
    let mut decoder = Decoder::new(4096);
    assert_eq!(kept(&mut decoder, &cut), None);
    for field in [&plain, &to_index, &huffman] {
        assert_eq!(kept(&mut decoder, &with(field)), grpc);
    }
    assert_eq!(decoder.table.len(), 2);
    for indexed in [0xbe, 0xbf] {
        assert_eq!(kept(&mut decoder, &with(&[indexed])), grpc);
    }
    // Once, and no long one.
    assert_eq!(kept(&mut decoder, &with(&[0xbe; 5000])), grpc);
    let long = [&[0x0f, 16, 127, 2][..], &[b'a'; 129]].concat();
    assert_eq!(kept(&mut decoder, &with(&long)), None);
    let mut long = vec![0x0f, 16];
    super::super::encode::string(&[b'a'; 129], &mut long);
    assert_eq!(kept(&mut decoder, &with(&long)), None);
    // What is no code is refused all the same.
    let mut out = Headers::new();
    let wrong = with(&[0x0f, 16, 0x81, 0x00]);
    assert_eq!(decoder.decode(&wrong, &mut out, &most), Err(Malformed));
}
