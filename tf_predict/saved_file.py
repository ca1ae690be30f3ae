"""What the files of a SavedModel tell without TensorFlow: its signatures, and whether they are whole.

Of saved_model.pb only protobuf's frame is walked: the graph inside may be large, and no message class knows it here.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from dl_inference.messages import SignatureDef
from dl_inference.problem import Problem

FILE = "saved_model.pb"

# Fields of SavedModel, MetaGraphDef, MetaInfoDef and of a map's entry, in TensorFlow's saved_model.proto and
# meta_graph.proto.
_META_GRAPHS = 2
_META_INFO, _GRAPH, _SIGNATURES = 1, 2, 5
_TAGS = 4
_KEY, _VALUE = 1, 2

_VARIABLES = tuple(b"\x12" + bytes([len(op)]) + op for op in (b"VarHandleOp", b"VariableV2", b"Variable"))
"""How a node of the graph names its operator (NodeDef.op), for operators whose values lie in variables/."""
_SHARD = re.compile(r"variables\.data-(\d{5})-of-(\d{5})")
_COPY = "save or copy it again"


class _CutOffError(ValueError):
    pass


def signatures(place: Path) -> dict[str, Any]:
    """Return the signatures of the graph that is served, by name: `SignatureDef`; none where they cannot be read."""
    try:
        with _mapped(place / FILE) as data:
            for graph in _served_graphs(data):
                return dict(_signature(data, span) for number, span in _fields(data, *graph) if number == _SIGNATURES)
    except (OSError, ValueError, DecodeError):
        pass
    return {}


def problems(place: Path) -> list[Problem]:
    """Return what is wrong with the files of one version, as far as it shows without TensorFlow."""
    file = place / FILE
    if not file.is_file():  # saved_model.pbtxt
        return []
    try:
        with _mapped(file) as data:
            if not any(number == _META_GRAPHS for number, _ in _fields(data, 0, len(data))):
                return [Problem(str(file), "holds no graph", _COPY)]
            graphs = list(_served_graphs(data))
            if not graphs:
                remedy = "save it with tf.saved_model.save, or with tags=['serve']"
                return [Problem(str(file), "holds no graph with the tag 'serve'", remedy)]
            inside = (span for number, span in _fields(data, *graphs[0]) if number == _GRAPH)
            needs_variables = any(data.find(mark, *span) != -1 for span in inside for mark in _VARIABLES)
    except _CutOffError as error:
        return [Problem(str(file), f"is cut off, or no SavedModel ({file.stat().st_size} bytes): {error}", _COPY)]
    except OSError as error:
        return [Problem(str(file), f"cannot be read: {error.strerror}", "let the server's user read it")]
    return _variable_problems(place / "variables") if needs_variables else []


def _variable_problems(folder: Path) -> list[Problem]:
    """Return which files with the values of variables are not there."""
    index = folder / "variables.index"
    if not index.is_file():
        return [Problem(str(index), "is missing: the graph has variables, whose values lie beside it", _COPY)]
    shards = [match for each in folder.iterdir() if (match := _SHARD.fullmatch(each.name))]
    wanted = max((int(match[2]) for match in shards), default=1)
    there = {int(match[1]) for match in shards if int(match[2]) == wanted}
    names = (f"variables.data-{number:05}-of-{wanted:05}" for number in range(wanted) if number not in there)
    return [Problem(str(folder / name), "is missing", _COPY) for name in names]


def _mapped(file: Path) -> mmap.mmap:
    with file.open("rb") as stream:
        try:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise _CutOffError("it is empty") from None


def _served_graphs(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield where the graphs are that have the tag `serve`, and perhaps others."""
    for number, span in _fields(data, 0, len(data)):
        if number == _META_GRAPHS:
            infos = (inner for kind, inner in _fields(data, *span) if kind == _META_INFO)
            tags = [data[slice(*inner)] for info in infos for kind, inner in _fields(data, *info) if kind == _TAGS]
            if b"serve" in tags:
                yield span


def _signature(data: mmap.mmap, span: tuple[int, int]) -> tuple[str, Any]:
    parts = {number: data[slice(*inner)] for number, inner in _fields(data, *span)}
    return parts.get(_KEY, b"").decode(), SignatureDef.FromString(parts.get(_VALUE, b""))


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield number and place of each field of a message that lies from `at` to `end`; of numbers, an empty place.

    Raises:
        ValueError: a field goes beyond the end, or is none.
    """
    while at < end:
        tag, at = _varint(data, at, end)
        wire = tag & 7
        if wire == 0:
            _, after = _varint(data, at, end)
        elif wire == 2:
            length, at = _varint(data, at, end)
            after = at + length
        elif wire in (1, 5):
            after = at + (8 if wire == 1 else 4)
        else:
            raise _CutOffError(f"there is no field at byte {at}")
        if after > end:
            raise _CutOffError(f"a part of it would end at byte {after}")
        yield tag >> 3, (at, after) if wire == 2 else (after, after)
        at = after


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _CutOffError(f"a number would end after byte {at}")
        byte = data[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if not byte & 0x80:
            return value, at
    raise _CutOffError(f"there is no number at byte {at}")
