"""What `dl-inference status` says of the places that routes come from."""

import time

import pytest

from dl_inference.commands.status_view import control_parts


def said(**source: object) -> list[str]:
    known = {"name": "zookeeper:zk://zk1/x", "error": None, "last_good": "2026-11-21T12:00:00+00:00"}
    known |= {"last_good_unix_s": time.time() - 90, "reloads_ok": 3, "reloads_failed": 1, "origin": "source"}
    return [str(part) for part in control_parts({"sources": [{**known, "save_error": None, **source}]})]


def test_a_source_that_can_be_read_is_one_line():
    assert said() == ["zookeeper:zk://zk1/x  last good 2026-11-21T12:00:00+00:00  reloads 3, failed 1"]


@pytest.mark.parametrize(
    ("origin", "words"), [("source", "last good state"), ("saved", "saved state"), ("fallback", "fallback")]
)
def test_a_lost_source_says_what_is_in_force_and_how_old_that_is(origin, words):
    _, error, in_force = said(error="unreachable since noon", origin=origin)
    assert error.strip() == "unreachable since noon"
    assert in_force.strip() in [f"in force: its {words}, {age} s old" for age in (90, 91)]


def test_a_source_that_was_never_read_has_no_age():
    first, _, in_force = said(error="nobody answers", origin="fallback", last_good=None, last_good_unix_s=0.0)
    assert "last good never" in first
    assert in_force.strip() == "in force: its fallback"


def test_a_state_that_cannot_be_saved_is_said():
    assert said(save_error="/state/x.json: the last good state cannot be saved: No space left on device")[1:] == [
        "  /state/x.json: the last good state cannot be saved: No space left on device"
    ]
