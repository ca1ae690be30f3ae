from __future__ import annotations

import pytest
from fixtures.expectation import differences


@pytest.mark.parametrize(
    ("expect", "answer", "found"),
    [
        ({"a": 1}, {"a": 1.05, "b": 2}, []),
        ({"a": 1}, {"a": 1.2}, ["answer.a is 1.2, not 1 +- 0.1"]),
        ({"a": 1}, {}, ["answer.a is missing"]),
        ([1, 2], [1], ["answer has 1 elements, not 2"]),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "y"}]}, ["answer.a[0].b is 'y', not 'x'"]),
        (True, 1, ["answer is 1, not True"]),
        (None, None, []),
        ([float("nan")], [float("nan")], []),
        ({}, [], ["answer is [], not {}"]),
    ],
)
def test_an_answer_is_compared_with_what_is_expected(expect, answer, found):
    assert differences(expect, answer, 0.1) == found
