"""Arrays to TensorProto in typed fields, as TF Serving answers: clients read `float_val`, not `tensor_content`.

The other way is TensorFlow's own parser (`SavedModel.parse`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dl_inference.messages import DataType, TensorProto

_TAGS = {
    "float_val": b"\x2a",
    "double_val": b"\x32",
    "scomplex_val": b"\x4a",
    "bool_val": b"\x5a",
    "dcomplex_val": b"\x62",
}
"""First byte of a packed field (field number, wire type 2), of those whose elements are as wide on the wire as here."""

_FIELDS: dict[str, tuple[str, str | None]] = {
    "DT_FLOAT": ("float_val", None),
    "DT_DOUBLE": ("double_val", None),
    "DT_COMPLEX64": ("scomplex_val", None),
    "DT_COMPLEX128": ("dcomplex_val", None),
    "DT_BOOL": ("bool_val", None),
    "DT_STRING": ("string_val", None),
    "DT_INT64": ("int64_val", None),
    "DT_UINT32": ("uint32_val", None),
    "DT_UINT64": ("uint64_val", None),
    "DT_HALF": ("half_val", "uint16"),
    "DT_BFLOAT16": ("half_val", "uint16"),
    "DT_FLOAT8_E5M2": ("float8_val", "uint8"),
    "DT_FLOAT8_E4M3FN": ("float8_val", "uint8"),
    "DT_INT32": ("int_val", None),
    "DT_INT16": ("int_val", None),
    "DT_INT8": ("int_val", None),
    "DT_UINT16": ("int_val", None),
    "DT_UINT8": ("int_val", None),
    "DT_INT4": ("int_val", "int4"),
    "DT_UINT4": ("int_val", "int4"),
    "DT_QINT8": ("int_val", "int8"),
    "DT_QUINT8": ("int_val", "uint8"),
    "DT_QINT16": ("int_val", "int16"),
    "DT_QUINT16": ("int_val", "uint16"),
    "DT_QINT32": ("int_val", "int32"),
}
"""dtype -> typed field, and as what the elements are read for it."""


def encode(dtype: int, array: np.ndarray[Any, Any]) -> Any:
    """Return an array as tensorflow.TensorProto in the typed field of its dtype.

    Args:
        dtype: number of tensorflow.DataType; the array's elements are of it (bytes for DT_STRING).
        array: any shape.

    Raises:
        ValueError: no typed field holds the dtype (resources and variants).
    """
    name = DataType.Name(dtype)
    if name not in _FIELDS:
        raise ValueError(f"a tensor of {name} cannot be sent")
    field, stored = _FIELDS[name]
    message: Any = TensorProto(dtype=dtype)
    message.tensor_shape.SetInParent()  # a scalar has a shape, too: of no dimensions
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    values = np.ascontiguousarray(array).reshape(-1)
    if field in _TAGS:
        data = values.tobytes()
        message.MergeFromString(_TAGS[field] + _varint(len(data)) + data)
    elif field == "float8_val":
        message.float8_val = values.tobytes()
    elif field == "string_val":
        message.string_val.extend(value if isinstance(value, bytes) else str(value).encode() for value in values)
    else:
        getattr(message, field).extend(_integers(values, stored).tolist())
    return message


def _integers(values: np.ndarray[Any, Any], stored: str | None) -> np.ndarray[Any, Any]:
    if stored is None:
        return values
    return values.astype(np.int32) if stored == "int4" else values.view(stored)


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
