"""dl_inference's `nodefile.txt`: a line ``key=timeout_ms,host:port,...`` for each route key.

What its original reader swallowed, mistook or died of is skipped here and named, and the other lines stand:
blanks, CRLF, a trailing comma and a byte-order mark are harmless; an item that is not an address is left out; a
timeout that cannot be read counts as not given; of two lines with one key the last counts; a removed line is
removed. ``host:port*2`` gives an endpoint the weight 2. A file without any usable line is taken for a broken
one (somebody is just rewriting it), so that it cannot take every model away.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import Field

from access.discovery.base import Entry, Resolver, Snapshot, SourceConfig
from access.errors import DiscoveryError
from access.fields import EndpointConfig
from access.files import FileError, read_text
from dl_inference.address import fault
from dl_inference.names import is_name
from dl_inference.problem import Problem
from dl_inference.registry.schema import MAX_WEIGHT
from dl_inference.serving.limits import MAX_MS

# 10,000 endpoints in 1,000 models are about 250 KB; beyond this it is another file given by mistake.
MAX_FILE_BYTES = 16 * 1024 * 1024

_COMMENT = re.compile(r"(^|\s)#.*")


class NodefileConfig(SourceConfig):
    """dl_inference's `nodefile.txt`: a line `key=timeout_ms,host:port,...` for each route key.

    `host:port*2` gives an endpoint the weight 2, and `#` starts a comment. Mistakes are skipped, logged and listed by
    `dl-inference status`; the rest of the file is used. An item that is not an address is skipped, and so is a line
    without an endpoint. If the first item is not a number of milliseconds, the cluster's `timeout_ms` applies. If two
    lines have the same key, the last one is used. Removing a line removes its model. A file that is missing, or has no
    usable line, changes nothing: the last good state stays.
    """

    path: str = Field(
        min_length=1,
        description="the file; a relative path starts at the configuration's folder. Changes are followed",
    )


class NodefileResolver(Resolver):
    """Reads one nodefile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = f"nodefile:{path}"

    @classmethod
    def create(cls, config: SourceConfig, folder: Path) -> Self:
        """Make the resolver of ``config.path``."""
        return cls(folder / NodefileConfig.model_validate(config).path)

    def read(self) -> Snapshot:
        """Return the file's entries.

        Raises:
            DiscoveryError: no such file, not a regular one, not UTF-8, or without any usable line.
        """
        try:
            text = read_text(self._path, MAX_FILE_BYTES)
        except FileError as error:
            raise DiscoveryError(str(error)) from error
        return parse(text, str(self._path))

    def watch_paths(self) -> Sequence[Path]:
        """Return the file."""
        return (self._path,)


def parse(text: str, place: str) -> Snapshot:
    """Return the entries of a nodefile's text.

    Args:
        text: the content.
        place: the file's name, for warnings and errors.

    Raises:
        DiscoveryError: there is no usable line.
    """
    reader = _Reader(place)
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        reader.line(number, _COMMENT.sub("", line).strip())
    if not reader.entries:
        found = "; ".join(str(warning) for warning in reader.warnings[:3])
        raise DiscoveryError(f"{place}: no line `key=timeout_ms,host:port,...` in it" + (f": {found}" if found else ""))
    return Snapshot(reader.entries, tuple(reader.warnings))


@dataclass(slots=True)
class _Reader:
    place: str
    entries: dict[str, Entry] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def warn(self, number: int, message: str, remedy: str) -> None:
        self.warnings.append(Problem(f"{self.place}:{number}", message, remedy))

    def line(self, number: int, line: str) -> None:
        if not line:
            return
        key, equals, value = line.partition("=")
        key = key.strip()
        if not equals:
            self.warn(number, f"{line[:60]!r} has no '='; the line is skipped", "write key=timeout_ms,host:port,...")
            return
        if not is_name(key):
            self.warn(number, f"{key[:60]!r} is not a route key; the line is skipped", "letters, digits, '.', '_', '-'")
            return
        entry = self.entry(number, key, [item.strip() for item in value.split(",")])
        if entry is None:
            return
        if key in self.lines:
            self.warn(
                number, f"key {key} is on line {self.lines[key]} already; this line counts", "remove one of the two"
            )
        self.lines[key] = number
        self.entries[key] = entry

    def entry(self, number: int, key: str, items: list[str]) -> Entry | None:
        timeout_ms = self.timeout(number, key, items)
        endpoints: dict[str, EndpointConfig] = {}
        for item in items[1:] if fault(_split_weight(items[0])[0]) else items:
            endpoint = self.endpoint(number, key, item)
            if endpoint is None:
                continue
            if endpoint.address in endpoints:
                self.warn(number, f"{key}: {endpoint.address} appears twice; the first counts", "use a weight: *2")
                continue
            endpoints[endpoint.address] = endpoint
        if not endpoints:
            self.warn(number, f"{key}: no endpoint is left; the line is skipped", "write key=timeout_ms,host:port,...")
            return None
        return Entry(tuple(endpoints.values()), timeout_ms)

    def timeout(self, number: int, key: str, items: list[str]) -> int | None:
        text = items[0]
        if re.fullmatch(r"\+?[0-9]{1,9}", text) and 1 <= int(text) <= MAX_MS:
            return int(text)
        self.warn(
            number,
            f"{key}: the first item {text[:60]!r} is not a timeout in ms; the source's timeout_ms holds",
            f"begin with a number from 1 to {MAX_MS}",
        )
        return None

    def endpoint(self, number: int, key: str, item: str) -> EndpointConfig | None:
        if not item:  # after a trailing comma
            return None
        address, weight = _split_weight(item)
        if reason := fault(address):
            self.warn(number, f"{key}: {item[:60]!r} is skipped: {reason}", "write host:port or host:port*weight")
            return None
        if weight is None:
            self.warn(
                number,
                f"{key}: {item[:60]!r} is skipped: its weight is not in 1..{MAX_WEIGHT}",
                "write host:port*weight",
            )
            return None
        return EndpointConfig(address=address, weight=weight)


def _split_weight(item: str) -> tuple[str, int | None]:
    """Return address and weight of ``host:port*2``; None for a weight that is none."""
    address, star, text = (part.strip() for part in item.partition("*"))
    if not star:
        return address, 1
    is_weight = re.fullmatch(r"[0-9]{1,5}", text) and 1 <= int(text) <= MAX_WEIGHT
    return address, int(text) if is_weight else None
