"""Single values in a file of endpoints: addresses, numbers, protocols; what cannot be used is left out and named."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from access.discovery.base import Announced
from access.document import Document, place_of
from dl_inference.problem import Problem
from dl_inference.registry.schema import Protocol as WireProtocol

PROTOCOLS = get_args(WireProtocol)

At = tuple[str | int, ...]
"""Where in the file: keys and positions."""


@dataclass(slots=True)
class Values:
    """Reads values of one file's document, and remembers what of them cannot be used.

    Attributes:
        document: what the file holds.
        path: the file's, for warnings.
        warnings: in the order of reading.
    """

    document: Document
    path: Path
    warnings: list[Problem] = field(default_factory=list)

    def warn(self, at: At, message: str, remedy: str) -> None:
        """Name something by its line and place."""
        line = self.document.lines.get(at)
        place = self.path.name + (f":{line}" if line else "")
        self.warnings.append(Problem(f"{place} {place_of(at)}", message, remedy))

    def endpoints(self, at: At, items: list[Any]) -> dict[str, Announced]:
        """Return the endpoints that can be used, by address."""
        endpoints: dict[str, Announced] = {}
        for index, item in enumerate(items):
            endpoint = self.endpoint((*at, index), item)
            if endpoint is None:
                continue
            if endpoint.address in endpoints:
                self.warn((*at, index), f"{endpoint.address} appears twice; the first counts", "give it a weight")
                continue
            endpoints[endpoint.address] = endpoint
        return endpoints

    def endpoint(self, at: At, item: Any) -> Announced | None:
        """Return an endpoint; None, and a warning, for anything else."""
        given = {"address": item} if isinstance(item, str) else item
        if not isinstance(given, dict):
            self.warn(
                at, f"{str(item)[:60]!r} is skipped: it is not an endpoint", "write host:port, or {address: host:port}"
            )
            return None
        for unknown in given.keys() - Announced.model_fields.keys():
            known = ", ".join(Announced.model_fields)
            self.warn(at, f"unknown key {str(unknown)[:60]!r}; it is ignored", f"known: {known}")
        known_only = {key: given[key] for key in Announced.model_fields if given.get(key) is not None}
        if "version" in known_only:  # a number where YAML was given no quotation marks
            known_only["version"] = _text(known_only["version"])
        if isinstance(known_only.get("versions"), list):
            known_only["versions"] = [_text(each) for each in known_only["versions"]]
        try:
            return Announced.model_validate(known_only)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            message = first["msg"].removeprefix("Value error, ")
            self.warn(
                at, f"{str(item)[:60]!r} is skipped: {place}: {message}", "write host:port, or {address: host:port}"
            )
            return None

    def number(self, at: At, name: str, given: Any, highest: int) -> int | None:
        """Return a whole number from 1 on; None, and a warning, for anything else."""
        if given is None:
            return None
        text = _text(given)
        if isinstance(text, str) and re.fullmatch("[0-9]{1,9}", text) and 1 <= int(text) <= highest:
            return int(text)
        self.warn((*at, name), f"{name} {str(given)[:60]!r} is ignored", f"a whole number from 1 to {highest}")
        return None

    def protocol(self, at: At, given: Any) -> WireProtocol | None:
        """Return a protocol that we know; None, and a warning, for anything else that is given."""
        for known in PROTOCOLS:
            if given == known:
                return known  # type: ignore[no-any-return]
        if given is not None:
            self.warn((*at, "protocol"), f"protocol {str(given)[:60]!r} is ignored", f"one of {', '.join(PROTOCOLS)}")
        return None


def _text(value: Any) -> Any:
    """Return the text that a whole number was meant to be."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
