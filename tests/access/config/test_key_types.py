"""What type the configuration has at a path, as the file or pydantic writes it."""

import pytest

from access.config import key_types
from access.config.sections import AccessConfig, Limits, ModelConfig, Route, SplitTarget
from access.discovery.nodefile import NodefileConfig
from access.listening import ListenerTls, SecuredListen


@pytest.mark.parametrize(
    ("path", "section"),
    [
        ((), AccessConfig),
        (("limits",), Limits),
        (("models", "m"), ModelConfig),
        (("models", "m", "versions", "3"), Route),
        (("models", "m", "split", 0), SplitTarget),
        (("discovery", 0, "nodefile"), NodefileConfig),
        (("models", "m", "discovery", "nodefile"), NodefileConfig),
        (("admin", "secured port"), SecuredListen),
        (("listen", 0, "secured port", "tls"), ListenerTls),
        (("workers",), None),
    ],
)
def test_the_section_at_a_path(path, section):
    assert key_types.section(key_types.type_at(path)) is section


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        (("default_cluster",), str),
        (("admin", "plain port"), str),
        (("workers",), int),
        (("limits", "max_streams"), int),
        (("limits", "nothing"), None),
        (("workers", "more"), None),
        (("discovery", 0, "nothing"), None),
    ],
)
def test_the_type_at_a_path_without_its_annotations(path, plain):
    assert key_types.plain(key_types.type_at(path)) is plain


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("listn", ["listen", "limits"], "did you mean listen?"),
        ("x", ["b", "a"], "known: a, b"),
        ("x", [], ""),
        ("x", [f"name{number:02}" for number in range(41)], "name39 ..."),
    ],
)
def test_the_nearest_known_name_is_said_or_which_there_are(name, known, said):
    assert key_types.nearest(name, known).endswith(said)
    assert bool(key_types.nearest(name, known)) == bool(said)
