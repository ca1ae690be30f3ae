"""What access.yaml may say of the Redis, and that no password in it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from access.config import effective
from access.config.load import Loaded, load
from access.errors import ConfigError
from access.sharing.config import Place, place_of

SECRET = "never-to-be-seen"


def _load(folder: Path, shared: Any) -> Loaded:
    path = folder / "access.yaml"
    path.write_text(json.dumps({"models": {"m": {"endpoints": ["127.0.0.1:1"]}}, "shared_limits": shared}))
    return load(path, environment={})


@pytest.mark.parametrize(
    ("url", "place", "shown"),
    [
        ("redis://h", Place("h", 6379, 0, False, None, None), "redis://h:6379/0"),
        ("rediss://h:1/15", Place("h", 1, 15, True, None, None), "rediss://h:1/15"),
        ("redis://u:p%40%2F@[fd00::1]:7/", Place("fd00::1", 7, 0, False, "u", "p@/"), "redis://[fd00::1]:7/0"),
        (f"redis://:{SECRET}@h", Place("h", 6379, 0, False, None, SECRET), "redis://h:6379/0"),
    ],
)
def test_a_url_says_where_and_who(url: str, place: Place, shown: str) -> None:
    assert place_of(url) == place
    assert str(place) == shown


@pytest.mark.parametrize(
    "shared",
    [
        {"redis": f"http://:{SECRET}@h"},
        {"redis": f"redis://:{SECRET}@h:99999"},
        {"redis": f"redis://:{SECRET}@h:port"},
        {"redis": f"redis://:{SECRET}@h/first"},
        {"redis": f"redis://:{SECRET}@h/99999999"},
        {"redis": f"redis://:{SECRET}@h?socket_timeout=99"},
        {"redis": f"redis://:{SECRET}@"},
        {"redis": f"redis://:{SECRET}@[h"},
        {"redis": f"redis://:{SECRET}/@h"},
        {"redis": [SECRET]},
        {"redis": "redis://h", "group": "../x"},
        {"redis": f"redis://:{SECRET}@h", "password_file": "file"},
        {"redis": "redis://h", "ca_file": "file"},
        {"group": "shop"},
    ],
    ids=range(14),
)
def test_what_cannot_be_used_is_a_problem_that_names_no_password(tmp_path: Path, shared: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, shared)
    text = " ".join(map(str, refused.value.problems))
    assert "shared_limits" in text
    assert SECRET not in text + str(refused.value)


def test_what_is_shown_of_the_configuration_has_the_address_and_no_password(tmp_path: Path) -> None:
    loaded = _load(tmp_path, {"redis": f"redis://user:{SECRET}@h/2"})
    text = json.dumps(effective.page(loaded.config, loaded.origin))
    assert "redis://h:6379/2" in text
    assert SECRET not in text + repr(loaded.config) + loaded.config.model_dump_json()
