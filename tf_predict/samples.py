"""A model folder's own samples, as requests (``samples/expected.json``, models/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError

from dl_inference.messages import PredictRequest
from dl_inference.problem import Problem

METHOD = "/tensorflow.serving.PredictionService/Predict"
FILE = Path("samples") / "expected.json"

_REMEDY = f'write a list of cases, each {{"method": "{METHOD}", "request": ...}} with a PredictRequest in JSON'


def read(folder: Path) -> tuple[list[tuple[int, Any]], list[Problem]]:
    """Return the requests that should be answered, each with its place in the file; and what is wrong with others."""
    file = folder / FILE
    if not file.is_file():
        return [], []
    try:
        cases = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [], [Problem(str(file), f"cannot be read as JSON: {error}", "correct or remove it")]
    if not isinstance(cases, list):
        return [], [Problem(str(file), f"holds a {type(cases).__name__}, not a list of cases", _REMEDY)]
    requests, problems = [], []
    for index, case in enumerate(cases):
        try:
            if case.get("method") == METHOD and "error" not in case:
                requests.append((index, ParseDict(case["request"], PredictRequest())))
        except (KeyError, TypeError, AttributeError, ParseError) as error:
            text = f"case {index} cannot be read: {type(error).__name__}: {error}"
            problems.append(Problem(str(file), text, _REMEDY))
    return requests, problems
