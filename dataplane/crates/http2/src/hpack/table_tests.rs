//! Eviction, and what the table costs.

use super::*;

fn other(name: &str) -> Name {
    Name::new(None, name.as_bytes())
}

fn values(table: &Table<u8>) -> Vec<&[u8]> {
    let ages = 0..table.len();
    ages.map(|age| table.get(age).unwrap().1).collect()
}

#[test]
fn the_newest_field_comes_first() {
    let mut table = Table::new(4096);
    assert!(table.get(0).is_none());
    for value in ["a", "b", "c"] {
        assert!(table.insert(other("name"), value.as_bytes(), 7));
    }
    assert_eq!(values(&table), [b"c", b"b", b"a"]);
    assert!(table.get(3).is_none());
    assert_eq!((table.size(), table.get(0).unwrap().0.extra), (3 * 37, 7));
}

#[test]
fn as_many_of_the_oldest_leave_as_a_new_field_needs() {
    let mut table = Table::new(111);
    for value in ["a", "b", "c"] {
        table.insert(other("name"), value.as_bytes(), 0);
    }
    assert_eq!((table.len(), table.size()), (3, 111));
    table.insert(other("name"), b"dd", 0); // one byte too many
    assert_eq!(values(&table), [&b"dd"[..], b"c"]);
    table.insert(other("name"), &[b'e'; 75], 0); // 111 alone
    assert_eq!(values(&table), [[b'e'; 75]]);
}

#[test]
fn a_field_larger_than_the_table_empties_it_and_stays_out() {
    let mut table = Table::new(111);
    table.insert(other("name"), b"a", 0);
    assert!(!table.insert(other("name"), &[b'e'; 76], 0));
    assert_eq!((table.len(), table.size()), (0, 0));
    table.set_max_size(0);
    assert!(!table.insert(other(""), b"", 0));
}

#[test]
fn a_table_takes_memory_only_as_fields_enter() {
    let mut table = Table::<()>::new(64 << 10);
    assert_eq!(table.memory(), 0);
    table.insert(Name::Known(Token::TE), b"trailers", ());
    assert!(table.memory() < 512, "{}", table.memory());
}

#[test]
fn fields_that_come_and_go_do_not_grow_the_table() {
    for length in [0, 1, 7, 100, 1500, 2100, 4000] {
        let mut table = Table::new(4096);
        let mut expected = VecDeque::new();
        for turn in 0..5000_usize {
            let value = vec![turn as u8; length * (turn % 7 + 1) / 7];
            table.insert(Name::Known(Token::TE), &value, 0);
            expected.push_front(value);
            expected.truncate(table.len());
            assert!(table.bytes.capacity() <= 8192, "{}", table.bytes.capacity());
        }
        assert_eq!(values(&table), Vec::from(expected));
        assert!(table.memory() <= 8192 + 128 * size_of::<Entry<u8>>());
    }
}

#[test]
fn the_count_of_bytes_wraps() {
    let mut table = Table::new(200);
    table.before = u32::MAX - 150;
    for turn in 0..20 {
        table.insert(Name::Known(Token::TE), &[turn; 40], 0);
        assert_eq!(table.get(0).unwrap().1, [turn; 40]);
    }
    assert!(table.before < 1000);
    assert_eq!(values(&table), [[19; 40], [18; 40]]);
}

#[test]
fn the_fields_are_not_in_what_a_log_shows() {
    let mut table = Table::new(4096);
    table.insert(other("token"), b"secret", ());
    assert_eq!(format!("{table:?}"), "1 fields, 43 of 4096 bytes");
}
