import os
from pathlib import Path

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from access.discovery.nodefile import NodefileResolver, parse
from access.errors import DiscoveryError


def entries(text: str) -> dict[str, tuple[int | None, list[tuple[str, int]]]]:
    return {
        key: (entry.timeout_ms, [(each.address, each.weight) for each in entry.endpoints])
        for key, entry in parse(text, "nodefile.txt").entries.items()
    }


def warnings(text: str) -> list[str]:
    return [f"{each.place} {each.message}" for each in parse(text, "nodefile.txt").warnings]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("69=1000,10.0.0.1:8500,10.0.0.2:8500", (1000, [("10.0.0.1:8500", 1), ("10.0.0.2:8500", 1)])),
        ("69=1000,10.0.0.1:8500,", (1000, [("10.0.0.1:8500", 1)])),
        ("69=1000,10.0.0.1:8500\r", (1000, [("10.0.0.1:8500", 1)])),
        (" 69 = 1000 , 10.0.0.1:8500 ", (1000, [("10.0.0.1:8500", 1)])),
        ("69=1000,localhost:8500", (1000, [("localhost:8500", 1)])),
        ("69=1000,10.0.0.1:8500*3", (1000, [("10.0.0.1:8500", 3)])),
        ("69=1000,[::1]:8500*2", (1000, [("[::1]:8500", 2)])),
        ("69=1000,10.0.0.1:8500 # the fast one", (1000, [("10.0.0.1:8500", 1)])),
        ("\ufeff69=1000,10.0.0.1:8500", (1000, [("10.0.0.1:8500", 1)])),
    ],
)
def test_a_line_that_can_be_read_is_read_without_a_warning(line, expected):
    assert entries(line) == {"69": expected}
    assert warnings(line) == []


@pytest.mark.parametrize(
    ("line", "expected", "named"),
    [
        ("69=1000,10.0.0.1:8500,garbage", (1000, [("10.0.0.1:8500", 1)]), "'garbage' is skipped"),
        ("69=1000,10.0.0.1:85000,a:1", (1000, [("a:1", 1)]), "'10.0.0.1:85000' is skipped: port"),
        ("69=1000,::1:8500,a:1", (1000, [("a:1", 1)]), "'::1:8500' is skipped"),
        ("69=1000,10.0.0.1:8500*0,a:1", (1000, [("a:1", 1)]), "weight"),
        ("69=1000,10.0.0.1:8500*x,a:1", (1000, [("a:1", 1)]), "weight"),
        ("69=1000,a:1,a:1*2", (1000, [("a:1", 1)]), "a:1 appears twice"),
        ("69=1000,a:1=2,b:1", (1000, [("b:1", 1)]), "'a:1=2' is skipped"),
        ("69=1000,a:1;c:1,b:1", (1000, [("b:1", 1)]), "'a:1;c:1' is skipped"),
        ("69=fast,a:1", (None, [("a:1", 1)]), "'fast' is not a timeout"),
        ("69=0,a:1", (None, [("a:1", 1)]), "'0' is not a timeout"),
        ("69=,a:1", (None, [("a:1", 1)]), "'' is not a timeout"),
        ("69=a:1,b:1", (None, [("a:1", 1), ("b:1", 1)]), "'a:1' is not a timeout"),
    ],
)
def test_a_bad_item_is_skipped_and_named(line, expected, named):
    assert entries(line) == {"69": expected}
    assert len(warnings(line)) == 1
    assert named in warnings(line)[0]
    assert warnings(line)[0].startswith("nodefile.txt:1 ")


@pytest.mark.parametrize(
    "line", ["no equals", "95=", "=1000,a:1", "a b=1000,a:1", "../x=1000,a:1", "87=1000", "88=100,"]
)
def test_a_bad_line_is_skipped_and_named_and_the_others_stand(line):
    text = f"69=1000,a:1\n# comment\n\n{line}\n70=500,b:1\n"
    assert entries(text) == {"69": (1000, [("a:1", 1)]), "70": (500, [("b:1", 1)])}
    assert "nodefile.txt:4 " in warnings(text)[0]


def test_of_two_lines_with_one_key_the_last_counts_and_both_are_named():
    text = "69=1000,a:1\n69=500,b:1"
    assert entries(text) == {"69": (500, [("b:1", 1)])}
    assert warnings(text) == ["nodefile.txt:2 key 69 is on line 1 already; this line counts"]


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "garbage\n", "69=\n"])
def test_a_file_without_a_usable_line_is_a_broken_file(text):
    with pytest.raises(DiscoveryError, match="no line"):
        parse(text, "nodefile.txt")


def test_a_removed_line_is_removed(tmp_path: Path):
    path = tmp_path / "nodefile.txt"
    resolver = NodefileResolver(path)
    path.write_text("69=1,a:1\n70=1,b:1\n")
    assert set(resolver.read().entries) == {"69", "70"}
    path.write_text("70=1,b:1\n")
    assert set(resolver.read().entries) == {"70"}


def test_a_file_that_is_missing_a_folder_a_pipe_or_no_text_is_named(tmp_path: Path):
    (tmp_path / "binary").write_bytes(b"69=1,a:1\n\xff")
    os.mkfifo(tmp_path / "pipe")
    reasons = {"missing": "No such file", ".": "directory", "pipe": "not a regular file", "binary": "UTF-8 at byte 9"}
    for name, reason in reasons.items():
        with pytest.raises(DiscoveryError, match=reason):
            NodefileResolver(tmp_path / name).read()


@seed(20261121)
@given(st.text(alphabet="0169=,:*#[]ab. \n\r\t\ufeff", max_size=200))
def test_any_text_gives_entries_that_the_data_plane_takes_or_a_discovery_error(text):
    try:
        snapshot = parse(text, "nodefile.txt")
    except DiscoveryError:
        return
    for entry in snapshot.entries.values():
        addresses = [each.address for each in entry.endpoints]
        assert addresses
        assert len(addresses) == len(set(addresses))
        assert all(1 <= each.weight <= 65535 for each in entry.endpoints)
        assert entry.timeout_ms is None or entry.timeout_ms >= 1
