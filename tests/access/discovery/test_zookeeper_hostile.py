"""What others may have written into the registry costs its own node only, and is named."""

import pytest
from fixtures.registry_hand import addresses, document

from access.discovery.zookeeper import MAX_WARNINGS

HOSTILE = {
    "nothing": b"",
    "no json": b"{" * 100,
    "no object": b"[1]",
    "too large": b" " * 65_537,
    "huge": b"x" * 900_000,
    "deep": b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "another schema": b'{"schema": 2, "address": "h:1", "protocol": "tfs", "model": "m"}',
    "a long number": b'{"schema": 1, "address": "h:1", "protocol": "tfs", "model": "m", "weight": 1'
    + b"0" * 4299
    + b"}",
    "a wrong type": b'{"schema": 1, "address": "h:1", "protocol": "tfs", "model": "m", "weight": "many"}',
    "no utf-8": b'{"schema": 1, "address": "\xff"}',
    "another model": document("other", "h:1"),
    "another address": document("m", "other:1"),
    "escapes": b'{"schema": 1, "address": "h:1", "protocol": "tfs", "model": "m", "state": "\\u001b[31m\\nok"}',
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_document_costs_its_own_node_only(hand, followed, data):
    hand.announce("m", "a:1")
    hand.client.put(hand.path("m", "h:1"), data)
    hand.announce("n", "b:1")
    said = followed.wait(lambda said: addresses(said, "n") == ["b:1"] and said.warnings)
    assert addresses(said, "m") == ["a:1"]
    (warning,) = said.warnings
    assert warning.place == hand.path("m", "h:1")
    assert str(warning).isprintable()
    assert len(str(warning)) < 500
    hand.announce("m", "h:1")
    followed.wait(lambda said: addresses(said, "m") == ["a:1", "h:1"] and not said.warnings)


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "%2e%2e", "h", "h%3A1", "H:1\u202e", "x" * 5000])
def test_a_node_whose_name_is_not_its_address_is_skipped(hand, followed, name):
    hand.announce("m", "a:1")
    hand.client.put(f"{hand.chroot}/models/m/endpoints/{name}", document("m", "h:1"))
    said = followed.wait(lambda said: said.warnings)
    assert addresses(said, "m") == ["a:1"]
    assert "its address is 'h:1'" in said.warnings[0].message
    assert str(said.warnings[0]).isprintable()
    assert len(str(said.warnings[0])) < 1000


def test_names_that_are_no_models_are_skipped_and_named(hand, followed):
    hand.announce("m", "a:1")
    for name in ("...", "a b", ".hidden", "m;rm", "x" * 200):
        hand.client.put(f"{hand.chroot}/models/{name}", b"")
    said = followed.wait(lambda said: len(said.warnings) == 5)
    assert list(said.entries) == ["m"]
    assert {each.message for each in said.warnings} == {"it is skipped: no model has such a name"}


def test_many_warnings_are_counted(hand, followed):
    hand.announce("m", "a:1")
    for number in range(MAX_WARNINGS + 20):
        hand.client.create_async(f"{hand.chroot}/models/m/endpoints/h{number}:1", b"?")
    said = followed.wait(lambda said: len(said.warnings) > MAX_WARNINGS and "20 more" in said.warnings[-1].message)
    assert len(said.warnings) == MAX_WARNINGS + 1
    assert addresses(said, "m") == ["a:1"]
