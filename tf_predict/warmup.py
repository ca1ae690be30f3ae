"""Run a model before it says that it is ready: TensorFlow optimises a graph, and allocates, at the first call.

With the version's own ``assets.extra/tf_serving_warmup_requests``, as TF Serving does; with the folder's samples
(``samples/expected.json``, models/README.md); and each signature whose inputs are fully known once with zeros.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from dl_inference.messages import PredictionLog, PredictRequest, TensorProto
from tf_predict import examples, samples
from tf_predict.errors import RequestError
from tf_predict.predict import PREDICT, predict
from tf_predict.servable import Servable

_LOGGER = logging.getLogger(__name__)

MAX_SAMPLES = 16
MAX_RECORDS = 1000
"""Of tf_serving_warmup_requests; TF Serving's own limit."""
MAX_ELEMENTS = 1 << 24
"""Of an input of zeros: a signature may declare more than a machine holds."""

Run = Callable[[Servable, int, Any], Any]
Request = tuple[str, Run, Any]
"""What it is, for the log; what runs it; the message."""
RUNS: dict[str, Run] = {
    "predict_log": predict,
    "classify_log": examples.classify,
    "regress_log": examples.regress,
    "multi_inference_log": examples.multi_inference,
}
"""Kind of a PredictionLog -> what runs its request."""


def warm_up(servable: Servable, number: int, folder: Path) -> int:
    """Run a version; return how many requests it answered.

    A request that fails is said in the log and keeps nobody from being served: TF Serving would not serve the version.

    Args:
        servable: the model.
        number: its version; samples for others are left out.
        folder: the model folder, whose samples are used.
    """
    answered = 0
    for what, run, request in itertools.chain(_records(servable), _zeros(servable), _samples(folder, number)):
        try:
            run(servable, number, request)
            answered += 1
        except RequestError as error:
            _LOGGER.warning("warm-up: %s failed: %s: %s", what, error.code.name, error.text)
    return answered


def _records(servable: Servable) -> Iterator[Request]:
    """Yield what tf_serving_warmup_requests asks for, as TF Serving: of this version, whichever the requests name."""
    try:
        for index, record in enumerate(servable.warmup_records()):
            if index == MAX_RECORDS:
                _LOGGER.warning("warm-up: only the first %d records of tf_serving_warmup_requests are run", MAX_RECORDS)
                return
            what = f"record {index} of tf_serving_warmup_requests"
            log: Any = PredictionLog.FromString(record)
            kind = log.WhichOneof("log_type")
            if kind is None:
                _LOGGER.warning("warm-up: %s has none of %s", what, ", ".join(RUNS))
                continue
            yield what, RUNS[kind], getattr(log, kind).request
    except DecodeError:
        _LOGGER.warning("warm-up: %s is no PredictionLog: those after it are left", what)
    except ValueError as error:
        _LOGGER.warning("warm-up: %s", error)


def _zeros(servable: Servable) -> Iterator[Request]:
    """Yield a request of zeros for each signature whose inputs have known sizes, but for the first: the batch."""
    for name, signature in sorted(servable.signatures.items()):
        if signature.method_name != PREDICT or not signature.inputs:
            continue
        request: Any = PredictRequest()
        request.model_spec.signature_name = name
        tensors = {alias: _zero(info) for alias, info in signature.inputs.items()}
        if all(tensor is not None for tensor in tensors.values()):
            for alias, tensor in tensors.items():
                request.inputs[alias].CopyFrom(tensor)
            yield f"zeros for signature {name}", predict, request


def _zero(info: Any) -> Any | None:
    """Return zeros of an input's dtype and shape, a batch of one; None where they are not known."""
    if info.tensor_shape.unknown_rank or info.WhichOneof("encoding") != "name":
        return None
    sizes = [dim.size for dim in info.tensor_shape.dim]
    if sizes and sizes[0] == -1:
        sizes[0] = 1
    elements = 1
    for size in sizes:
        elements *= size
    if -1 in sizes or elements > MAX_ELEMENTS:
        return None
    tensor: Any = TensorProto(dtype=info.dtype)  # without values: TensorFlow fills in zeros
    tensor.tensor_shape.SetInParent()
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def _samples(folder: Path, number: int) -> list[Request]:
    requests, problems = samples.read(folder)
    for problem in problems:
        _LOGGER.warning("warm-up: %s", problem)
    own = [(index, request) for index, request in requests if _is_for(request.model_spec, number)]
    return [(f"case {index} of {samples.FILE}", predict, request) for index, request in own[:MAX_SAMPLES]]


def _is_for(spec: Any, number: int) -> bool:
    return not spec.HasField("version") or spec.version.value == number
