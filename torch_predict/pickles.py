"""See what a pickle would import, without importing any of it.

An unpickler that gives an inert stand-in for every name reads the pickle to its end; no name is looked up and
nothing is called. Reading the opcodes instead would miss names that a pickle puts together on its stack.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

_WEIGHT = re.compile(
    r"collections\.OrderedDict"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state|qtensor|sparse_tensor)"
    r"|torch(\.storage)?\.(\w+Storage|_UntypedStorage)"
    r"|torch\.(Size|device|q?u?int\d+|bool|b?float\w*|complex\d+|per_tensor_affine|per_channel_affine|strided)"
    r"|torch\.serialization\._get_layout"
    r"|torch\.nn\.parameter\.Parameter"
)
_MAX_ROWS = 8
"""Pickles in a row in one file: torch.save without zip writes five."""


def is_weight(name: str) -> bool:
    """Say whether a name in a pickle is one of torch's own tensor pieces, which run nothing."""
    return _WEIGHT.fullmatch(name) is not None


def names_in_pickle(file: Path) -> set[str] | None:
    """Return the names (``module.name``) that the pickle of a torch.save file would import.

    Returns: None when there is no pickle in the file, or it cannot be read to its end.
    """
    try:
        data = file.read_bytes() if not zipfile.is_zipfile(file) else _member(file, "data.pkl")
    except (OSError, zipfile.BadZipFile):
        return None
    if data is None or data[:1] != b"\x80":
        return None
    names, whole = _names(data)
    return names if whole else None


def names_in_archive(file: Path) -> set[str]:
    """Return the names that any pickle inside a zip archive would import, also of archives inside it."""
    names: set[str] = set()
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                data = archive.read(member)
                if data[:2] == b"PK":
                    data = _member(io.BytesIO(data), "data.pkl") or b""
                if data[:1] == b"\x80":  # or weights that happen to begin so; those end at once, with no name
                    names |= _names(data)[0]
    except (OSError, zipfile.BadZipFile):
        return names  # what else is wrong with the file, loading it says
    return names


def _member(file: Path | io.BytesIO, ending: str) -> bytes | None:
    with zipfile.ZipFile(file) as archive:
        name = next((n for n in archive.namelist() if n.rpartition("/")[2] == ending), None)
        return None if name is None else archive.read(name)


class _Inert:
    """Stands in for whatever a pickle names; takes any use and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass

    def add(self, value: Any) -> None:
        pass

    def update(self, values: Any) -> None:
        pass


class _Reader(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, names: set[str]) -> None:
        super().__init__(stream)
        self._names = names

    def find_class(self, module: str, name: str) -> Any:
        self._names.add(f"{module}.{name}")
        return _Inert

    def persistent_load(self, pid: Any) -> Any:
        return _Inert()


def _names(data: bytes) -> tuple[set[str], bool]:
    """Return the names of all pickles in a row, and whether the first one at least was whole."""
    stream = io.BytesIO(data)
    names: set[str] = set()
    whole = False
    for _ in range(_MAX_ROWS):
        if data[stream.tell() : stream.tell() + 1] != b"\x80":
            break
        try:
            _Reader(stream, names).load()
        except Exception:
            break
        whole = True
    return names, whole
