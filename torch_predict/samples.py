"""A model folder's own samples, as requests (``samples/expected.json``, models/README.md)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dl_inference.problem import Problem
from dl_inference.serving import expected
from dl_inference.serving.expected import FILE, Case
from torch_predict import oip_samples
from torch_predict.methods import TAG

SELDON = "/seldon.protos.Model/Predict"

_REMEDY = (
    'write a list of cases, each {"request": ...} with a SeldonMessage in JSON, or {"method": '
    f'"{oip_samples.METHOD}", "request": ...}} with a ModelInferRequest'
)

MAX_CASES = 16
"""More of them, where they expect no answer, warm nothing that these have not."""


MAX_TRIALS = 4
"""So many samples that name no method are tried with each of them."""


@dataclass(frozen=True)
class Sample(Case):
    """A request of the samples, as the native front would hand it over (``dl_inference._native.Item``)."""

    kind: str
    value: Any
    meta: dict[str, Any] = field(default_factory=dict)
    method: str = SELDON
    request_id: str = "warm-up"
    inputs: dict[str, dict[str, Any]] | None = None
    """Of infer: parameters of single inputs."""
    trial: str = ""
    """The method that it is tried with, by `check`, where it names none itself."""

    @property
    def label(self) -> str:
        """What people and `check` call it."""
        return f"{self.case} {self.trial}".rstrip()


def read(folder: Path) -> tuple[list[Sample], list[Problem]]:
    """Return the samples of a model folder, and what is wrong with others; nothing without an expected.json.

    Of those that expect no answer, only the first few.
    """
    file = folder / FILE
    cases, problems = expected.cases_of(folder, _REMEDY)
    samples: list[Sample] = []
    for index, case in enumerate(cases):
        try:
            if index >= MAX_CASES and not expected.is_golden(case):
                continue
            sample = _sample(case, file.parent)
            if sample is not None:
                samples.append(replace(sample, **_said(index, case)))
        except OSError as error:
            text = f"case {index} names {error.filename}, which cannot be read: {error.strerror}"
            remedy = "put the file there, or correct the case"
            problems.append(expected.problem_of(case)(str(file), text, remedy))
        except (EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            text = f"case {index} cannot be read: {type(error).__name__}: {error}"
            problems.append(expected.problem_of(case)(str(file), text, _REMEDY))
    return samples, problems


def with_trials(samples: Sequence[Sample], methods: Iterable[str]) -> list[Sample]:
    """Return samples, and some of them once more for each method that none of them names."""
    plain = [sample for sample in samples if TAG not in sample.meta.get("tags", {}) and sample.error is None]
    named = {sample.meta.get("tags", {}).get(TAG) for sample in samples}
    trials = [
        replace(sample, meta=_naming(sample.meta, method), trial=method, expect=None)
        for method in methods
        if method not in named
        for sample in plain[:MAX_TRIALS]
    ]
    return [*samples, *trials]


def _naming(meta: Mapping[str, Any], method: str) -> dict[str, Any]:
    return {**meta, "tags": {**meta.get("tags", {}), TAG: method}}


def _said(index: int, case: dict[str, Any]) -> dict[str, Any]:
    said = expected.said(index, case)
    if case.get("method") == oip_samples.METHOD and said["expect"] is not None:
        said["expect"] = oip_samples.expected_outputs(said["expect"])
    return said


def _sample(case: dict[str, Any], folder: Path) -> Sample | None:
    """Return the request of a case as an item; None for kinds that are of no use here."""
    request, method = case["request"], case.get("method", SELDON)
    if method == oip_samples.METHOD:
        value, meta, inputs = oip_samples.request_of(request, folder)
        return Sample("infer", value, meta, method=method, inputs=inputs or None)
    return _seldon(request, folder)


def _seldon(request: dict[str, Any], folder: Path) -> Sample | None:
    """Return a SeldonMessage in protobuf's JSON form as an item; None for tftensor and Any."""
    meta = request.get("meta", {})
    if "binData" in request:
        data = request["binData"]
        value = (folder / data["file"]).read_bytes() if isinstance(data, dict) else base64.b64decode(data)
        return Sample("binData", value, meta)
    if "strData" in request:
        text = request["strData"]
        value = (folder / text["file"]).read_text(encoding="utf-8") if isinstance(text, dict) else text
        return Sample("strData", value, meta)
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
