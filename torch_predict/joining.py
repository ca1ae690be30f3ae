"""Requests joined along their first axis for one call of the model, and its result split again.

What is joined has the same names, types and shapes but for the first axis, the rows; nothing here knows of hooks.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]


class NotByRowError(Exception):
    """A result that has not one row for each row of what the model got."""


@dataclass(frozen=True)
class Pad:
    """How requests that differ in the size of one axis are made equal."""

    axis: int
    value: float


@dataclass(frozen=True)
class Joining:
    """Whether and how requests are joined.

    Attributes:
        is_on: whether they are.
        reason: for people: why, or why not.
        max_rows: most rows of one call of the model.
        least_rows: what the model takes at least; smaller requests are not joined, so that they fail as they do alone.
        allowed_rows: sizes that batches are rounded up to, ascending; empty: any.
        pad: None: requests of different sizes are not joined.
    """

    is_on: bool = False
    reason: str = ""
    max_rows: int = 64
    least_rows: int = 1
    allowed_rows: tuple[int, ...] = ()
    pad: Pad | None = None

    def rounded(self, rows: int) -> int:
        """Return how many rows the model gets for so many."""
        at = bisect.bisect_left(self.allowed_rows, rows)
        return self.allowed_rows[at] if at < len(self.allowed_rows) else rows


def rows_of(x: Any) -> int | None:
    """Return how many rows an input has: an array, a tensor, or a dict of them; None where it has none."""
    if isinstance(x, np.ndarray | torch.Tensor):
        return x.shape[0] if x.ndim else None
    if isinstance(x, dict) and x:
        rows = {rows_of(each) if not isinstance(each, dict) else None for each in x.values()}
        return rows.pop() if len(rows) == 1 else None
    return None


def key_of(x: Any, pad: Pad | None = None) -> Hashable | None:
    """Return what two inputs must have in common to be joined; None where one cannot be joined."""
    if isinstance(x, np.ndarray):
        return ("array", x.dtype, _trailing(x.shape, pad)) if x.dtype.kind in "biuf" and x.ndim else None
    if isinstance(x, torch.Tensor):
        is_plain = x.layout is torch.strided and not x.is_quantized
        return ("tensor", x.dtype, x.device, _trailing(tuple(x.shape), pad)) if x.ndim and is_plain else None
    if isinstance(x, dict) and rows_of(x) is not None:
        keys = [(name, key_of(each, pad)) for name, each in x.items()]
        return None if any(key is None for _, key in keys) else ("dict", *keys)
    return None


def _trailing(shape: tuple[int, ...], pad: Pad | None) -> tuple[int, ...]:
    if pad is None or pad.axis >= len(shape):
        return shape[1:]
    return (*shape[1 : pad.axis], -1, *shape[pad.axis + 1 :])


def joined(xs: Sequence[Any], pad: Pad | None = None) -> Any:
    """Return inputs with one key as one, their rows in order."""
    first = xs[0]
    if len(xs) == 1:
        return first
    if isinstance(first, dict):
        return {name: joined([x[name] for x in xs], pad) for name in first}
    if pad is not None and first.ndim > pad.axis:
        size = max(x.shape[pad.axis] for x in xs)
        xs = [_padded(x, pad, size) for x in xs]
    return torch.cat(list(xs)) if isinstance(first, torch.Tensor) else np.concatenate(xs)


def _padded(x: Any, pad: Pad, size: int) -> Any:
    missing = size - x.shape[pad.axis]
    if not missing:
        return x
    shape = list(x.shape)
    shape[pad.axis] = missing
    if isinstance(x, torch.Tensor):
        return torch.cat([x, x.new_full(shape, pad.value)], dim=pad.axis)
    return np.concatenate([x, np.full(shape, pad.value, x.dtype)], axis=pad.axis)


def filled(x: Any, rows: int) -> Any:
    """Return an input with its last row repeated until it has so many."""
    if isinstance(x, dict):
        return {name: filled(each, rows) for name, each in x.items()}
    missing = rows - x.shape[0]
    if not missing:
        return x
    if isinstance(x, torch.Tensor):
        return torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])
    return np.concatenate([x, np.broadcast_to(x[-1:], (missing, *x.shape[1:]))])


def pieces(x: Any, rows: int) -> Iterator[Any]:
    """Yield an input in pieces of at most so many rows, copies: what is made of one changes nothing of the whole."""
    total = rows_of(x) or 0
    for begins in range(0, total, rows):
        yield _cut(x, begins, begins + rows)


def _cut(x: Any, begins: int, ends: int) -> Any:
    if isinstance(x, dict):
        return {name: _cut(each, begins, ends) for name, each in x.items()}
    return x[begins:ends].clone() if isinstance(x, torch.Tensor) else x[begins:ends].copy()


def put_together(results: Sequence[Any]) -> Any:
    """Return results of pieces as the result of the whole.

    Raises:
        NotByRowError: a part of them has no rows.
    """
    first = results[0]
    if len(results) == 1:
        return first
    if isinstance(first, torch.Tensor | np.ndarray):
        if not first.ndim:
            raise NotByRowError
        return torch.cat(list(results)) if isinstance(first, torch.Tensor) else np.concatenate(results)
    return _like(first, [put_together(each) for each in zip(*map(_inner, results), strict=True)])


def split(result: Any, rows: Sequence[int], total: int, lengths: tuple[int, Sequence[int]] | None = None) -> list[Any]:
    """Return each request's part of a result.

    Args:
        result: tensors or arrays, in dicts, tuples and lists.
        rows: of each request.
        total: how many rows the model got; those beyond the requests' are left out.
        lengths: where requests were padded: the axis, and each request's own size there.

    Raises:
        NotByRowError: a part of the result has another number of rows.
    """
    if isinstance(result, torch.Tensor | np.ndarray):
        if not result.ndim or result.shape[0] != total:
            raise NotByRowError
        parts = _split_rows(result, rows, total)
        return parts if lengths is None else _shortened(parts, *lengths)
    if result is None or isinstance(result, str | bytes | int | float):
        return [result] * len(rows)
    columns = [split(each, rows, total, lengths) for each in _inner(result)]
    return [_like(result, list(each)) for each in zip(*columns, strict=True)] if columns else [result] * len(rows)


def _split_rows(result: Any, rows: Sequence[int], total: int) -> list[Any]:
    if isinstance(result, torch.Tensor):
        used = sum(rows)
        whole = result if used == total else result[:used]
        return list(torch.split(whole, list(rows)))
    parts, begins = [], 0
    for count in rows:
        parts.append(result[begins : begins + count])
        begins += count
    return parts


def _shortened(parts: list[Any], axis: int, sizes: Sequence[int]) -> list[Any]:
    if parts[0].ndim <= axis or parts[0].shape[axis] != max(sizes):
        return parts
    before = (slice(None),) * axis
    return [part[(*before, slice(size))] for part, size in zip(parts, sizes, strict=True)]


def _inner(result: Any) -> list[Any]:
    if isinstance(result, dict):
        return list(result.values())
    if isinstance(result, tuple | list):
        return list(result)
    raise NotByRowError


def _like(result: Any, values: list[Any]) -> Any:
    if isinstance(result, dict):
        return dict(zip(result, values, strict=True))
    if isinstance(result, list):
        return values
    make: Callable[..., Any] = getattr(type(result), "_make", tuple)  # a named tuple's
    return make(values)
