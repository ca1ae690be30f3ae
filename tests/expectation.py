"""Compare an answer with a case of samples/expected.json (models/README.md)."""

from __future__ import annotations

import math
from typing import Any


def differences(expect: Any, answer: Any, tolerance: float = 0.0, place: str = "answer") -> list[str]:
    """Return where the answer is not as expected: objects may hold more keys, lists have the same length."""
    if isinstance(expect, dict) and isinstance(answer, dict):
        missing = [f"{place}.{key} is missing" for key in expect if key not in answer]
        common = [key for key in expect if key in answer]
        return missing + [d for k in common for d in differences(expect[k], answer[k], tolerance, f"{place}.{k}")]
    if isinstance(expect, list) and isinstance(answer, list):
        if len(expect) != len(answer):
            return [f"{place} has {len(answer)} elements, not {len(expect)}"]
        pairs = enumerate(zip(expect, answer, strict=True))
        return [d for i, (e, a) in pairs for d in differences(e, a, tolerance, f"{place}[{i}]")]
    if _is_number(expect) and _is_number(answer):
        close = math.isclose(expect, answer, rel_tol=0, abs_tol=tolerance) or (
            math.isnan(expect) and math.isnan(answer)
        )
        return [] if close else [f"{place} is {answer}, not {expect} +- {tolerance}"]
    return [] if expect == answer and type(expect) is type(answer) else [f"{place} is {answer!r}, not {expect!r}"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
