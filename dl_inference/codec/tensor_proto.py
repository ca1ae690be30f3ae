"""Arrays <-> tensorflow.TensorProto, as TensorFlow itself reads and writes it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dl_inference import messages
from dl_inference.codec import dtypes, packed
from dl_inference.codec.dtypes import Array, DType
from dl_inference.codec.errors import BadTensorError

_BY_NUMBER: dict[int, DType] = {messages.DataType.Value(dtype.tfs): dtype for dtype in dtypes.DTYPES}
_NUMBERS = {dtype.name: number for number, dtype in _BY_NUMBER.items()}
_STRING = messages.DataType.Value("DT_STRING")
# TensorFlow lets one value stand for a whole tensor, so a few bytes could ask for any amount of memory.
MAX_FILLED_BYTES = 64 << 20


def to_tensor_proto(array: Array, tensor: Any, name: str = "tensor") -> None:
    """Write an array into an empty TensorProto: numbers as tensor_content, texts as string_val.

    Args:
        array: numbers of a type of `dtypes.DTYPES`, or text; any shape, layout and byte order.
        tensor: of dl_inference.messages or `packed`.
        name: what errors call it.

    Raises:
        InputError: TensorFlow has no such type.
    """
    tensor.tensor_shape.SetInParent()
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if array.dtype.kind in dtypes.TEXT_KINDS:
        tensor.dtype = _STRING
        tensor.string_val.extend(dtypes.to_texts(array))
    else:
        tensor.dtype = _NUMBERS[dtypes.dtype_of(array, name).name]
        tensor.tensor_content = dtypes.to_bytes(array)


def from_tensor_proto(message: Any) -> Array:
    """Return the array of a TensorProto, from tensor_content or from its typed fields.

    Args:
        message: a TensorProto of any package.

    Returns:
        Array of the tensor's shape, writable, its own memory. Texts are an object array of bytes. DT_BFLOAT16 is
        ml_dtypes.bfloat16 where ml_dtypes is installed, else float32 of the same values.
        As in TensorFlow, the last typed value stands for all that are missing, and without any they are 0.

    Raises:
        BadTensorError: a type that numpy does not have, values that do not fit the shape, or more than 64 MiB made of
            repeated values.
    """
    tensor = packed.packed(message, packed.TensorProto)
    if tensor.tensor_shape.unknown_rank:
        raise BadTensorError("the tensor's shape is not known")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype == _STRING:
        return dtypes.from_texts(_filled_texts(list(tensor.string_val), dtypes.count_of(shape)), shape)
    dtype = _BY_NUMBER.get(tensor.dtype)
    if dtype is None:
        raise BadTensorError(f"numpy has no {_name_of(tensor.dtype)}")
    content = tensor.tensor_content  # a copy each time
    if content:
        return dtypes.from_bytes(content, dtype, shape)
    count = dtypes.count_of(shape)
    return dtypes.from_storage(_filled(_typed(tensor, dtype, count), count), dtype, shape)


def type_name(number: int) -> str:
    """Return numpy's name of a DataType; ``bytes`` for texts, TensorFlow's own name where numpy has none."""
    if number == _STRING:
        return "bytes"
    dtype = _BY_NUMBER.get(number)
    return dtype.name if dtype else _name_of(number)


def _name_of(number: int) -> str:
    known = messages.DataType.values()
    return messages.DataType.Name(number) if number in known else f"type {number}"


def _typed(tensor: Any, dtype: DType, count: int) -> Array:
    parts = 2 if dtype.name.startswith("complex") else 1
    found = packed.numbers(tensor, dtype.tfs_field, dtype.wire, count * parts)
    if parts == 2:
        found = found[: len(found) // 2 * 2].view(dtype.storage)  # half a number is dropped
    return dtypes.as_storage(found, dtype)


def _filled(found: Array, count: int) -> Array:
    if len(found) > count:
        raise BadTensorError(f"{len(found)} values were sent for a tensor of {count}")
    if len(found) == count:
        return found
    _check_filled_bytes(count * found.itemsize)
    filled = np.full(count, found[-1] if len(found) else 0, found.dtype)
    filled[: len(found)] = found
    return filled


def _filled_texts(found: list[bytes], count: int) -> Sequence[bytes]:
    if len(found) >= count:
        return found
    _check_filled_bytes(count * np.dtype(object).itemsize)
    return found + [found[-1] if found else b""] * (count - len(found))


def _check_filled_bytes(size: int) -> None:
    if size > MAX_FILLED_BYTES:
        raise BadTensorError(f"a tensor of {size} bytes made by repeating values; the most is {MAX_FILLED_BYTES}")
