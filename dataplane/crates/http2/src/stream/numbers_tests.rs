use std::collections::HashMap;

use super::*;

fn random(seed: &mut u64, below: u64) -> u32 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    ((*seed >> 33) % below) as u32
}

#[test]
fn each_number_leads_to_its_slot_however_they_come_and_go() {
    for seed in 1..=20 {
        // Few numbers, so that they often meet; the last seeds have numbers as a connection has.
        let mut seed = seed;
        let (mut numbers, mut expected) = (Numbers::default(), HashMap::new());
        for step in 0..4000 {
            let id = 1 + random(&mut seed, 64 << (step / 1000));
            if expected.remove(&id).is_some() {
                numbers.remove(id);
            } else if random(&mut seed, 3) > 0 {
                expected.insert(id, step);
                numbers.insert(Key { slot: step, id });
            } else {
                numbers.remove(id);
            }
            assert_eq!(numbers.len(), expected.len());
            let next = 1 + random(&mut seed, 1024);
            for id in [id, next] {
                assert_eq!(numbers.find(id), expected.get(&id).copied());
            }
        }
        for id in 0..1024 {
            assert_eq!(numbers.find(id), expected.get(&id).copied());
        }
    }
}

#[test]
fn a_million_streams_that_come_and_go_need_no_larger_table() {
    let mut numbers = Numbers::default();
    for number in 0..1_000_000_u32 {
        numbers.insert(Key {
            slot: number % 16,
            id: 2 * number + 1,
        });
        if number >= 16 {
            numbers.remove(2 * (number - 16) + 1);
        }
    }
    assert_eq!((numbers.len(), numbers.places.len()), (16, 64));
}

#[test]
fn numbers_that_all_wish_for_one_place_are_found() {
    let mut numbers = Numbers::default();
    // They differ in the highest byte of what is mixed alone: its inverse is an odd number's.
    let inverse = 0x0E8B_2F51_u32;
    let ids: Vec<u32> = (1..=200_u32)
        .map(|high| (high << 24).wrapping_mul(inverse))
        .collect();
    for (slot, id) in ids.iter().enumerate() {
        numbers.insert(Key {
            slot: slot as u32,
            id: *id,
        });
    }
    for (slot, id) in ids.iter().enumerate() {
        assert_eq!(numbers.find(*id), Some(slot as u32));
    }
    for id in &ids[..100] {
        numbers.remove(*id);
    }
    for (slot, id) in ids.iter().enumerate() {
        assert_eq!(numbers.find(*id), (slot >= 100).then_some(slot as u32));
    }
}
