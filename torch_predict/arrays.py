"""Results as arrays of numpy: tensors of torch, and what hooks return."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from torch_predict.errors import BadAnswer

_NUMPY_FLOATS = frozenset({"torch.float16", "torch.float32", "torch.float64"})


@functools.cache
def bfloat16() -> np.dtype[Any] | None:
    """Return the type of ml_dtypes, which numpy itself does not have; None where that is not installed."""
    try:
        import ml_dtypes  # noqa: PLC0415  (for such models only)
    except ModuleNotFoundError:
        return None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def is_bfloat16(array: np.ndarray[Any, Any] | np.generic) -> bool:
    """Say whether it is of ml_dtypes' type, which numpy does not count among the numbers."""
    # By its kind first, which is at hand: numpy makes a name anew each time.
    return array.dtype.kind == "V" and array.dtype.name == "bfloat16"


def array_of(tensor: Any) -> np.ndarray[Any, Any]:
    """Return a tensor of torch as an array: dense, on the CPU.

    Returns: an array of the tensor's type; float32 for smaller floats, and for bfloat16 where ml_dtypes is missing.

    Raises:
        BadAnswer: numpy has nothing for it.
    """
    try:
        tensor = tensor.detach()
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        if str(tensor.layout) != "torch.strided":
            tensor = tensor.to_dense()
        tensor = tensor.cpu().resolve_conj().resolve_neg()
        half = bfloat16() if str(tensor.dtype) == "torch.bfloat16" else None
        if half is not None:
            bits: np.ndarray[Any, Any] = tensor.contiguous().view(_int16()).numpy()
            return bits.view(half)
        if tensor.is_floating_point() and str(tensor.dtype) not in _NUMPY_FLOATS:
            tensor = tensor.float()
        array: np.ndarray[Any, Any] = tensor.numpy()
        return array
    except (RuntimeError, TypeError, NotImplementedError) as error:
        what = f"{tensor.dtype}, {tensor.layout}"
        raise BadAnswer(f"it is a tensor ({what}) that numpy has no array for; return a dense one") from error


def _int16() -> Any:
    import torch  # noqa: PLC0415  (runtimes import this file, and `check` works without torch)

    return torch.int16


def as_array(result: Any) -> np.ndarray[Any, Any]:
    """Return a result as an array.

    Raises:
        BadAnswer: it is a ragged list.
    """
    if isinstance(result, np.ndarray):
        return result
    try:
        array = np.asarray(result)
        if array.dtype.kind in "SU":
            objects = np.array(result, object)  # numpy's own types of text know no zeros at the end
            if all(isinstance(each, str | bytes) for each in objects.flat):
                return objects
        return array
    except ValueError:
        raise BadAnswer("it is a ragged list: its rows differ in length") from None
