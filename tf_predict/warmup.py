"""Run a model before it says that it is ready: TensorFlow optimises a graph, and allocates, at the first call.

With the version's own ``assets.extra/tf_serving_warmup_requests``, as TF Serving does; with the folder's samples
(``samples/expected.json``, models/README.md); and each signature whose inputs are fully known once with zeros.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from dl_inference.messages import PredictionLog, PredictRequest, TensorProto
from dl_inference.serving.expected import FILE, Uncompared
from tf_predict import examples, golden, samples
from tf_predict.errors import RequestError
from tf_predict.predict import PREDICT, predict
from tf_predict.servable import Servable
from tf_predict.versions import Versions

_LOGGER = logging.getLogger(__name__)

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
_METHODS = dict(zip(samples.REQUESTS, RUNS.values(), strict=True))


class WarmUp(NamedTuple):
    """What came of it."""

    answered: int
    """How many requests were answered."""
    problems: list[str]
    """What differs from the expected answers, or cannot be compared with them."""
    nan: dict[str, tuple[str, ...]]
    """Of each answered sample without an expected answer, by its digest: the outputs that hold NaN or infinity."""


def warm_up(servable: Servable, number: int, folder: Path, versions: Versions) -> WarmUp:
    """Run a version.

    A request that fails and does not say what is to come of it is said in the log and keeps nobody from being served:
    TF Serving would not serve the version.

    Args:
        servable: the model.
        number: its version; samples for others are left out.
        folder: the model folder, whose samples are used.
        versions: knows names, labels and settings of the model.
    """
    answered = 0
    for what, run, request in itertools.chain(_records(servable), _zeros(servable)):
        try:
            run(servable, number, request)
            answered += 1
        except RequestError as error:
            _LOGGER.warning("warm-up: %s failed: %s: %s", what, error.code.name, error.text)
    found, unreadable = samples.read(folder)
    for problem in unreadable:
        _LOGGER.warning("warm-up: %s", problem)
    problems: list[str] = []
    nan: dict[str, tuple[str, ...]] = {}
    for sample in found:
        if not _is_for(sample, number, versions):
            continue
        try:
            answer = _METHODS[sample.method](servable, number, sample.request)
        except RequestError as error:
            problems += _failed(sample, error)
            continue
        answered += 1
        if not sample.is_golden:
            nan[sample.digest] = golden.not_finite(answer)
        elif text := golden.difference(sample, answer, versions.settings.golden):
            problems.append(f"case {sample.case}: {text}")
    for text in problems:
        _LOGGER.warning("warm-up: %s: %s", FILE, text)
    problems += [f"{problem.message}; {problem.remedy}" for problem in unreadable if isinstance(problem, Uncompared)]
    return WarmUp(answered, problems, nan)


def _failed(sample: samples.Sample, error: RequestError) -> list[str]:
    """Return what is wrong with a sample that failed, for the caller to judge; log what nobody expected."""
    if sample.is_golden:
        text = golden.failure(sample, error)
        return [f"case {sample.case}: {text}"] if text else []
    _LOGGER.warning("warm-up: case %d of %s failed: %s: %s", sample.case, FILE, error.code.name, error.text)
    return []


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


def _is_for(sample: samples.Sample, number: int, versions: Versions) -> bool:
    """Whether a sample is one for this version, and not for what stands before the versions, which refuses it."""
    spec = sample.spec
    if sample.error is not None and not versions.means(spec.name):
        return False
    choice = spec.WhichOneof("version_choice")
    if choice == "version":
        return bool(spec.version.value == number)
    return choice is None or versions.settings.labels.get(spec.version_label) == number
