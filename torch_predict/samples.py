"""A model folder's own samples, as requests (``samples/expected.json``, models/README.md)."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dl_inference.problem import Problem

FILE = Path("samples") / "expected.json"

_REMEDY = 'write a list of cases, each {"request": ...} with a SeldonMessage in JSON'

MAX_CASES = 16
"""More of them warm nothing that these have not."""


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
    is_refused: bool = False
    """Whether it is one that the model should answer with an error."""


def read(folder: Path) -> tuple[list[Sample], list[Problem]]:
    """Return the first samples of a model folder, and what is wrong with others; nothing without an expected.json."""
    file = folder / FILE
    if not file.is_file():
        return [], []
    try:
        cases = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [], [Problem(str(file), f"cannot be read as JSON: {error}", "correct or remove it")]
    if not isinstance(cases, list):
        return [], [Problem(str(file), f"holds a {type(cases).__name__}, not a list of cases", _REMEDY)]
    samples, problems = [], []
    for index, case in enumerate(cases[:MAX_CASES]):
        try:
            sample = _sample(case["request"], file.parent)
        except OSError as error:
            text = f"case {index} names {error.filename}, which cannot be read: {error.strerror}"
            problems.append(Problem(str(file), text, "put the file there, or correct the case"))
        except (EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            text = f"case {index} cannot be read: {type(error).__name__}: {error}"
            problems.append(Problem(str(file), text, _REMEDY))
        else:
            if sample is not None:
                samples.append(replace(sample, case=index, is_refused="error" in case))
    return samples, problems


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
