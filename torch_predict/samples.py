"""A model folder's own samples, as requests (``samples/expected.json``, models/README.md)."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_LOGGER = logging.getLogger(__name__)

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


def read(folder: Path) -> list[Sample]:
    """Return the first samples of a model folder; none where there is no expected.json."""
    file = folder / "samples" / "expected.json"
    if not file.is_file():
        return []
    samples = []
    try:
        for case in json.loads(file.read_text(encoding="utf-8"))[:MAX_CASES]:
            sample = _sample(case["request"], file.parent)
            if sample is not None:
                samples.append(sample)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        _LOGGER.warning("warm-up: %s is not as models/README.md says: %s: %s", file, type(error).__name__, error)
    return samples


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
