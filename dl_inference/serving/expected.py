"""What a case of samples/expected.json says of its answer, and how an answer differs from it (golden requests).

Answers are compared as JSON; a model server says what its own answers are in JSON.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dl_inference.problem import Problem
from dl_inference.serving.load_error import LoadError
from dl_inference.serving.settings import Golden

FILE = Path("samples") / "expected.json"

_REMEDY = (
    "correct the model; if the change is meant, write the answers anew, widen golden.rtol or golden.atol, or set "
    "'golden: {required: false}' in model.yaml"
)

TEXT = 80
"""So much of a value is shown."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case of the samples: what is to come of its request."""

    case: int = 0
    """The how manieth of the file."""
    expect: dict[str, Any] | None = None
    """The part of the answer that must be there; None where nothing is expected."""
    error: dict[str, Any] | None = None
    """In place of it, the error that it must fail with."""
    tolerance: float = 0.0
    """By how much numbers may differ."""
    digest: str = ""
    """Tells requests apart, whatever their place in the file."""

    @property
    def is_golden(self) -> bool:
        """Whether it says what is to come of it."""
        return self.expect is not None or self.error is not None


class Uncompared(Problem):
    """A problem that keeps an expected answer, or what may be one, from being compared."""


def cases_of(folder: Path, remedy: str) -> tuple[list[Any], list[Problem]]:
    """Return the cases of a model folder, as they stand in the file, and why there are none; nothing without a file."""
    file = folder / FILE
    if not file.is_file():
        return [], []
    try:
        cases = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [], [Uncompared(str(file), f"cannot be read as JSON: {error}", "correct or remove it")]
    if not isinstance(cases, list):
        return [], [Uncompared(str(file), f"holds a {type(cases).__name__}, not a list of cases", remedy)]
    return cases, []


def is_golden(case: Any) -> bool:
    """Whether a case says what is to come of it."""
    return isinstance(case, dict) and ("expect" in case or "error" in case)


def problem_of(case: Any) -> type[Problem]:
    """Return which kind of problem it is that a case cannot be read."""
    return Uncompared if is_golden(case) else Problem


def said(index: int, case: dict[str, Any]) -> dict[str, Any]:
    """Return what a case says of its answer: the fields of `Case`.

    Raises:
        TypeError: expect or error is no object.
    """
    found = {
        "case": index,
        "expect": case.get("expect"),
        "error": case.get("error"),
        "tolerance": float(case.get("tolerance", 0.0)),
        "digest": hashlib.blake2b(json.dumps(case["request"], sort_keys=True).encode(), digest_size=8).hexdigest(),
    }
    for name in ("expect", "error"):
        if not isinstance(found[name], dict | None):
            raise TypeError(f"{name} is a {type(found[name]).__name__}, not an object")
    return found


def answered(case: Case) -> str:
    """Return what is wrong with an answer before it is looked at; "" where it is to be compared."""
    return "" if case.error is None else f"was answered, and is to fail with {case.error.get('code', 'an error')}"


def failure(case: Case, code: str, message: str, words: str = "") -> str:
    """Return what is wrong with a request that failed; "" if it failed as it is to.

    Args:
        case: the request's.
        code: name of the gRPC code.
        message: what callers read.
        words: what the log may say.
    """
    if case.error is None:
        return f"failed: {words or f'{code}: {message}'}"
    wanted, text = case.error.get("code", code), case.error.get("text", "")
    if code == wanted and text in message:
        return ""
    return f"failed with {code}: {message[:TEXT]}, and is to fail with {wanted}: {text}"


def require(problems: Sequence[str], folder: Path) -> None:
    """Refuse a version whose answers are not those that its folder expects.

    Args:
        problems: what differs from the expected answers, or cannot be compared with them.
        folder: the model's.

    Raises:
        LoadError: names the first case that differs, and how many there are.
    """
    if problems:
        more = f"; {len(problems) - 1} more in the log" if len(problems) > 1 else ""
        raise LoadError(folder / FILE, problems[0] + more, _REMEDY)


@dataclass
class _Compared:
    """What came of comparing one answer: the numbers that differ, worst first, and what is not alike at all."""

    rtol: float
    atol: float
    off: list[tuple[float, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def difference(case: Case, expected: Any, answer: Any, settings: Golden) -> str:
    """Return how an answer differs from the expected one, with the place and the largest difference; "" if it does not.

    Args:
        case: the request's.
        expected: the part of the answer that must be there, as JSON.
        answer: all of it.
        settings: by how much numbers may differ, beside the case's own tolerance.
    """
    found = _Compared(settings.rtol, max(settings.atol, case.tolerance))
    _compare(expected, answer, "answer", found)
    if found.others:
        more = f" and {len(found.others) - 1} more differences" if len(found.others) > 1 else ""
        return found.others[0] + more
    if not found.off:
        return ""
    found.off.sort(key=lambda each: -each[0] if not math.isnan(each[0]) else -math.inf)
    allowed = f"{found.rtol:g} of the expected number + {found.atol:g}"
    return f"{found.off[0][1]}; numbers that differ by more than {allowed}: {len(found.off)}"


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
    return text if len(text) <= TEXT else f"{text[:TEXT]}..."
