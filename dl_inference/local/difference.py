"""How two answers differ: values of JSON, with arrays as lists."""

from __future__ import annotations

from typing import Any

import numpy as np

_SHOWN = 60


def difference(expected: Any, found: Any, tolerance: float, place: str = "") -> str:
    """Say where two answers differ first, and how; empty where they are alike.

    Args:
        expected: one.
        found: the other.
        tolerance: by how much numbers may differ, in parts of the number or, below 1, of 1. NaN is like NaN.
        place: of both, in the answers.
    """
    where = f" at {place}" if place else ""
    if isinstance(expected, dict) and isinstance(found, dict):
        if expected.keys() != found.keys():
            return f"the keys {_short(sorted(found))} in place of {_short(sorted(expected))}{where}"
        each = (difference(expected[key], found[key], tolerance, f"{place}[{key!r}]") for key in expected)
        return next(filter(None, each), "")
    if isinstance(expected, list) and isinstance(found, list):
        return _lists(expected, found, tolerance, place)
    if _is_number(expected) and _is_number(found):
        return _numbers(np.asarray(expected), np.asarray(found), tolerance, where)
    return "" if expected == found else f"{_short(found)} in place of {_short(expected)}{where}"


def _lists(expected: list[Any], found: list[Any], tolerance: float, place: str) -> str:
    where = f" at {place}" if place else ""
    one, other = _array(expected), _array(found)
    if one is not None and other is not None:
        if one.shape != other.shape:
            return f"the shape {list(other.shape)} in place of {list(one.shape)}{where}"
        return _numbers(one, other, tolerance, where)
    if len(expected) != len(found):
        return f"{len(found)} in place of {len(expected)} elements{where}"
    pairs = enumerate(zip(expected, found, strict=True))
    return next(filter(None, (difference(*pair, tolerance, f"{place}[{index}]") for index, pair in pairs)), "")


def _numbers(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], tolerance: float, where: str) -> str:
    one, other = one.astype(np.float64), other.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.abs(other - one) / np.maximum(np.abs(one), 1)
    gaps = np.where((one == other) | (np.isnan(one) & np.isnan(other)), 0, np.nan_to_num(gaps, nan=np.inf))
    if not gaps.size or gaps.max() <= tolerance:
        return ""
    index = np.unravel_index(int(gaps.argmax()), gaps.shape)
    return f"{other[index]:.9g} in place of {one[index]:.9g}{where}" + (f" {[*map(int, index)]}" if index else "")


def _array(values: list[Any]) -> np.ndarray[Any, Any] | None:
    """Return a list of numbers as an array; None where it holds anything else, or is ragged."""
    try:
        array = np.asarray(values)
    except ValueError:
        return None
    return array if array.dtype.kind in "biuf" else None


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
