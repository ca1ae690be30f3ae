"""The contract of a discovery source, over all of RESOLVERS."""

from pathlib import Path

import pytest

from access.discovery import RESOLVERS, Resolver
from access.discovery.base import Snapshot

NODEFILE = "69=1000,10.0.0.1:8500,10.0.0.2:8500*2\n"
EXAMPLES = {
    "nodefile": {"kind": "nodefile", "path": "nodefile.txt"},
    "static": {
        "kind": "static",
        "entries": {
            "69": {"endpoints": ["10.0.0.1:8500", {"address": "10.0.0.2:8500", "weight": 2}], "timeout_ms": 1000}
        },
    },
}


@pytest.fixture(params=RESOLVERS)
def resolver(request, tmp_path: Path) -> Resolver:
    (tmp_path / "nodefile.txt").write_text(NODEFILE)
    source = RESOLVERS[request.param]
    return source.resolver.create(source.config.model_validate(EXAMPLES[request.param]), tmp_path)


def test_every_source_has_an_example_here():
    assert EXAMPLES.keys() == RESOLVERS.keys()


def test_reading_gives_every_entry_with_addresses_weights_and_timeout(resolver):
    snapshot = resolver.read()
    assert isinstance(snapshot, Snapshot)
    assert list(snapshot.entries) == ["69"]
    entry = snapshot.entries["69"]
    assert [(each.address, each.weight) for each in entry.endpoints] == [("10.0.0.1:8500", 1), ("10.0.0.2:8500", 2)]
    assert entry.timeout_ms == 1000
    assert not snapshot.warnings


def test_reading_twice_gives_the_same(resolver):
    assert resolver.read() == resolver.read()


def test_it_has_a_name_and_says_which_absolute_paths_to_watch(resolver):
    assert resolver.name
    assert all(path.is_absolute() for path in resolver.watch_paths())


def test_its_kind_is_the_row_in_the_table():
    for kind, source in RESOLVERS.items():
        assert source.config.model_validate(EXAMPLES[kind]).kind == kind
