"""A model folder's own samples, as requests (``samples/expected.json``, models/README.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from dl_inference.messages import (
    ClassificationRequest,
    ModelSpec,
    MultiInferenceRequest,
    PredictRequest,
    RegressionRequest,
)
from dl_inference.problem import Problem
from dl_inference.serving import expected
from dl_inference.serving.expected import FILE, Case

METHOD = "/tensorflow.serving.PredictionService/Predict"

REQUESTS: dict[str, type[Message]] = {
    METHOD: PredictRequest,
    "/tensorflow.serving.PredictionService/Classify": ClassificationRequest,
    "/tensorflow.serving.PredictionService/Regress": RegressionRequest,
    "/tensorflow.serving.PredictionService/MultiInference": MultiInferenceRequest,
}

MAX_CASES = 16
"""More of them, where they expect no answer, warm nothing that these have not."""

_REMEDY = f'write a list of cases, each {{"method": "{METHOD}", "request": ...}} with a PredictRequest in JSON'


@dataclass(frozen=True)
class Sample(Case):
    """A request of the samples."""

    method: str
    """Path of the gRPC method."""
    request: Any

    @property
    def spec(self) -> Any:
        """Return the ModelSpec that says which version is asked."""
        if not isinstance(self.request, MultiInferenceRequest):
            return self.request.model_spec
        tasks: Any = self.request.tasks
        return tasks[0].model_spec if tasks else ModelSpec()


def read(folder: Path) -> tuple[list[Sample], list[Problem]]:
    """Return the requests of the samples, and what is wrong with others; nothing without an expected.json.

    Of those that expect no answer, only the first few.
    """
    file = folder / FILE
    cases, problems = expected.cases_of(folder, _REMEDY)
    samples: list[Sample] = []
    plain = 0
    for index, case in enumerate(cases):
        try:
            if (method := case.get("method")) not in REQUESTS:
                continue
            plain += not expected.is_golden(case)
            if plain > MAX_CASES and not expected.is_golden(case):
                continue
            request = ParseDict(case["request"], REQUESTS[method]())
            samples.append(Sample(method, request, **expected.said(index, case)))
        except (KeyError, TypeError, ValueError, AttributeError, ParseError) as error:
            text = f"case {index} cannot be read: {type(error).__name__}: {' '.join(str(error).split())}"
            problems.append(expected.problem_of(case)(str(file), text, _REMEDY))
    return samples, problems
