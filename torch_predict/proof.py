"""Whether requests may be joined for one call of a model: what shows it, or what is missing.

A program of torch.export may whose inputs and outputs share an open first axis, any other model whose samples say so;
and of both the answers to some inputs must be the same alone and joined with others.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dl_inference.serving.expected import FILE
from dl_inference.serving.load_error import LoadError
from torch_predict import joining, samples
from torch_predict.arrays import array_of
from torch_predict.config import BatchingSettings
from torch_predict.joining import Joining, Pad
from torch_predict.outputs import parts

if TYPE_CHECKING:
    from torch_predict.predictor import Predictor
    from torch_predict.signature import TensorSpec

_LOGGER = logging.getLogger(__name__)

RELATIVE = 1e-3
"""How far answers may differ, as a share of the largest number in them; half-precision numbers ten times as far."""
ABSOLUTE = 1e-5

_PROBES = 4
_LONGEST_S = 10.0
"""After this time the inputs that there were are enough: a large model takes seconds for each."""
_ROWS = 2
_ON = "'batching: {mode: always}' in model.yaml joins them nevertheless"
_MARK = "mark it @torch_predict.joined if it takes the rows of several"

Call = Callable[[Any], Any]


class _DoubtError(Exception):
    """Why requests must not be joined."""


def prove(predictor: Predictor, settings: BatchingSettings, folder: Path) -> Joining:
    """Return whether and how requests are joined.

    Args:
        predictor: loaded and warm.
        settings: of model.yaml.
        folder: the model's, with its samples.

    Raises:
        LoadError: they are always to be joined, and `run_model` takes one.
    """
    pad = None if settings.pad is None else Pad(settings.pad.axis, settings.pad.value)
    plan = Joining(max_rows=settings.max_rows, allowed_rows=settings.allowed_rows, pad=pad)
    known = predictor.model.signature
    bounds = [size for (_, axis), size in known.sizes.items() if axis == 0]
    plan = replace(
        plan,
        max_rows=min([plan.max_rows, *(size.highest for size in bounds if size.highest)]),
        least_rows=max([plan.least_rows, *(size.lowest for size in bounds)]),
    )
    # A size that the program does not take is none to round up to.
    plan = replace(plan, allowed_rows=tuple(rows for rows in plan.allowed_rows if rows <= plan.max_rows))
    if settings.mode == "never":
        return replace(plan, reason="requests are not joined: batching.mode is never")
    is_single = predictor.hooks.run_model is not None and predictor.hooks.modes.get("run_model") == "each"
    if settings.mode == "always":
        if is_single:
            text = "batching.mode is always, but run_model of processor.py takes one request"
            raise LoadError(folder / "model.yaml", text, _MARK)
        return replace(plan, is_on=True, reason=f"requests are joined, {plan.max_rows} rows at most: by model.yaml")
    try:
        if is_single:
            raise _DoubtError(f"run_model takes one request; {_MARK}")
        shown = _shown(predictor, plan, folder)
    except _DoubtError as doubt:
        return replace(plan, reason=f"requests are not joined: {doubt}; {_ON}")
    return replace(plan, is_on=True, reason=f"requests are joined, {plan.max_rows} rows at most: {shown}")


def _shown(predictor: Predictor, plan: Joining, folder: Path) -> str:
    """Say what shows that requests may be joined.

    Raises:
        _DoubtError: something speaks against it, or nothing for it.
    """
    known = predictor.model.signature
    is_program = predictor.is_program
    if is_program and not known.rows:
        raise _DoubtError("the program was exported without one open first axis for all inputs and outputs")
    probes = 0
    end = time.monotonic() + _LONGEST_S
    for x, call in _inputs(predictor, folder):
        probes += _probe(x, call, plan)
        if probes >= _PROBES or (probes and time.monotonic() >= end):
            break
    if not probes and is_program:
        for _ in range(_ROWS):
            made = _made(predictor)
            probes += 0 if made is None else _probe(made, lambda given: predictor.model.call(given, {}), plan)
    what = "1 input" if probes == 1 else f"{probes} inputs"
    same = f"{what} gave the same answers alone and joined, within {RELATIVE:g} of the largest number"
    if is_program:
        axis = f"inputs and outputs share the axis {known.rows}"
        return f"{axis}, and {same}" if probes else axis
    if not probes:
        raise _DoubtError(f"no sample shows whether its answers are made row by row: add {FILE}")
    return same


def _inputs(predictor: Predictor, folder: Path) -> Iterator[tuple[Any, Call]]:
    """Yield what the model gets of the folder's samples, and how it is called with that."""
    for sample in samples.read(folder)[0]:
        if sample.error is not None:
            continue
        try:
            with torch.no_grad():
                x = predictor.payload_of(sample)
                if predictor.hooks.preprocess is not None:
                    x = predictor.hooks.preprocess(x, sample.meta)
        except BaseException:  # the warm-up has said so
            _LOGGER.debug("case %d is no probe", sample.case, exc_info=True)
            continue
        meta, kind = sample.meta, sample.kind
        if joining.key_of(x) is not None:
            yield x, functools.partial(_call, predictor, meta, kind)


def _call(predictor: Predictor, meta: dict[str, Any], kind: str, x: Any) -> Any:
    return predictor.call(x, meta, kind)


@torch.no_grad()
def _probe(x: Any, call: Call, plan: Joining) -> int:
    """Compare the answers to an input and to a changed one alone with those to both together; return 1 if that worked.

    Raises:
        _DoubtError: they differ.
    """
    changed = _changed(x)
    try:
        first, again, other = call(x), call(x), call(changed)
    except BaseException:  # what is shuffled may be no input
        _LOGGER.debug("an input is no probe", exc_info=True)
        return 0
    if _differ(first, again):
        raise _DoubtError("its answers differ from call to call")
    if plan.pad is not None and not isinstance(x, dict) and x.ndim > plan.pad.axis and x.shape[plan.pad.axis] > 1:
        cut = (slice(None),) * plan.pad.axis
        changed = changed[(*cut, slice(x.shape[plan.pad.axis] // 2 or 1))]
        other = call(changed)
    xs = [changed, x, changed]
    rows = [joining.rows_of(each) or 0 for each in xs]
    if sum(rows) > plan.max_rows:
        return 0
    sizes = [each.shape[plan.pad.axis] for each in xs] if plan.pad and not isinstance(x, dict) else None
    lengths = (plan.pad.axis, sizes) if plan.pad and sizes and len(set(sizes)) > 1 else None
    try:
        together = joining.split(call(joining.joined(xs, plan.pad)), rows, sum(rows), lengths)
    except joining.NotByRowError:
        raise _DoubtError("its answers have not one row for each row of the input") from None
    except BaseException as error:
        raise _DoubtError(f"it fails on joined inputs: {type(error).__name__}: {error}"[:300]) from error
    if any(_differ(alone, part) for alone, part in zip([other, first, other], together, strict=True)):
        raise _DoubtError("its answers to some inputs are others when these are joined")
    return 1


def _changed(x: Any) -> Any:
    """Return an input with each row's values in reverse, floats smaller: what they mean to a model is the same kind."""
    if isinstance(x, dict):
        return {name: _changed(each) for name, each in x.items()}
    is_float = x.dtype.kind == "f" if isinstance(x, np.ndarray) else x.is_floating_point()
    flat = x.reshape(len(x), -1)
    flat = flat.flip(1) if isinstance(x, torch.Tensor) else flat[:, ::-1]
    if is_float:
        flat = flat * 0.75 if isinstance(x, torch.Tensor) else flat * x.dtype.type(0.75)
    return flat.reshape(x.shape)


def _made(predictor: Predictor) -> dict[str, Any] | None:
    """Return inputs of any numbers as a program takes them; None where it takes something else."""
    known = predictor.model.signature
    values = np.random.default_rng(2)

    def array(spec: TensorSpec) -> Any:
        least = [known.sizes[spec.name, axis].lowest if size < 0 else size for axis, size in enumerate(spec.shape)]
        shape = [max(_ROWS, size) if axis == 0 else max(1, size) for axis, size in enumerate(least)]
        if spec.dtype.startswith(("float", "bfloat")):
            return values.random(shape, np.float32)
        return values.integers(0, 2, shape).astype(spec.dtype if spec.dtype != "object" else np.int64)

    if any(spec.dtype == "object" or spec.dtype.startswith("complex") for spec in known.inputs):
        return None
    return {spec.name: array(spec) for spec in known.inputs}


def _differ(one: Any, other: Any) -> bool:
    first, second = parts(one), parts(other)
    if [name for name, _ in first] != [name for name, _ in second]:
        return True
    return any(_is_other(a, b) for (_, a), (_, b) in zip(first, second, strict=True))


def _is_other(one: Any, other: Any) -> bool:
    if not hasattr(one, "shape") or not hasattr(other, "shape"):
        return bool(one != other)
    if tuple(one.shape) != tuple(other.shape):
        return True
    is_half = str(one.dtype).endswith("float16")
    first, second = (array_of(each.detach()) if hasattr(each, "detach") else each for each in (one, other))
    if first.dtype.kind in "biuSUO" or not first.size:
        return not np.array_equal(first, second)
    first, second = first.astype(np.float64), second.astype(np.float64)
    finite = np.isfinite(first)
    if not np.array_equal(finite, np.isfinite(second)):
        return True
    largest = np.abs(first[finite]).max(initial=0.0)
    share = RELATIVE * (10 if is_half else 1)
    return bool((np.abs(first - second)[finite] > ABSOLUTE + share * largest).any())
