"""Compare what a model answers with the answers that its folder expects (golden requests, models/README.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict

from dl_inference.codec import tfs
from dl_inference.codec.errors import BadTensorError
from dl_inference.messages import PredictResponse
from dl_inference.serving import expected
from dl_inference.serving.settings import Golden
from tf_predict.errors import RequestError
from tf_predict.samples import Sample

_SPEC = "modelSpec"
"""Names the version that answered, which is another one each time."""
_LONG = frozenset({"int64Val", "uint64Val", "size"})
"""Fields of 64 bits, which are texts in protobuf's JSON; people write numbers."""
_TEXTS = frozenset({"stringVal", "label"})


def difference(sample: Sample, answer: Any, settings: Golden) -> str:
    """Return how an answer differs from the expected one, with the place and the largest difference; "" if it does not.

    Args:
        sample: a request, and what its answer is to be.
        answer: the message.
        settings: by how much numbers may differ, beside the case's own tolerance.
    """
    if wrong := expected.answered(sample):
        return wrong
    # With the fields that are 0, as an expected 0 has to be found. (The option's name depends on protobuf's version.)
    found = MessageToDict(answer, True)
    return expected.difference(sample, _plain(sample.expect or {}), _plain(found), settings)


def failure(sample: Sample, error: RequestError) -> str:
    """Return what is wrong with a request that failed; "" if it failed as it is to."""
    return expected.failure(sample, error.code.name, error.text)


def not_finite(answer: Any) -> tuple[str, ...]:
    """Return the outputs of an answer that hold NaN or infinity; ``result`` where outputs have no names."""
    if not isinstance(answer, PredictResponse):
        return ("result",) if _holds_none(MessageToDict(answer)) else ()
    try:
        arrays = tfs.outputs_of(answer)
    except BadTensorError:  # of a type that numpy does not have
        return ()
    numbers = {name: array for name, array in arrays.items() if array.dtype.kind not in "SUOb"}
    return tuple(name for name, array in numbers.items() if not np.isfinite(array.astype(np.complex128)).all())


def _holds_none(value: Any, name: str = "") -> bool:
    """Whether protobuf's JSON has a text in place of a number somewhere."""
    if isinstance(value, dict):
        return any(_holds_none(each, key) for key, each in value.items())
    if isinstance(value, list):
        return any(_holds_none(each, name) for each in value)
    return name not in _TEXTS and value in ("NaN", "Infinity", "-Infinity")


def _plain(value: Any, name: str = "", dtype: str = "") -> Any:
    """Return a message's JSON without versions, and with numbers as such."""
    if isinstance(value, dict):
        kind = value.get("dtype", "")
        return {key: _plain(each, key, kind) for key, each in value.items() if key != _SPEC}
    if isinstance(value, list):
        if name == "halfVal" and dtype in ("DT_HALF", "DT_BFLOAT16"):
            bits = np.array(value, np.uint16)
            half = bits.view(np.float16) if dtype == "DT_HALF" else (bits.astype(np.uint32) << 16).view(np.float32)
            return half.tolist()
        return [_plain(each, name) for each in value]
    if name in _LONG and isinstance(value, str):
        return int(value)
    return value
