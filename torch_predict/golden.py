"""Compare what a model answers with the answers that its folder expects (golden requests, models/README.md)."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from dl_inference.code import Code
from dl_inference.serving import expected
from dl_inference.serving.settings import Golden
from torch_predict.errors import BadAnswer, status_of
from torch_predict.oip_samples import plain_outputs
from torch_predict.samples import Sample
from torch_predict.seldon import Answer, plain

_FRONT = ("meta", "status")
"""Parts of an answer that the native front adds: nothing of the model's is in them."""


def difference(sample: Sample, answer: Answer, settings: Golden) -> str:
    """Return how an answer differs from the expected one, with the place and the largest difference; "" if it does not.

    Args:
        sample: a request, and what its answer is to be.
        answer: what the model answered.
        settings: by how much numbers may differ, beside the case's own tolerance.
    """
    if wrong := expected.answered(sample):
        return wrong
    wanted = {name: value for name, value in (sample.expect or {}).items() if name not in _FRONT}
    return expected.difference(sample, wanted, _message(answer), settings)


def failure(sample: Sample, error: BaseException) -> str:
    """Return what is wrong with a request that failed; "" if it failed as it is to."""
    status = status_of(error, sample.request_id)
    code = Code(status.code).name
    words = f"{type(error).__name__}: {status.message if code != 'INTERNAL' else error}"
    return expected.failure(sample, code, status.message, words)


def _message(answer: Answer) -> dict[str, Any]:
    """Return an answer as a SeldonMessage in protobuf's JSON form; of OIP as `oip_samples` reads expected ones."""
    kind, value = answer.kind, answer.value
    if kind == "infer":
        return plain_outputs(value)
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
