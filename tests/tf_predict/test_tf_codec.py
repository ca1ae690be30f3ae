from __future__ import annotations

import numpy as np
import pytest

from dl_inference.messages import DataType, TensorProto
from tf_predict.codec import _FIELDS, encode


@pytest.mark.parametrize(
    ("name", "dtype", "values", "field", "expected"),
    [
        ("DT_FLOAT", "float32", [1.5, -2], "float_val", [1.5, -2]),
        ("DT_DOUBLE", "float64", [1e300], "double_val", [1e300]),
        ("DT_COMPLEX64", "complex64", [1 + 2j], "scomplex_val", [1, 2]),
        ("DT_COMPLEX128", "complex128", [1 + 2j], "dcomplex_val", [1, 2]),
        ("DT_BOOL", "bool", [True, False], "bool_val", [True, False]),
        ("DT_INT8", "int8", [-128], "int_val", [-128]),
        ("DT_UINT16", "uint16", [65535], "int_val", [65535]),
        ("DT_INT64", "int64", [-(2**63)], "int64_val", [-(2**63)]),
        ("DT_UINT32", "uint32", [2**32 - 1], "uint32_val", [2**32 - 1]),
        ("DT_UINT64", "uint64", [2**64 - 1], "uint64_val", [2**64 - 1]),
        ("DT_HALF", "float16", [1], "half_val", [0x3C00]),
        ("DT_STRING", "object", [b"\xff", "ü"], "string_val", [b"\xff", "ü".encode()]),
    ],
)
def test_values_go_into_the_typed_field_of_their_dtype(name, dtype, values, field, expected):
    message = encode(DataType.Value(name), np.array(values, dtype))
    assert list(getattr(message, field)) == expected
    assert (message.dtype, [dim.size for dim in message.tensor_shape.dim]) == (DataType.Value(name), [len(values)])
    assert not message.tensor_content


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 1, 3)])
def test_every_shape_is_written(shape):
    message = encode(DataType.Value("DT_FLOAT"), np.zeros(shape, np.float32))
    assert tuple(dim.size for dim in message.tensor_shape.dim) == shape
    assert len(message.float_val) == np.prod(shape)
    assert message.HasField("tensor_shape")


def test_an_array_that_is_not_contiguous_is_written_row_by_row():
    message = encode(DataType.Value("DT_FLOAT"), np.arange(6, dtype=np.float32).reshape(2, 3).T)
    assert list(message.float_val) == [0, 3, 1, 4, 2, 5]


def test_a_resource_cannot_be_sent():
    with pytest.raises(ValueError, match="DT_RESOURCE"):
        encode(DataType.Value("DT_RESOURCE"), np.array([0]))


def test_every_field_that_is_named_is_one_of_the_message():
    known = set(TensorProto.DESCRIPTOR.fields_by_name)
    assert {field for field, _ in _FIELDS.values()} <= known
    assert set(_FIELDS) <= set(DataType.keys())
