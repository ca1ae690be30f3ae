//! What is gathered comes out in order, however it is written.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn bytes_come_out_in_their_order_however_they_are_written(
        parts in prop::collection::vec((any::<bool>(), 0usize..5000), 1..60),
        writes in prop::collection::vec(1usize..9000, 1..200),
        room in 1usize..9,
    ) {
        let (mut out, mut expected, mut found) = (Out::default(), Vec::new(), Vec::new());
        let mut writes = writes.iter().cycle();
        let mut write = |out: &mut Out, found: &mut Vec<u8>| {
            let mut slices = vec![IoSlice::new(&[]); room];
            let count = out.slices(&mut slices);
            let all: Vec<u8> = slices[..count].iter().flat_map(|it| it.to_vec()).collect();
            let written = all.len().min(*writes.next().unwrap_or(&1));
            found.extend_from_slice(&all[..written]);
            out.advance(written);
        };
        for (index, (is_small, length)) in parts.into_iter().enumerate() {
            let bytes = vec![index as u8; length];
            expected.extend_from_slice(&bytes);
            if is_small {
                out.put(|small| small.extend_from_slice(&bytes));
            } else {
                out.push(bytes.into());
            }
            prop_assert_eq!(out.len(), expected.len() - found.len());
            write(&mut out, &mut found);
        }
        while !out.is_empty() {
            write(&mut out, &mut found);
        }
        prop_assert_eq!(found, expected);
        prop_assert!(out.give_back().is_none_or(|it| it.is_empty()));
    }
}

#[test]
fn a_buffer_is_given_back_only_when_all_is_written() {
    let mut out = Out::default();
    out.lend(|| Vec::with_capacity(100));
    out.put(|small| small.push(1));
    assert!(out.give_back().is_none());
    out.advance(1);
    assert_eq!(out.give_back().map(|it| it.capacity()), Some(100));
    assert!(out.give_back().is_none());
}

#[test]
fn a_buffer_that_never_runs_empty_does_not_grow_forever() {
    let mut out = Out::default();
    out.put(|small| small.extend_from_slice(&[0; 10]));
    for _ in 0..100_000 {
        out.put(|small| small.extend_from_slice(&[0; 10]));
        out.advance(10);
    }
    assert!(out.small.capacity() < 4 * SLACK, "{}", out.small.capacity());
}
