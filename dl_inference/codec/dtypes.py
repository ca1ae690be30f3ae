"""numpy's types and what the protocols call them; the bytes of an array, and the array that bytes stand for."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dl_inference.codec.errors import BadTensorError, InputError

Array = npt.NDArray[Any]


class DType(NamedTuple):
    """An element type.

    Attributes:
        name: numpy's; ``bfloat16`` is that of the package ml_dtypes.
        storage: numpy's type with the same bytes, little-endian, as all machines are that this runs on.
        tfs: TensorFlow's (tensorflow/core/framework/types.proto).
        tfs_field: where TensorProto has its values one by one.
        oip: the Open Inference Protocol's; empty where it has none.
        oip_field: where InferTensorContents has its values; empty where they are always raw.
        wire: how those fields are encoded, as `packed.numbers` takes it.
    """

    name: str
    storage: np.dtype[Any]
    tfs: str
    tfs_field: str
    oip: str
    oip_field: str
    wire: str


DTYPES = (
    DType("bool", np.dtype("u1"), "DT_BOOL", "bool_val", "BOOL", "bool_contents", "varint"),
    DType("uint8", np.dtype("u1"), "DT_UINT8", "int_val", "UINT8", "uint_contents", "varint"),
    DType("uint16", np.dtype("<u2"), "DT_UINT16", "int_val", "UINT16", "uint_contents", "varint"),
    DType("uint32", np.dtype("<u4"), "DT_UINT32", "uint32_val", "UINT32", "uint_contents", "varint"),
    DType("uint64", np.dtype("<u8"), "DT_UINT64", "uint64_val", "UINT64", "uint64_contents", "varint"),
    DType("int8", np.dtype("i1"), "DT_INT8", "int_val", "INT8", "int_contents", "varint"),
    DType("int16", np.dtype("<i2"), "DT_INT16", "int_val", "INT16", "int_contents", "varint"),
    DType("int32", np.dtype("<i4"), "DT_INT32", "int_val", "INT32", "int_contents", "varint"),
    DType("int64", np.dtype("<i8"), "DT_INT64", "int64_val", "INT64", "int64_contents", "varint"),
    DType("float16", np.dtype("<u2"), "DT_HALF", "half_val", "FP16", "", "varint"),
    DType("bfloat16", np.dtype("<u2"), "DT_BFLOAT16", "half_val", "BF16", "", "varint"),
    DType("float32", np.dtype("<f4"), "DT_FLOAT", "float_val", "FP32", "fp32_contents", "<f4"),
    DType("float64", np.dtype("<f8"), "DT_DOUBLE", "double_val", "FP64", "fp64_contents", "<f8"),
    DType("complex64", np.dtype("<c8"), "DT_COMPLEX64", "scomplex_val", "", "", "<f4"),
    DType("complex128", np.dtype("<c16"), "DT_COMPLEX128", "dcomplex_val", "", "", "<f8"),
)
BY_NAME = {dtype.name: dtype for dtype in DTYPES}
MAX_EXACT = 2**53
"""Beyond it not every whole number is a float64."""
TEXT_KINDS = "OSTU"
"""numpy's kinds of arrays whose elements are text or bytes."""


def as_array(value: Any, name: str) -> Array:
    """Return an input as an array; what is one already is not copied.

    Texts and bytes that are no array yet become objects, so that zero bytes at their end stay. A tensor of torch comes
    from its device, without its gradient.

    Raises:
        InputError: numpy makes no array of numbers or texts of it, or not without losing something.
    """
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise InputError(f"{name}: a masked array, and no protocol has masks: give .filled(value)")
        plain: Array = value.filled()
        return plain
    try:
        if hasattr(value, "detach"):
            return _of_torch(value)
        array = np.asarray(value)
        if not isinstance(value, np.ndarray | np.generic) and array.dtype.kind in "SUOf":
            array = _exact(array, np.array(value, object), name)
    except InputError:
        raise
    except Exception as error:  # ragged, or an object whose own code fails
        raise InputError(f"{name}: not an array: {error}") from error
    if array.dtype.kind in "OT" and not all(isinstance(each, str | bytes) for each in array.flat):
        raise InputError(f"{name}: not an array: give numbers of at most 64 bits, bool, str or bytes, of one kind")
    return array


def _exact(array: Array, objects: Array, name: str) -> Array:
    """Return what numpy made of Python's values, or the values themselves where it changed them."""
    if array.dtype.kind != "f":
        return objects
    for each in objects.flat:
        if isinstance(each, int) and abs(each) > MAX_EXACT:
            raise InputError(f"{name}: {each} among floats would be rounded: give an array of one type")
    return array


def _of_torch(tensor: Any) -> Array:
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if str(tensor.dtype) == "torch.bfloat16":
        values: Array = tensor.float().numpy()
        bfloat16 = _bfloat16()
        return values if bfloat16 is None else values.astype(bfloat16)
    array: Array = tensor.numpy()
    return array


def dtype_of(array: Array, name: str, *, oip: bool = False) -> DType:
    """Return the row of an array's type.

    Raises:
        InputError: the protocol has no such type.
    """
    found = _row(array.dtype)
    if found is None or (oip and not found.oip):
        known = ", ".join(dtype.name for dtype in DTYPES if dtype.oip or not oip)
        raise InputError(f"{name}: the protocol has no type for {array.dtype}; it has {known}, str and bytes")
    return found


@functools.lru_cache(maxsize=64)  # numpy makes up a dtype's name anew each time
def _row(dtype: np.dtype[Any]) -> DType | None:
    return BY_NAME.get(dtype.name)


def to_bytes(array: Array) -> bytes:
    """Return the elements in row-major order, little-endian, whatever the array's layout and byte order are."""
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.tobytes()


def to_texts(array: Array) -> list[bytes]:
    """Return the elements of an array of texts in row-major order, str as UTF-8.

    Raises:
        InputError: a str is not a text: it holds half of a surrogate pair.
    """
    try:
        return [each.encode() if isinstance(each, str) else each for each in array.ravel().tolist()]
    except UnicodeEncodeError as error:
        raise InputError(f"{error.object[:60]!r} cannot be encoded as UTF-8: {error.reason}; give bytes") from error


def from_bytes(data: bytes, dtype: DType, shape: Sequence[int]) -> Array:
    """Return the array of row-major little-endian elements; it is writable and owns its memory.

    Raises:
        BadTensorError: the length is another than the shape's.
    """
    wanted = count_of(shape) * dtype.storage.itemsize
    if len(data) != wanted:
        raise BadTensorError(f"shape {list(shape)} of {dtype.name} takes {wanted} bytes, {len(data)} were sent")
    return from_storage(np.frombuffer(data, dtype.storage), dtype, shape)


def as_storage(values: Array, dtype: DType) -> Array:
    """Return typed values as the type's storage; numbers too large for it are cut, as TensorFlow cuts them."""
    return (values != 0).astype("u1") if dtype.name == "bool" else values.astype(dtype.storage, copy=False)


def from_storage(stored: Array, dtype: DType, shape: Sequence[int]) -> Array:
    """Return the array whose elements have the bytes of `stored`; it is writable and owns its memory.

    Args:
        stored: array [n] of the type's storage type.
        dtype: the type.
        shape: its product is n.

    Raises:
        BadTensorError: numpy has no array of this shape.
    """
    try:
        shaped = stored.reshape(shape)
    except (ValueError, OverflowError) as error:  # more dimensions, or larger ones, than numpy has
        raise BadTensorError(f"shape {list(shape)}: {error}") from error
    revealed = _DISGUISED.get(dtype.name)
    return shaped.copy() if revealed is None else revealed(shaped)


def _bool(stored: Array) -> Array:
    # A numpy bool of any byte but 0 and 1 breaks comparisons. Of shape () numpy gives a scalar.
    return np.asarray(stored != 0)


def _from_bfloat16(stored: Array) -> Array:
    bfloat16 = _bfloat16()
    if bfloat16 is not None:
        return stored.copy().view(bfloat16)
    return np.asarray(stored.astype("<u4") << 16).view(np.float32)  # the upper half of a float32


def _float16(stored: Array) -> Array:
    return stored.copy().view(np.float16)


_DISGUISED: dict[str, Callable[[Array], Array]] = {"bool": _bool, "float16": _float16, "bfloat16": _from_bfloat16}
"""The types whose storage is another type, and what makes arrays of it."""


@functools.cache
def _bfloat16() -> np.dtype[Any] | None:
    try:
        import ml_dtypes  # noqa: PLC0415  (not a dependency; TensorFlow and JAX bring it)
    except ModuleNotFoundError:
        return None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def from_texts(texts: Sequence[bytes], shape: Sequence[int]) -> Array:
    """Return an object array of bytes.

    Raises:
        BadTensorError: their number is another than the shape's.
    """
    if len(texts) != count_of(shape):
        raise BadTensorError(f"shape {list(shape)} takes {count_of(shape)} texts, {len(texts)} were sent")
    array = np.empty(len(texts), object)
    array[:] = texts
    try:
        return array.reshape(tuple(shape))
    except (ValueError, OverflowError) as error:
        raise BadTensorError(f"shape {list(shape)}: {error}") from error


def count_of(shape: Sequence[int]) -> int:
    """Return the number of elements of an array of this shape.

    Raises:
        BadTensorError: a size is negative.
    """
    if shape and min(shape) < 0:
        raise BadTensorError(f"shape {list(shape)} has a negative size")
    return math.prod(shape)
