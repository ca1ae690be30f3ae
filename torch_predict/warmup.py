"""Send a model folder's own samples through the model before it says that it is ready.

The first calls of a model are slow: torch picks kernels, allocates, compiles. The samples
(``samples/expected.json``, models/README.md) are the only inputs that the server can know of. They also show what a
model takes and gives, where it does not tell.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch_predict.errors import RequestError, words_of
from torch_predict.samples import FILE, read
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


def warm_up(predictor: Predictor, folder: Path) -> WarmUp:
    """Send the folder's samples through the model.

    A sample that fails is said in the log and keeps nobody from being served: the samples may be wrong.
    """
    samples, problems = read(folder)
    for problem in problems:
        _LOGGER.warning("warm-up: %s", problem)
    seen: list[tuple[list[TensorSpec], list[TensorSpec]]] = []
    for sample in samples:
        try:
            if (found := predictor.observe(sample)) is not None:
                seen.append(found)
        except RequestError as error:
            if not sample.is_refused:  # samples of bad input are samples too
                _LOGGER.warning("warm-up: case %d of %s failed: %s: %s", sample.case, FILE, error.code.name, error.text)
        except BaseException as error:  # sys.exit() in a hook, too
            what = f"{type(error).__name__}: {words_of(error)}"
            _LOGGER.warning("warm-up: case %d of %s failed: %s", sample.case, FILE, what, exc_info=True)
    if not seen:
        return WarmUp(len(samples), (), ())
    # Samples of another kind than the first one's show another way to call the model; metadata has room for one.
    alike = [each for each in seen if _names(each) == _names(seen[0])]
    inputs, outputs = (tuple(merged(specs) for specs in zip(*side, strict=True)) for side in zip(*alike, strict=True))
    return WarmUp(len(samples), inputs, outputs)


def _names(seen: tuple[list[TensorSpec], list[TensorSpec]]) -> list[list[str]]:
    return [[spec.name for spec in specs] for specs in seen]
