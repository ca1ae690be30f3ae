//! What must hold where hashes collide and numbers wrap.

use super::*;

fn key<'a>(token: Option<Token>, name: &'a str, value: &'a str) -> Key<'a> {
    Key {
        token,
        name: name.as_bytes(),
        value: value.as_bytes(),
    }
}

#[test]
fn fields_with_the_same_hash_are_told_apart() {
    let mut index = Index::new(4096);
    let keys = [
        key(Some(Token::TE), "te", "a"),
        key(Some(Token::TE), "te", "b"),
        key(Some(Token::VIA), "via", "a"),
        key(None, "x-other", "a"),
        key(None, "x-more", "a"),
    ];
    for key in &keys {
        assert_eq!(index.find(key, 7), None);
        index.insert(key, 7);
    }
    for (place, key) in keys.iter().enumerate() {
        assert_eq!(index.find(key, 7), Some(keys.len() - 1 - place));
        assert_eq!(index.find(key, 7 + CHAINS as u32), None);
    }
}

#[test]
fn fields_are_found_while_numbers_wrap() {
    let mut index = Index::new(4096);
    index.newest = u32::MAX - 20;
    for turn in 0..200_usize {
        let value = turn.to_string();
        let key = key(Some(Token::TE), "te", &value);
        index.insert(&key, key.hash());
        assert_eq!(index.latest(key.token), Some((0, value.as_bytes())));
        for age in 0..index.table.len() {
            let value = (turn - age).to_string();
            let key = Key {
                value: value.as_bytes(),
                ..key
            };
            assert_eq!(index.find(&key, key.hash()), Some(age));
        }
    }
}

#[test]
fn a_number_from_before_the_wrap_does_not_pass_for_another_field() {
    let mut index = Index::new(4096);
    let te = key(Some(Token::TE), "te", "a");
    index.insert(&te, te.hash());
    // As if the entry of `via` had had this number, once.
    index.latest[Token::VIA.place()] = index.newest;
    assert_eq!(index.latest(Some(Token::VIA)), None);
    // A chain that leads back ends.
    index.chains[5] = index.newest.wrapping_add(1);
    index.insert(&te, 5);
    assert_eq!(index.find(&key(Some(Token::TE), "te", "c"), 5), None);
}

#[test]
fn the_newest_name_of_others_is_found() {
    let mut index = Index::new(4096);
    for (name, value) in [("x-a", "1"), ("x-b", "1"), ("x-a", "2")] {
        let key = key(None, name, value);
        index.insert(&key, key.hash());
    }
    let found = ["x-a", "x-b", "x-c", "x-"].map(|name| index.find_name(name.as_bytes()));
    assert_eq!(found, [Some(0), Some(1), None, None]);
}
