"""YAML as the configuration and the lists of endpoints are written in: values, their lines, and what is wrong."""

import datetime

import pytest

from access.document import find, parse, place_of, scalar


def problems(text: str, **options: bool) -> list[str]:
    return [str(each) for each in parse(text, "x.yaml", **options).problems]


def test_every_value_has_the_line_that_it_is_on():
    document = parse("a: 1\nb:\n  c: [x,\n    y]\n", "x.yaml")
    assert document.data == {"a": 1, "b": {"c": ["x", "y"]}}
    assert document.lines == {(): 1, ("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", 0): 3, ("b", "c", 1): 4}
    assert not document.problems


def test_keys_are_the_text_that_was_written():
    assert list(parse("{069: 1, on: 2, 70: 3, null: 4}", "x.yaml").data) == ["069", "on", "70", "null"]


def test_an_alias_gives_its_value_again():
    assert parse("a: &a [1]\nb: *a", "x.yaml").data == {"a": [1], "b": [1]}


@pytest.mark.parametrize("text", ["", "# a comment\n"])
def test_an_empty_text_is_an_empty_mapping(text):
    document = parse(text, "x.yaml")
    assert (document.data, document.problems) == ({}, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a", "x.yaml:1: the file is not a mapping of keys to values; begin with"),
        ("a: {b: [c:1]}\n}", "x.yaml:2: not YAML"),
        ("a: {b: {c: [a:1]}\n", "not YAML"),
        ("a: b # \x01", "x.yaml: not YAML"),
        ("a: [::1]:8500", "not YAML"),
        ("a: b\n\tc: d", "x.yaml:2: not YAML"),
        ("a: b\n\tc: d", "indent with spaces, not tabs"),
        ("a: *b", "x.yaml:1: not YAML"),
        ("a: 1\na: 2\n", "x.yaml:2 a: the key is on line 1 already; remove one"),
        ("b:\n  a: 1\n  a: 2\n", "x.yaml:3 b.a: the key is on line 2 already; remove one"),
        ("[a]: 1", "x.yaml:1: a key is a plain text"),
        ("a: 2026-13-45", "x.yaml:1 a: '2026-13-45': month must be in 1..12"),
        ("a: &a [*a]", "too many or too deep values"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text, expected):
    found = problems(text)
    assert any(expected in each for each in found), found


def test_of_a_key_that_is_there_twice_the_first_counts():
    assert parse("a: 1\na: 2\n", "x.yaml").data == {"a": 1}


def test_a_list_is_taken_where_that_is_allowed():
    assert parse("- a\n- b: 1\n", "x.yaml", may_be_list=True).data == ["a", {"b": 1}]


def test_a_bomb_of_aliases_is_refused():
    lines = ["a: &a [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"{new}: &{new} [{','.join(['*' + old] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    assert any("too many" in each for each in problems("\n".join(lines)))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("69", 69),
        ("true", True),
        ("null", None),
        ("", None),
        ("text", "text"),
        ("[a:1, b:2]", ["a:1", "b:2"]),
        ("{a: 1}", {"a": 1}),
        ("2026-01-02", datetime.date(2026, 1, 2)),
        ("[::1]:8500", "[::1]:8500"),
        ("1\n2", "1\n2"),
        ("1\nother: 2", "1\nother: 2"),
    ],
)
def test_a_variable_has_the_value_that_the_file_would_give_it(text, value):
    assert scalar(text) == value


@pytest.mark.parametrize(
    ("path", "text"), [((), ""), (("a",), "a"), (("a", "b", 0, "c"), "a.b[0].c"), ((0, "a"), "[0].a")]
)
def test_a_path_is_written_as_people_do(path, text):
    assert place_of(path) == text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("a", "b"), [1, 2]),
        (("a", "b", 1), 2),
        (("a", "b", 2), None),
        (("a", "x"), None),
        (("a", "b", "c"), None),
        (("a", 0), None),
    ],
)
def test_a_value_is_found_by_its_path(path, value):
    assert find({"a": {"b": [1, 2]}}, path) == value
