"""What one file of endpoints says: a mapping by route key, or Prometheus's `file_sd` list of groups with labels.

The two are told apart by their shape. What cannot be used is skipped and named; a model whose part of the file cannot
be used keeps its last good state.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from access.discovery.base import Announced
from access.discovery.file_values import At, Values
from access.document import Document
from access.document import parse as parse_yaml
from access.errors import DiscoveryError
from access.files import read_text
from dl_inference.names import is_name
from dl_inference.problem import Problem
from dl_inference.registry.schema import MAX_WEIGHT, VERSION, ReleaseDocument, SchemaError
from dl_inference.registry.schema import Protocol as WireProtocol
from dl_inference.serving.limits import MAX_MS

# 10,000 endpoints in 1,000 models are about 250 KB; beyond this it is another file given by mistake.
MAX_FILE_BYTES = 16 * 1024 * 1024
# `history` is of who writes the releases: dl_inference.registry.releases.files.
KEYS = ("endpoints", "timeout_ms", "protocol", "release", "history")
META = "__meta_"


@dataclass(slots=True)
class Model:
    """What was gathered of one route key."""

    endpoints: dict[str, Announced] = field(default_factory=dict)
    timeout_ms: int | None = None
    protocol: WireProtocol | None = None
    release: ReleaseDocument | None = None

    def add(self, other: "Model") -> list[str]:
        """Take over what is new; return what contradicts, in words."""
        contradictions = [f"{address} appears twice" for address in other.endpoints if address in self.endpoints]
        self.endpoints = {**other.endpoints, **self.endpoints}
        for name in ("timeout_ms", "protocol", "release"):
            mine, its = getattr(self, name), getattr(other, name)
            if mine is None:
                setattr(self, name, its)
            elif its not in (None, mine):
                contradictions.append(f"another {name} is given already")
        return contradictions


Models = dict[str, Model]


def read_file(path: Path, last: Models) -> tuple[Models, list[Problem]]:
    """Return what a file says, and what of it cannot be used.

    Args:
        path: the file.
        last: what it said before; a model that cannot be used keeps it.

    Raises:
        FileError: it cannot be read.
        DiscoveryError: it cannot be parsed, or nothing in it can be used.
    """
    reader = _Reader(_document(path), path, last=last)
    return reader.read(), reader.warnings


def _document(path: Path) -> Document:
    """Read a file as YAML, or as JSON where its name says so.

    Raises:
        FileError: it cannot be read.
        DiscoveryError: it cannot be parsed, or is empty.
    """
    text = read_text(path, MAX_FILE_BYTES).removeprefix("\ufeff")
    if path.suffix == ".json":
        try:
            document = Document(json.loads(text, object_pairs_hook=_distinct))
        except (ValueError, RecursionError) as error:
            raise DiscoveryError(f"{path}: not JSON: {error}") from None
    else:
        document = parse_yaml(text, path.name, may_be_list=True)
    if not document.data or not isinstance(document.data, dict | list):
        found = "; ".join(str(each) for each in document.problems[:3])
        raise DiscoveryError(found or f"{path}: empty: no mapping by route key and no list of targets in it")
    return document


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {max(names, key=names.count)!r} appears twice in one object")
    return found


@dataclass(slots=True)
class _Reader(Values):
    """Reads one file's document.

    Attributes:
        last: what the file said before; a model that cannot be used keeps it.
    """

    last: Models = field(default_factory=dict)
    models: Models = field(default_factory=dict)

    def read(self) -> Models:
        """Return what it says.

        Raises:
            DiscoveryError: nothing that can be used.
        """
        self.warnings += self.document.problems
        if isinstance(self.document.data, dict):
            for key, value in self.document.data.items():
                self.model(key, value)
        else:
            for index, group in enumerate(self.document.data):
                self.group(index, group)
        if not self.models:
            found = "; ".join(str(each) for each in self.warnings[:3])
            raise DiscoveryError(f"{self.path}: nothing in it can be used: {found}")
        return self.models

    # --- ours

    def model(self, key: str, value: Any) -> None:
        if not is_name(key):
            self.warn((key,), f"{key[:60]!r} is not a route key; it is skipped", "letters, digits, '.', '_', '-'")
            return
        if not isinstance(value, dict) or not isinstance(value.get("endpoints"), list):
            self.keep(key, "it has no list of `endpoints`")
            return
        for unknown in value.keys() - set(KEYS):
            self.warn((key, unknown), f"unknown key {unknown[:60]!r}; it is ignored", f"known: {', '.join(KEYS)}")
        endpoints = self.endpoints((key, "endpoints"), value["endpoints"])
        if value["endpoints"] and not endpoints:
            self.keep(key, "none of its endpoints can be used")
            return
        try:
            release = self.release(key, value["release"]) if value.get("release") is not None else None
        except SchemaError as error:
            self.keep(key, f"its release cannot be used: {error}")
            return
        timeout_ms = self.number((key,), "timeout_ms", value.get("timeout_ms"), MAX_MS)
        protocol = self.protocol((key,), value.get("protocol"))
        self.add((key,), key, Model(endpoints, timeout_ms, protocol, release))

    def keep(self, key: str, reason: str) -> None:
        """Leave a model as it was."""
        if key in self.last:
            self.models[key] = self.last[key]
        self.warn((key,), reason, "its last good state stays" if key in self.last else "it is skipped")

    def release(self, key: str, value: Any) -> ReleaseDocument:
        """Read a release; the model's name and a revision may be left out.

        Raises:
            SchemaError: calls could not be routed by it.
        """
        if not isinstance(value, dict):
            raise SchemaError(f"{str(value)[:60]!r} is not a mapping")
        document = {"model": key, "revision": 1, **value}
        release = ReleaseDocument.parse(json.dumps(document, default=str).encode())
        faults = release.faults() if release.model == key else [f"it is of model {release.model!r}"]
        if faults:
            raise SchemaError("; ".join(faults))
        for place, section in [
            ((key, "release"), release),
            *(((key, "release", "releases", version), each) for version, each in release.releases.items()),
        ]:
            for unknown in section.model_extra or ():
                known = ", ".join(type(section).model_fields)
                self.warn((*place, unknown), f"unknown key {unknown[:60]!r}; it is ignored", f"known: {known}")
        return release

    # --- Prometheus's

    def group(self, index: int, group: Any) -> None:
        at: At = (index,)
        targets = group.get("targets") if isinstance(group, dict) else None
        labels = group.get("labels") if isinstance(group, dict) else None
        if not isinstance(targets, list) or not isinstance(labels, dict):
            self.warn(
                at, "no group with `targets` and `labels`; it is skipped", "{targets: [...], labels: {model: ...}}"
            )
            return
        values = {name.removeprefix(META): str(text) for name, text in labels.items() if text not in (None, "")}
        key = values.get("model", "")
        if not is_name(key):
            self.warn(
                at,
                f"label model {key[:60]!r} is not a route key; the group is skipped",
                "give it `labels: {model: NAME}`",
            )
            return
        at_labels = (*at, "labels")
        common: dict[str, Any] = {"weight": self.number(at_labels, "weight", values.get("weight"), MAX_WEIGHT) or 1}
        if (version := values.get("version")) and VERSION.fullmatch(version):
            common["version"] = version
        elif version:
            self.warn(
                at_labels, f"version {version[:60]!r} is not a number; it is ignored", "the model's version, such as 3"
            )
        items = [{"address": target, **common} if isinstance(target, str) else target for target in targets]
        model = Model(
            self.endpoints((*at, "targets"), items),
            self.number(at_labels, "timeout_ms", values.get("timeout_ms"), MAX_MS),
            self.protocol(at_labels, values.get("protocol")),
        )
        if targets and not model.endpoints:
            self.warn(at, "none of its targets can be used; the group is skipped", "write host:port")
            return
        self.add(at, key, model)

    # --- both

    def add(self, at: At, key: str, model: Model) -> None:
        for contradiction in self.models.setdefault(key, Model()).add(model):
            self.warn(at, f"{key}: {contradiction}", "the first counts")
