"""Release documents in a folder of files that `discovery: {kind: file, path: "folder/*"}` reads: `<model>.json`.

    {"digits": {"endpoints": [], "release": {...}, "history": [{...}, ...]}}

`release` is a `ReleaseDocument` (model and revision may be left out by hand); `history`, the oldest first, is ours
alone; whatever else is in the file stays as it is. The endpoints may be there, or in another file of the folder. A
change replaces the whole file, so that a reader always finds a whole one; writers exclude each other by a lock.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dl_inference.registry.releases import whole_file
from dl_inference.registry.releases.store import HISTORY_LENGTH, Applied, Stored, parse
from dl_inference.registry.schema import (
    MAX_DOCUMENT_BYTES,
    EndpointDocument,
    ReleaseDocument,
    SchemaError,
    release_path,
)
from dl_inference.registry.zookeeper import RegistryError

MAX_FILE_BYTES = (HISTORY_LENGTH + 2) * MAX_DOCUMENT_BYTES


class ReleaseFiles:
    """The release documents of one folder."""

    def __init__(self, folder: Path, timeout_ms: int) -> None:
        """Take a folder that exists.

        Raises:
            RegistryError: there is no such folder.
        """
        if not folder.is_dir():
            raise RegistryError(
                f"{folder} is not a folder of release documents: make it, or name a registry: zk://host1:2181,host2:2181/chroot"
            )
        self._folder, self._timeout_s = folder, timeout_ms / 1000

    @property
    def name(self) -> str:
        """Return the folder."""
        return str(self._folder)

    def read(self, model: str) -> Stored:
        """Return what is there now."""
        data = whole_file.read(path_of(self._folder, model), MAX_FILE_BYTES)
        if data is None:
            return Stored(None, None, None, 0)
        try:
            entry = _entry(data, model)
        except SchemaError as error:
            return Stored(None, str(error), data, 0)
        last = max((each for each in map(_revision, entry["history"]) if each is not None), default=0)
        try:
            return Stored(_release(entry, model), None, data, last)
        except SchemaError as error:
            return Stored(None, str(error), data, last)

    def write(self, model: str, found: Stored, document: ReleaseDocument | None) -> bool:
        """Put a document in the place of what was found, and into the history; None takes it away."""
        path = path_of(self._folder, model)
        with whole_file.locked(path, self._timeout_s):
            data = whole_file.read(path, MAX_FILE_BYTES)
            if data != found.token:
                return False
            try:
                whole, entry = (_object(data) if data else {}), _entry(data, model) if data else {}
            except SchemaError:  # nothing of it can be kept
                whole, entry = {}, {}
            history = list(entry.get("history", []))
            if found.document is not None and found.document.revision not in map(_revision, history):
                history.append(json.loads(found.document.dump()))  # written by hand
            release = None if document is None else json.loads(document.dump())
            if release is not None:
                history.append(release)
            changed = {"endpoints": [], **entry, "release": release, "history": history[-HISTORY_LENGTH:]}
            whole_file.replace(path, json.dumps({**whole, model: changed}, indent=1).encode() + b"\n")
        return True

    def history(self, model: str) -> list[ReleaseDocument | SchemaError]:
        """Return the documents of the last revisions, the oldest first."""
        data = whole_file.read(path_of(self._folder, model), MAX_FILE_BYTES)
        history: list[ReleaseDocument | SchemaError] = []
        try:
            entry = _entry(data, model) if data else {"history": []}
        except SchemaError as error:
            return [error]
        for each in entry["history"]:
            try:
                history.append(parse(model, json.dumps(each).encode()))
            except SchemaError as error:
                history.append(error)
        return history

    def endpoints(self, model: str) -> list[EndpointDocument] | None:
        """Return those that the file lists beside the releases; None: it lists none, as they are in another one."""
        data = whole_file.read(path_of(self._folder, model), MAX_FILE_BYTES)
        try:
            entry = _entry(data, model) if data else {}
        except SchemaError:
            return None
        given = entry.get("endpoints")
        if not given or not isinstance(given, list):
            return None
        common = {"protocol": entry.get("protocol", "tfs"), "model": model}
        found = (_endpoint({**common, **(each if isinstance(each, dict) else {"address": each})}) for each in given)
        return [each for each in found if each is not None]

    def applied(self, model: str) -> list[Applied] | None:
        """Return None: the access services do not write here."""
        return None


def path_of(folder: Path, model: str) -> Path:
    """Return the file of a model.

    Raises:
        ValueError: not a model's name.
    """
    release_path(model)  # checks the name
    return folder / f"{model}.json"


def _object(data: bytes) -> dict[str, Any]:
    """Return what is in a file.

    Raises:
        SchemaError: it is no JSON object.
    """
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"no JSON: {error}") from None
    if not isinstance(whole, dict):
        raise SchemaError("no JSON object with a key for each model")
    return whole


def _entry(data: bytes, model: str) -> dict[str, Any]:
    """Return what a file says of a model, always with a `history`.

    Raises:
        SchemaError: it is not such a file.
    """
    entry = _object(data).get(model, {})
    if not isinstance(entry, dict):
        raise SchemaError(f"{model}: {str(entry)[:80]!r}: should be an object")
    history = entry.get("history", [])
    if not isinstance(history, list):
        raise SchemaError(f"{model}.history: {str(history)[:80]!r}: should be a list")
    return {**entry, "history": history}


def _release(entry: Mapping[str, Any], model: str) -> ReleaseDocument | None:
    release = entry.get("release")
    if release is None:
        return None
    if not isinstance(release, dict):
        raise SchemaError(f"{model}.release: {str(release)[:80]!r}: should be an object")
    return parse(model, json.dumps({"model": model, "revision": 1, **release}).encode())


def _endpoint(values: Mapping[str, Any]) -> EndpointDocument | None:
    known = {key: values[key] for key in ("address", "protocol", "model", "version", "versions") if key in values}
    try:
        return EndpointDocument.parse(json.dumps(known).encode())
    except SchemaError:  # discovery names it; nobody calls it either
        return None


def _revision(document: Any) -> int | None:
    revision = document.get("revision") if isinstance(document, dict) else None
    return revision if isinstance(revision, int) and not isinstance(revision, bool) and revision > 0 else None
