"""The short way to a model that takes one tensor, for arrays that fit it: nothing is looked up for each call.

What does not fit goes the long way (calling.py), which knows every form and finds the words for every error. A program
of torch.export is called without the checks of its own, which were made here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from torch_predict.arguments import Form
from torch_predict.signature import Signature, TensorSpec

_FLOATS = ("float16", "bfloat16", "float32", "float64")


class Direct:
    """What a model's one tensor must be, and how the model is called with it."""

    def __init__(self, name: str, spec: TensorSpec | None, signature: Signature, run: Callable[[Any], Any]) -> None:
        self.name = name
        self.run = run
        self._spec = spec
        shape = () if spec is None else spec.shape
        self._rank = len(shape)
        self._fixed = [(axis, size) for axis, size in enumerate(shape) if size != -1]
        self._bounds = [
            (axis, size.lowest, size.highest)
            for axis in range(len(shape))
            if (size := signature.sizes.get((name, axis))) is not None
        ]
        is_float = spec is None or spec.dtype in _FLOATS
        self._dtype = None if spec is None else getattr(torch, spec.dtype)
        self._kinds = "biuf" if is_float else ""

    def takes(self, x: Any) -> bool:
        """Say whether the model can be called with an array of numbers, or a tensor, right away."""
        if isinstance(x, np.ndarray):
            if x.dtype.kind not in self._kinds:
                return False
        elif type(x) is not torch.Tensor or (self._dtype is not None and x.dtype is not self._dtype):
            return False
        return self._spec is None or self._has_shape(x.shape)

    def _has_shape(self, shape: tuple[int, ...]) -> bool:
        if len(shape) != self._rank:
            return False
        for axis, size in self._fixed:
            if shape[axis] != size:
                return False
        for axis, lowest, highest in self._bounds:
            if shape[axis] < lowest or (highest is not None and shape[axis] > highest):
                return False
        return True


def direct_of(module: Callable[..., Any], signature: Signature) -> Direct | None:
    """Return the short way to a model; None where there is none."""
    arguments = signature.arguments
    if arguments is None or len(arguments) != 1:
        return None
    (argument,) = arguments
    if argument.form is not Form.TENSOR or argument.is_keyword_only:
        return None
    symbols = [size.symbol for size in signature.sizes.values() if size.symbol]
    if len(signature.inputs) > 1 or len(symbols) > len(set(symbols)):
        return None
    spec = next(iter(signature.inputs), None)
    if spec is not None and (spec.name != argument.name or not hasattr(torch, spec.dtype)):
        return None
    run: Callable[[Any], Any] = module
    if signature.arrange is not None:
        mark = object()
        positional, keywords = signature.arrange({argument.name: mark})
        if keywords or len(positional) != 1 or positional[0] is not mark or spec is None:
            return None
        run = _unchecked(module)
    return Direct(argument.name, spec, signature, run)


def _unchecked(module: Any) -> Callable[[Any], Any]:
    """Return a program without torch.export's checks around each call; as it is where anybody else hooked into it."""
    if not isinstance(module, torch.fx.GraphModule):
        return module  # type: ignore[no-any-return]
    around = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    is_theirs = all(getattr(hook, "__module__", "").startswith("torch.export.") for hook in around)
    forward: Callable[[Any], Any] = module.forward
    return forward if is_theirs else module
