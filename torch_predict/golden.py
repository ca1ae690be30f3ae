"""Compare what a model answers with the answers that its folder expects (golden requests, models/README.md)."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dl_inference.code import Code
from torch_predict.config import Golden
from torch_predict.errors import BadAnswer, status_of
from torch_predict.samples import Sample
from torch_predict.seldon import Answer, plain

_FRONT = ("meta", "status")
"""Parts of an answer that the native front adds: nothing of the model's is in them."""

_TEXT = 80


@dataclass
class _Compared:
    """What came of comparing one answer: the numbers that differ, worst first, and what is not alike at all."""

    rtol: float
    atol: float
    off: list[tuple[float, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def difference(sample: Sample, answer: Answer, settings: Golden) -> str:
    """Return how an answer differs from the expected one, with the place and the largest difference; "" if it does not.

    Args:
        sample: a request, and what its answer is to be.
        answer: what the model answered.
        settings: by how much numbers may differ, beside the case's own tolerance.
    """
    if sample.error is not None:
        return f"was answered, and is to fail with {sample.error.get('code', 'an error')}"
    expected = {name: value for name, value in (sample.expect or {}).items() if name not in _FRONT}
    found = _Compared(settings.rtol, max(settings.atol, sample.tolerance))
    _compare(expected, _message(answer), "answer", found)
    if found.others:
        more = f" and {len(found.others) - 1} more differences" if len(found.others) > 1 else ""
        return found.others[0] + more
    if not found.off:
        return ""
    found.off.sort(key=lambda each: -each[0] if not math.isnan(each[0]) else -math.inf)
    allowed = f"{found.rtol:g} of the expected number + {found.atol:g}"
    return f"{found.off[0][1]}; numbers that differ by more than {allowed}: {len(found.off)}"


def failure(sample: Sample, error: BaseException) -> str:
    """Return what is wrong with a request that failed; "" if it failed as it is to."""
    status = status_of(error, sample.request_id)
    code = Code(status.code).name
    if sample.error is None:
        return f"failed: {type(error).__name__}: {status.message if code != 'INTERNAL' else error}"
    wanted, text = sample.error.get("code", code), sample.error.get("text", "")
    if code == wanted and text in status.message:
        return ""
    return f"failed with {code}: {status.message[:_TEXT]}, and is to fail with {wanted}: {text}"


def _message(answer: Answer) -> dict[str, Any]:
    """Return an answer as a SeldonMessage in protobuf's JSON form."""
    kind, value = answer.kind, answer.value
    if kind == "binData":
        return {kind: base64.b64encode(value).decode()}
    if kind == "strData":
        return {kind: value}
    if kind == "jsonData":
        return {kind: _plain(value)}
    if kind == "tensor":
        array = np.asarray(value)
        return {"data": {"names": answer.names, kind: {"shape": [*array.shape], "values": array.ravel().tolist()}}}
    return {"data": {"names": answer.names, kind: _plain(value)}}


def _plain(value: Any) -> Any:
    try:
        return plain(value)
    except BadAnswer:  # the caller would get an error, too
        return f"<{type(value).__name__}>"


def _compare(expected: Any, answer: Any, place: str, found: _Compared) -> None:
    """Compare two JSON values: objects may hold more keys than expected, lists have the same length."""
    if isinstance(expected, dict) and isinstance(answer, dict):
        for key, value in expected.items():
            if key in answer:
                _compare(value, answer[key], f"{place}.{key}", found)
            else:
                found.others.append(f"{place}.{key} is missing")
    elif isinstance(expected, list) and isinstance(answer, list):
        if len(expected) != len(answer):
            found.others.append(f"{place} has {len(answer)} elements, not {len(expected)}")
            return
        for index, (one, other) in enumerate(zip(expected, answer, strict=True)):
            _compare(one, other, f"{place}[{index}]", found)
    elif _is_number(answer) and (number := _number(expected)) is not None:
        _compare_numbers(number, answer, place, found)
    elif expected != answer or type(expected) is not type(answer):
        found.others.append(f"{place} is {_short(answer)}, not {_short(expected)}")


def _compare_numbers(expected: float, answer: float, place: str, found: _Compared) -> None:
    if expected == answer or (math.isnan(expected) and math.isnan(answer)):
        return
    apart = abs(answer - expected)  # NaN and infinity are never near
    if not apart <= found.atol + found.rtol * abs(expected) or math.isinf(expected):
        found.off.append((apart, f"{place} is {answer:g}, not {expected:g}: the largest difference is {apart:g}"))


def _number(value: Any) -> float | None:
    """Return a number of protobuf's JSON form, which has texts for those that JSON lacks."""
    if value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    return value if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}..."
