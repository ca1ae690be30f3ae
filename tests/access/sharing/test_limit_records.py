"""What access services write for each other, and what of others' writing is taken."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from access.sharing import records
from access.sharing.records import RecordError
from access.sharing.shares import Key

MOST = 10_000


def _wanted(*rows: Any, **more: Any) -> bytes:
    return json.dumps({"version": 1, "wanted": list(rows), **more}).encode()


def test_what_is_written_is_read() -> None:
    demands: dict[Key, float] = {
        ("", "m", "requests_per_s"): 0.25,
        ('sh"op\\', "modèle", "in_flight"): 1.0,
        ("shop", "", "bytes_per_s"): 0.1234,
    }
    assert records.parse(records.dump(demands, MOST), MOST) == demands
    assert records.parse(records.dump({}, MOST), MOST) == {}


def test_where_not_all_fits_the_largest_demands_are_written() -> None:
    demands: dict[Key, float] = {(f"caller{n}", "m", "requests_per_s"): n / 1000 for n in range(1, 1000)}
    data = records.dump(demands, MOST)
    assert 0.9 * MOST < len(data) <= MOST
    got = records.parse(data, MOST)
    assert len(got) > 150
    assert min(got.values()) > max(wanted for key, wanted in demands.items() if key not in got)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"version":2,"wanted":[]}',
        b'{"version":1,"wanted":{}}',
        b"[" * 5000,
        b'{"version":1,"wanted":[["","m","requests_per_s",' + b"9" * 5000 + b"]]}",
        _wanted(1),
        _wanted(["", "m", "requests_per_s"]),
        _wanted(["", "m", "requests_per_s", 1, 1]),
        _wanted(["", None, "requests_per_s", 1]),
        _wanted([[], "m", "requests_per_s", 1]),
        _wanted(["", "m", "calls", 1]),
        _wanted(["", "m", ["requests_per_s"], 1]),
        _wanted(["", "m", "requests_per_s", "1"]),
        _wanted(["", "m", "requests_per_s", True]),
        _wanted(["", "m", "requests_per_s", -0.1]),
        _wanted(["", "m", "requests_per_s", math.nan]),
        _wanted(["", "m", "requests_per_s", -math.inf]),
        _wanted(pad="." * MOST),
    ],
    ids=range(22),
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(RecordError):
        records.parse(data, MOST)


@pytest.mark.parametrize("wanted", [1e308, math.inf, 10**300, 1.0001])
def test_nobody_wants_more_than_the_whole(wanted: float) -> None:
    assert records.parse(_wanted(["", "m", "requests_per_s", wanted]), MOST) == {("", "m", "requests_per_s"): 1.0}


def test_any_bytes_are_a_record_or_refused() -> None:
    draw = random.Random(15)
    good = records.dump({("a", "m", "in_flight"): 0.5, ("", "n", "requests_per_s"): 1.0}, MOST)
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.choice([draw.randrange(256), *b'[]{}",:0123456789eE-'])
        try:
            got = records.parse(bytes(data), MOST)
        except RecordError:
            continue
        assert all(0 < wanted <= 1 for wanted in got.values())
