"""Who may use whom in the data plane, read from its sources: rooms by name, no circles, one door to the HTTP/2 library.

A room is a folder, or a single file, directly below `core/src`. That the Python binding sees no more than the crate's
front is the compiler's to check: every module of `lib.rs` is private.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

CRATES = Path(__file__).parents[2] / "dataplane" / "crates"
CORE = CRATES / "core" / "src"
# A crate of its own, with no dependency that could do more than compute: one room of the core.
BALANCE = CRATES / "balance" / "src"

Module = tuple[str, ...]
Sources = Mapping[Module, str]

# Room -> the rooms that it may use. From the bottom up; `program` puts everything together.
ROOMS = {
    "balance": set(),
    # A queue of the HTTP/2 engine's, for the bodies of calls.
    "chunks": set(),
    "code": set(),
    "config": set(),
    "error": {"balance", "code"},
    # The lists of the HTTP/2 engine, for all that is above.
    "headers": set(),
    "stats": {"code", "error"},
    "grpc": {"code", "error", "headers"},
    "notice": set(),
    "net": {"config", "headers", "notice", "stats"},
    "spans": {"config", "grpc", "headers", "notice"},
    "sync": set(),
    "call": {"code", "config", "error", "grpc", "headers", "net", "stats", "sync"},
    "callers": {"call", "config", "error", "grpc", "headers", "notice", "stats", "sync"},
    "local": {"call", "code", "error", "grpc", "headers", "net"},
    "proxy": {
        "balance",
        "call",
        "callers",
        "chunks",
        "code",
        "config",
        "error",
        "grpc",
        "headers",
        "local",
        "net",
        "notice",
        "spans",
        "stats",
        "sync",
    },
    "worker": {"call", "code", "config", "error", "grpc", "headers", "local", "net", "spans", "stats"},
    "rest": {"call", "callers", "code", "config", "error", "grpc", "headers", "local", "net"},
    "admin": {"net", "stats"},
    "program": {
        "admin",
        "balance",
        "callers",
        "code",
        "config",
        "error",
        "local",
        "net",
        "notice",
        "proxy",
        "rest",
        "spans",
        "stats",
        "worker",
    },
}

# The rooms of `rest`: the files outside of them (`dispatch`, `frame` ...) put them together, and no room may use these.
# A form uses no other form: what two have in common is `model`'s, `web`'s or `tensors`'.
REST = {
    "tensors": set(),
    "web": {"tensors"},
    "grpc": {"tensors", "web"},
    "model": {"grpc", "tensors", "web"},
    "uris": set(),
    "oip": {"grpc", "model", "tensors", "web"},
    "tfs": {"grpc", "model", "tensors", "web"},
    "seldon": {"grpc", "model", "tensors", "web"},
    "atserving": {"grpc", "model", "tensors", "uris", "web"},
    "openai": {"grpc", "model", "tensors", "web"},
    "goinfer": {"grpc", "model", "tensors", "web"},
    "openapi": {"grpc", "model", "tensors", "web"},
    "docs": {"web"},
}

# Where the HTTP/2 engine is known: the request path sees its lists, and a head, a reader and a sender of ours.
HTTP2_DOORS = (("chunks",), ("headers",), ("net",), ("proxy", "pool"))
# What is no protocol's is handed on.
HANDED_ON = (("chunks",), ("headers",))

# A policy decides from what it is told: it reads no clock and touches no socket.
IMPURE = ("tokio::", "std::time", "std::net", "std::fs", "std::thread", "fastrand::")


def read() -> dict[Module, str]:
    """Return the source of each module, without its tests; those of the balancer's crate below ``balance``."""
    found = {}
    for root, room in ((CORE, ()), (BALANCE, ("balance",))):
        for path in sorted(root.rglob("*.rs")):
            if path.stem in ("lib", "testing", "tests") or path.stem.endswith("_tests"):
                continue
            parts = path.relative_to(root).with_suffix("").parts
            found[(*room, *(parts[:-1] if parts[-1] == "mod" else parts))] = product(path.read_text())
    return found


def product(source: str) -> str:
    """Return a source without comments and without the tests at its end."""
    return re.sub(r"//.*", "", source.partition("#[cfg(test)]\nmod tests {")[0])


def expanded(tree: str) -> Iterator[str]:
    """Yield each path of a use tree: ``a::{b, c::d}`` is ``a::b`` and ``a::c::d``."""
    head, brace, rest = tree.partition("{")
    if not brace:
        yield tree.partition(" as ")[0].strip()
        return
    depth, part = 0, ""
    for character in rest.rpartition("}")[0] + ",":
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            if part.strip():
                yield from expanded(head.strip() + part.strip())
            part = ""
        else:
            part += character


def paths(module: Module, source: str) -> Iterator[Module]:
    """Yield the absolute path, within the crate, of everything that a module names by crate, self or super."""
    trees = re.findall(r"\buse\s+([^;]+);", source)
    inline = re.findall(r"\b(?:crate|super)(?:::\w+)+", re.sub(r"\buse\s+[^;]+;", "", source))
    for path in [path for tree in trees for path in expanded(tree)] + inline:
        first, *rest = path.split("::")
        base = list(module)
        if first == "crate":
            base = []
        elif first == "super":
            base = base[:-1]
            while rest and rest[0] == "super":
                base, rest = base[:-1], rest[1:]
        elif first != "self":
            continue
        yield (*base, *rest)


def uses(sources: Sources) -> dict[Module, set[Module]]:
    """Return which modules each module uses; a module and what lies below it are one."""
    edges: dict[Module, set[Module]] = {}
    for module, source in sources.items():
        found = edges.setdefault(module, set())
        for path in paths(module, source):
            target = next((path[:end] for end in range(len(path), 0, -1) if path[:end] in sources), None)
            is_kin = target is None or target[: len(module)] == module or module[: len(target)] == target
            if target is not None and not is_kin:
                found.add(target)
    return edges


def strangers(sources: Sources) -> list[str]:
    """Return every use of a room by one that may not use it, and every room without a rule."""
    unknown = [f"{module[0]}: no such room" for module in sources if module[0] not in ROOMS]
    return unknown + [
        f"{'::'.join(module)} uses {'::'.join(target)}"
        for module, targets in uses(sources).items()
        for target in sorted(targets)
        if target[0] != module[0] and target[0] not in ROOMS.get(module[0], ())
    ]


def rest_uses(sources: Sources) -> dict[str, set[str]]:
    """Return which rooms and files of `rest` each of its rooms uses."""
    used: dict[str, set[str]] = {room: set() for room in REST}
    for module, targets in uses(sources).items():
        if module[0] == "rest" and len(module) > 1 and module[1] in REST:
            inner = {target[1] if len(target) > 1 else "mod" for target in targets if target[0] == "rest"}
            used[module[1]] |= inner - {module[1]}
    return used


def strangers_in_rest(sources: Sources) -> list[str]:
    """Return every use of a part of `rest` by a room of it that may not use it."""
    used = rest_uses(sources)
    return [f"rest::{room} uses {other}" for room in REST for other in sorted(used[room] - REST[room])]


def circles(sources: Sources) -> list[Module]:
    """Return the modules that are left when those are taken away that use none of the rest: each is in a circle, or
    leads to one."""
    left = uses(sources)
    while free := [module for module, targets in left.items() if not targets & left.keys()]:
        for module in free:
            del left[module]
    return sorted(left)


def doors(sources: Sources) -> list[str]:
    """Return the modules that know the HTTP/2 engine and may not, or hand its names on."""
    return [
        "::".join(module)
        for module, source in sources.items()
        if (re.search(r"\b(?:dl_http2|h2)\b", source) and not any(module[: len(door)] == door for door in HTTP2_DOORS))
        or (module not in HANDED_ON and re.search(r"\bpub(?:\(\w+\))? use dl_http2\b", source))
    ]


def impure(sources: Sources) -> list[str]:
    """Return what policies use and may not."""
    balance = {module: source for module, source in sources.items() if module[0] == "balance"}
    return [f"{'::'.join(module)}: {word}" for module, source in balance.items() for word in IMPURE if word in source]


def handwritten(sources: Sources) -> list[str]:
    """Return the modules that write a protobuf message a second time: build.rs compiles them from protos/.

    The index of reflection may: it reads descriptors and leaves each as it came, as no message of protos/ does.
    """
    allowed = ("local", "reflection", "index")
    return ["::".join(module) for module, source in sources.items() if "#[prost(" in source and module != allowed]


CHECKS = (strangers, strangers_in_rest, circles, doors, impure, handwritten)


def test_there_is_something_to_look_at():
    sources = read()
    assert {module[0] for module in sources} == set(ROOMS)
    assert ("net", "stream") in uses(sources)["proxy", "exchange"]
    assert "dl_http2::" in sources["net", "stream"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_data_plane_keeps_the_rule(check):
    assert check(read()) == []


@pytest.mark.parametrize(
    ("check", "module", "line"),
    [
        (strangers, ("net", "stream"), "use crate::call::limit;"),
        (strangers, ("proxy", "handle"), "let page = crate::admin::metrics::render(view);"),
        (strangers, ("worker", "front"), "use crate::{error::Error, proxy::handle::handle};"),
        (strangers, ("balance", "policy"), "use super::super::error::ErrorKind;"),
        (strangers, ("attic",), ""),
        (strangers_in_rest, ("rest", "seldon", "over"), "use crate::rest::oip::Call;"),
        (strangers_in_rest, ("rest", "web", "body"), "use crate::rest::intake::Intake;"),
        (strangers_in_rest, ("rest", "atserving", "batch"), "use crate::rest::target::find;"),
        (circles, ("proxy", "attempt"), "use super::handle;"),
        (circles, ("net", "accept"), "use super::{drain, serve::Serving};"),
        (doors, ("proxy", "exchange"), "use h2::RecvStream;"),
        (doors, ("call", "responder"), "fn reset(code: dl_http2::Code) {}"),
        (doors, ("worker", "front"), "use dl_http2 as wire;"),
        (doors, ("net", "stream"), "pub use dl_http2::Code;"),
        (impure, ("balance", "policy"), "use std::time::Instant;"),
        (handwritten, ("local", "oip"), '#[prost(bool, tag = "1")]'),
    ],
)
def test_a_broken_rule_is_seen(check, module, line):
    sources = read()
    sources[module] = f"{sources.get(module, '')}\n{line}\n"
    assert check(sources)


def test_each_room_uses_what_it_may_use():
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, targets in uses(read()).items():
        used[module[0]] |= {target[0] for target in targets} - {module[0]}
    assert used == ROOMS, "a rule that nobody needs is one that nobody would miss"
    assert rest_uses(read()) == REST
