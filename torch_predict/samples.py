"""A model folder's own samples, as requests (``samples/expected.json``, models/README.md)."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dl_inference.problem import Problem

FILE = Path("samples") / "expected.json"

_REMEDY = 'write a list of cases, each {"request": ...} with a SeldonMessage in JSON'

MAX_CASES = 16
"""More of them, where they expect no answer, warm nothing that these have not."""


@dataclass(frozen=True)
class Sample:
    """A request of the samples, as the native front would hand it over (``dl_inference._native.Item``)."""

    kind: str
    value: Any
    meta: dict[str, Any] = field(default_factory=dict)
    method: str = "/seldon.protos.Model/Predict"
    request_id: str = "warm-up"
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


def read(folder: Path) -> tuple[list[Sample], list[Problem]]:
    """Return the samples of a model folder, and what is wrong with others; nothing without an expected.json.

    Of those that expect no answer, only the first few.
    """
    file = folder / FILE
    if not file.is_file():
        return [], []
    try:
        cases = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [], [Uncompared(str(file), f"cannot be read as JSON: {error}", "correct or remove it")]
    if not isinstance(cases, list):
        return [], [Uncompared(str(file), f"holds a {type(cases).__name__}, not a list of cases", _REMEDY)]
    samples: list[Sample] = []
    problems: list[Problem] = []
    for index, case in enumerate(cases):
        try:
            if index >= MAX_CASES and not _is_golden(case):
                continue
            sample = _sample(case["request"], file.parent)
            if sample is not None:
                sample = replace(sample, case=index, **_expected(case), digest=_digest(case["request"]))
        except OSError as error:
            text = f"case {index} names {error.filename}, which cannot be read: {error.strerror}"
            problems.append(_problem_of(case)(str(file), text, "put the file there, or correct the case"))
        except (EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            text = f"case {index} cannot be read: {type(error).__name__}: {error}"
            problems.append(_problem_of(case)(str(file), text, _REMEDY))
        else:
            if sample is not None:
                samples.append(sample)
    return samples, problems


def _is_golden(case: Any) -> bool:
    return isinstance(case, dict) and ("expect" in case or "error" in case)


def _problem_of(case: Any) -> type[Problem]:
    return Uncompared if _is_golden(case) else Problem


def _expected(case: dict[str, Any]) -> dict[str, Any]:
    """Return what a case says of its answer."""
    found = {"expect": case.get("expect"), "error": case.get("error"), "tolerance": float(case.get("tolerance", 0.0))}
    for name in ("expect", "error"):
        if not isinstance(found[name], dict | None):
            raise TypeError(f"{name} is a {type(found[name]).__name__}, not an object")
    return found


def _digest(request: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(request, sort_keys=True).encode(), digest_size=8).hexdigest()


def _sample(request: dict[str, Any], folder: Path) -> Sample | None:
    """Return a request in protobuf's JSON form as an item; None for kinds that are of no use here (tftensor, Any)."""
    meta = request.get("meta", {})
    if "binData" in request:
        data = request["binData"]
        value = (folder / data["file"]).read_bytes() if isinstance(data, dict) else base64.b64decode(data)
        return Sample("binData", value, meta)
    if "strData" in request:
        text = request["strData"]
        return Sample(
            "strData", (folder / text["file"]).read_text(encoding="utf-8") if isinstance(text, dict) else text, meta
        )
    if "jsonData" in request:
        return Sample("jsonData", request["jsonData"], meta)
    data = request.get("data", {})
    if "ndarray" in data:
        return Sample("ndarray", data["ndarray"], meta)
    if "tensor" in data:
        return Sample("tensor", _tensor(data["tensor"], folder), meta)
    return None


def _tensor(tensor: dict[str, Any], folder: Path) -> np.ndarray[Any, Any]:
    if "file" not in tensor:
        return np.array(tensor["values"], dtype=np.float64).reshape(tensor["shape"])
    file = folder / tensor["file"]
    rows = np.load(file) if file.suffix == ".npy" else json.loads(file.read_text(encoding="utf-8"))
    return np.array(rows, dtype=np.float64)
