//! Lists of fields and tokens of names.

use super::*;
use crate::testing::list;

fn pairs(list: &Headers) -> Vec<(&str, &str)> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    list.iter()
        .map(|it| (text(it.name), text(it.value)))
        .collect()
}

fn counted(list: &Headers) -> usize {
    list.iter()
        .map(|it| it.name.len() + it.value.len() + 32)
        .sum()
}

#[test]
fn each_known_name_has_its_token() {
    for place in 0..TOKENS {
        let token = Token::at(place);
        assert_eq!(Token::find(token.name().as_bytes()), Some(token));
        assert_eq!(token.is_pseudo(), token.name().starts_with(':'));
    }
    assert_eq!(
        (Token::TE.name(), Token::AUTHORITY.name()),
        ("te", ":authority")
    );
}

#[test]
fn pseudo_header_fields_are_those_whose_names_begin_with_a_colon() {
    for token in Token::all() {
        assert_eq!(token.is_pseudo(), token.name().starts_with(':'), "{token}");
    }
}

#[test]
fn other_names_have_none() {
    for name in [
        "",
        "t",
        "tf",
        "TE",
        "te ",
        "x-of-others",
        "grpc-timeouts",
        "grpc-timeou",
        ":",
    ] {
        assert_eq!(Token::find(name.as_bytes()), None, "{name}");
    }
    // Those that differ in one byte, where the search begins at the same place or at any other.
    for place in 0..TOKENS {
        let mut name = Token::at(place).name().as_bytes().to_vec();
        for at in 0..name.len() {
            name[at] ^= 0x80;
            assert_eq!(Token::find(&name), None);
            name[at] ^= 0x80;
        }
    }
}

#[test]
fn order_is_kept_and_names_may_repeat() {
    let fields = [
        ("te", "trailers"),
        ("x-other", "1"),
        ("cookie", "a"),
        ("te", ""),
        ("x-other", "2"),
        ("", ""),
    ];
    let list = list(&fields);
    assert_eq!(pairs(&list), fields);
    assert_eq!((list.len(), list.is_empty()), (6, false));
    assert_eq!(list.size(), counted(&list));
    assert_eq!(
        list.iter().map(|it| it.token).collect::<Vec<_>>()[..2],
        [Some(Token::TE), None]
    );
}

#[test]
fn values_are_found_by_token_and_by_name() {
    let list = list(&[
        ("x-other", "1"),
        ("cookie", "a"),
        ("x-other", "2"),
        ("cookie", "b"),
    ]);
    assert_eq!(list.get(Token::COOKIE), Some(&b"a"[..]));
    assert_eq!(
        list.get_all(Token::COOKIE).collect::<Vec<_>>(),
        [b"a", b"b"]
    );
    assert_eq!(
        (list.get(b"cookie"), list.get(b"x-other")),
        (Some(&b"a"[..]), Some(&b"1"[..]))
    );
    assert_eq!(
        (list.get(Token::TE), list.get(b"te"), list.get(b"x")),
        (None, None, None)
    );
}

#[test]
fn a_name_is_the_same_however_it_was_pushed() {
    let mut known = Headers::new();
    known.push(Token::TE, b"trailers");
    assert_eq!(known, list(&[("te", "trailers")]));
    let mut sensitive = Headers::new();
    sensitive.push_sensitive(b"te", b"trailers");
    assert_ne!(known, sensitive);
    assert_ne!(known, list(&[("te", "trailer")]));
    assert_ne!(known, list(&[("te", "trailers"), ("te", "trailers")]));
}

#[test]
fn removed_fields_leave_the_others_and_the_size_right() {
    let mut list = list(&[
        ("te", "a"),
        ("x-other", "1"),
        ("te", "b"),
        ("via", "c"),
        ("x-more", "2"),
    ]);
    list.remove(Token::TE);
    assert_eq!(
        pairs(&list),
        [("x-other", "1"), ("via", "c"), ("x-more", "2")]
    );
    list.retain(|field| field.name != b"x-other");
    assert_eq!(pairs(&list), [("via", "c"), ("x-more", "2")]);
    list.remove(Token::COOKIE);
    list.push(b"te", b"d");
    assert_eq!(pairs(&list), [("via", "c"), ("x-more", "2"), ("te", "d")]);
    assert_eq!(list.size(), counted(&list));
}

#[test]
fn a_cleared_list_is_empty_and_keeps_its_memory() {
    let mut list = list(&[("te", "a"), ("x-other", "1")]);
    let memory = list.memory();
    list.clear();
    assert_eq!((list.len(), list.size(), list.memory()), (0, 0, memory));
    assert_eq!(list, Headers::new());
    assert_eq!(Headers::new().memory(), 0);
    assert!(Headers::with_capacity(4, 100).memory() >= 100 + 4 * 16);
}

#[test]
fn a_sensitive_value_is_not_in_what_a_log_shows() {
    let mut list = list(&[("te", "a\n")]);
    list.push_sensitive(b"x-token", b"secret");
    assert_eq!(
        format!("{list:?}"),
        r"[te: a\n, x-token: (6 bytes, sensitive)]"
    );
}

#[test]
fn a_record_is_small() {
    // Below what a field counts, so that a limit on the size bounds the records as well.
    assert!(size_of::<Record>() <= FIELD_OVERHEAD / 2);
}

#[test]
fn a_name_that_is_set_has_one_value_and_others_keep_theirs() {
    let mut list = list(&[("te", "a"), ("x-other", "1"), ("te", "b"), ("x-more", "2")]);
    list.set(Token::TE, "trailers");
    list.set("x-other", "3");
    list.set("x-new", "4");
    let expected = [
        ("x-more", "2"),
        ("te", "trailers"),
        ("x-other", "3"),
        ("x-new", "4"),
    ];
    assert_eq!(pairs(&list), expected);
    assert_eq!(list.size(), counted(&list));
}

#[test]
fn only_the_name_that_is_removed_goes() {
    let mut list = list(&[("te", "a"), ("x-one", "1"), ("x-two", "2"), ("cookie", "b")]);
    list.remove("x-one");
    list.remove("x-none");
    assert_eq!(pairs(&list), [("te", "a"), ("x-two", "2"), ("cookie", "b")]);
    list.remove(Token::TE);
    assert_eq!(pairs(&list), [("x-two", "2"), ("cookie", "b")]);
    assert!(list.has("x-two") && !list.has("te") && !list.has("x-one"));
}

#[test]
fn a_list_is_appended_with_its_sensitive_values() {
    let mut all = list(&[("te", "trailers"), ("x-one", "1")]);
    let mut more = list(&[("x-two", "2"), ("te", "again")]);
    more.push_sensitive("x-key", "secret");
    all.append(&more);
    let expected = [
        ("te", "trailers"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("te", "again"),
        ("x-key", "secret"),
    ];
    assert_eq!(pairs(&all), expected);
    assert_eq!(all.size(), counted(&all));
    let sensitive = all.iter().map(|it| it.is_sensitive).collect::<Vec<_>>();
    assert_eq!(sensitive, [false, false, false, false, true]);
}

#[test]
fn a_field_can_be_put_before_all_others() {
    let mut list = list(&[("te", "trailers"), ("x-one", "1")]);
    list.push_first(Token::STATUS, "200");
    let expected = [(":status", "200"), ("te", "trailers"), ("x-one", "1")];
    assert_eq!(pairs(&list), expected);
}

#[test]
fn only_pseudo_header_fields_at_the_front_are_taken_away() {
    let mut list = list(&[
        (":method", "POST"),
        (":path", "/"),
        ("te", "a"),
        (":x", "b"),
    ]);
    list.remove_pseudo();
    assert_eq!(pairs(&list), [("te", "a"), (":x", "b")]);
    assert_eq!(list.size(), counted(&list));
    list.remove_pseudo();
    assert_eq!(list.len(), 2);
}

#[test]
fn a_value_is_text_where_all_of_it_is_visible() {
    let list = list(&[
        ("te", "a b~\t"),
        ("cookie", "\u{e9}"),
        ("date", "\u{7f}"),
        ("via", "\r"),
    ]);
    assert_eq!(list.text(Token::TE), Some("a b~\t"));
    for other in [Token::COOKIE, Token::DATE, Token::VIA, Token::AGE] {
        assert_eq!(list.text(other), None, "{other}");
    }
}

#[test]
fn what_a_list_has_is_found_whatever_was_done_to_it() {
    let all: Vec<_> = Token::all().collect();
    let mut seed = 7_u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    let (mut list, mut expected) = (Headers::new(), Vec::new());
    for _ in 0..5000 {
        let token = all[random(all.len())];
        match random(8) {
            0 => {
                list.remove(token);
                expected.retain(|it| *it != token);
            }
            1 => {
                let (begin, end) = (random(all.len()), random(all.len()));
                let is_kept = |it: Token| !(begin..end).contains(&it.place());
                list.retain(|it| it.token.is_some_and(is_kept));
                expected.retain(|it| is_kept(*it));
            }
            2 if random(50) == 0 => {
                list.clear();
                expected.clear();
            }
            3 => {
                let more = [all[random(all.len())], token];
                list.append(&Headers::from_iter(more.map(|it| (it, "a"))));
                expected.extend(more);
            }
            4 => {
                list.set(token, "s");
                expected.retain(|it| *it != token);
                expected.push(token);
            }
            5 => {
                let taken = std::mem::take(&mut list);
                list = taken.clone();
            }
            6 => {
                list.push_first(token, "f");
                expected.insert(0, token);
            }
            _ => {
                list.push(token.name(), "p");
                expected.push(token);
            }
        }
        for token in &all {
            let is_there = expected.contains(token);
            assert_eq!(
                (list.has(*token), list.get(*token).is_some()),
                (is_there, is_there)
            );
            assert!(!is_there || !list.is_free_of(Tokens::of(&[Token::AGE, *token])));
            let count = expected.iter().filter(|it| *it == token).count();
            assert_eq!(list.get_all(*token).count(), count);
        }
    }
}

#[test]
fn a_list_is_free_of_what_it_never_had() {
    let mut list = list(&[("te", "trailers"), ("grpc-status", "0")]);
    let names = |names: &[Token]| Tokens::of(names);
    assert!(list.is_free_of(names(&[Token::HOST, Token::ORIGIN])));
    assert!(list.is_free_of(names(&[])));
    for token in [Token::TE, Token::GRPC_STATUS] {
        assert!(!list.is_free_of(names(&[Token::HOST, token, Token::ORIGIN])));
    }
    list.remove(Token::TE);
    assert!(list.is_free_of(names(&[Token::TE])));
    let mut others = Headers::from_iter([("x-of-others", "")]);
    assert!(!others.is_free_of(names(&[])));
    list.append(&others);
    assert!(!list.is_free_of(names(&[])));
    others.clear();
    assert!(others.is_free_of(names(&[])));
}
