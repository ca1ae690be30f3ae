"""Send a model folder's own samples through the model before it says that it is ready.

The first calls of a model are slow: torch picks kernels, allocates, compiles. The samples
(``samples/expected.json``, models/README.md) are the only inputs that the server can know of. They also show what a
model takes and gives, where it does not tell; and those that say what is to come of them are compared with that.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dl_inference.serving.expected import FILE, Uncompared
from dl_inference.serving.settings import Golden
from torch_predict import golden
from torch_predict.errors import RequestError, words_of
from torch_predict.predictor import Observed
from torch_predict.samples import Sample, read
from torch_predict.signature import TensorSpec, merged

if TYPE_CHECKING:
    from torch_predict.predictor import Predictor

_LOGGER = logging.getLogger(__name__)


class WarmUp(NamedTuple):
    """What came of it."""

    samples: int
    """How many were sent."""
    inputs: tuple[TensorSpec, ...]
    """What the samples that were answered have in OIP; empty where there were none."""
    outputs: tuple[TensorSpec, ...]
    nan: dict[str, tuple[str, ...]]
    """Of each answered sample without an expected answer, by its digest: the outputs that hold NaN or infinity."""
    digest: str
    """Of all the samples: other ones show other inputs and outputs of the same model."""
    problems: list[str]
    """What differs from the expected answers, or cannot be compared with them."""


def warm_up(predictor: Predictor, folder: Path, settings: Golden | None = None) -> WarmUp:
    """Send the folder's samples through the model.

    A sample that fails and does not say what is to come of it is said in the log and keeps nobody from being served.
    """
    settings = settings or Golden()
    samples, unreadable = read(folder)
    for problem in unreadable:
        _LOGGER.warning("warm-up: %s", problem)
    problems: list[str] = []
    seen: list[Observed] = []
    nan: dict[str, tuple[str, ...]] = {}
    for sample in samples:
        try:
            observed = predictor.observe(sample)
        except BaseException as error:  # sys.exit() in a hook, too
            problems += _failed(sample, error)
            continue
        if not observed.is_method:
            seen.append(observed)
        if not sample.is_golden:
            nan[sample.digest] = observed.nan
        elif text := golden.difference(sample, observed.answer, settings):
            problems.append(f"case {sample.case}: {text}")
    for text in problems:
        _LOGGER.warning("warm-up: %s: %s", FILE, text)
    problems += [f"{problem.message}; {problem.remedy}" for problem in unreadable if isinstance(problem, Uncompared)]
    if not seen:
        return WarmUp(len(samples), (), (), nan, "", problems)
    # Samples of another kind than the first one's show another way to call the model; metadata has room for one.
    alike = [each for each in seen if _names(each) == _names(seen[0])]
    inputs = tuple(merged(specs) for specs in zip(*(each.inputs for each in alike), strict=True))
    outputs = tuple(merged(specs) for specs in zip(*(each.outputs for each in alike), strict=True))
    digest = hashlib.blake2b("".join(sample.digest for sample in samples).encode(), digest_size=8).hexdigest()
    return WarmUp(len(samples), inputs, outputs, nan, digest, problems)


def _failed(sample: Sample, error: BaseException) -> list[str]:
    """Return what is wrong with a sample that failed, for the caller to judge; log what nobody expected."""
    if sample.is_golden:
        text = golden.failure(sample, error)
        if text and not isinstance(error, RequestError):
            _LOGGER.warning("warm-up: case %d of %s failed", sample.case, FILE, exc_info=error)
        return [f"case {sample.case}: {text}"] if text else []
    if isinstance(error, RequestError):
        _LOGGER.warning("warm-up: case %d of %s failed: %s: %s", sample.case, FILE, error.code.name, error.text)
    else:
        what = f"{type(error).__name__}: {words_of(error)}"
        _LOGGER.warning("warm-up: case %d of %s failed: %s", sample.case, FILE, what, exc_info=error)
    return []


def _names(seen: Observed) -> list[list[str]]:
    return [[spec.name for spec in specs] for specs in (seen.inputs, seen.outputs)]
