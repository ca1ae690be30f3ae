"""A small request takes no more instructions than it did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from bench.instructions import GROWTH, RESULT, per_request
from bench.measure import SHAPES
from fixtures.lacking import lacking


@pytest.mark.timeout(180)
def test_a_small_request_takes_no_more_instructions_than_it_did(tmp_path: Path) -> None:
    if shutil.which("valgrind") is None:
        lacking("no valgrind: apt-get install valgrind")
    shape = SHAPES[0]
    before = json.loads(RESULT.read_text())["per_request"][shape.name]
    now = per_request(tmp_path, shape, requests=3_000)
    assert now <= GROWTH * before, "make bench-instructions tells where; commit its result where the growth is worth it"
