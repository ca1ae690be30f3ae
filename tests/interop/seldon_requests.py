"""Requests to a Seldon model server, by name: every payload kind, shape and dtype, and what is no payload at all."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from google.protobuf import json_format

from dl_inference.messages import SeldonMessage

NAN, INF = float("nan"), float("inf")


def tensor(shape: list[int], values: list[float], **tags: Any) -> Any:
    message = with_tags(**tags)
    message.data.tensor.shape.extend(shape)
    message.data.tensor.values.extend(values)
    message.data.tensor.SetInParent()
    return message


def ndarray(values: list[Any], **tags: Any) -> Any:
    message = with_tags(**tags)
    json_format.ParseDict(values, message.data.ndarray)
    message.data.ndarray.SetInParent()
    return message


def tftensor(dtype: int, shape: list[int], **fields: Any) -> Any:
    message = SeldonMessage()
    proto = message.data.tftensor
    proto.dtype = dtype
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(proto, name).extend(value)
        else:
            setattr(proto, name, value)
    return message


def with_tags(**tags: Any) -> Any:
    message = SeldonMessage()
    for name, value in tags.items():
        json_format.ParseDict(value, message.meta.tags[name])
    return message


def payload(kind: str, **tags: Any) -> Any:
    """Return a plain request of a kind."""
    message = with_tags(**tags)
    if kind == "tensor":
        return tensor([2], [1.0, 2.0], **tags)
    if kind == "ndarray":
        return ndarray([1.0, 2.0], **tags)
    if kind == "tftensor":
        message.data.tftensor.MergeFrom(tftensor(1, [2], float_val=[1.0, 2.0]).data.tftensor)
    elif kind == "data":
        message.data.SetInParent()
    elif kind == "binData":
        message.binData = b"\x00\xffbin"
    elif kind == "strData":
        message.strData = "téxt"
    elif kind == "jsonData":
        json_format.ParseDict({"a": [1, {"b": None}]}, message.jsonData)
    elif kind == "customData":
        message.customData.type_url, message.customData.value = "t/x", b"\x08\x01"
    return message


KINDS = ["tensor", "ndarray", "tftensor", "data", "binData", "strData", "jsonData", "customData", "none"]


def json_data(value: Any, **tags: Any) -> Any:
    message = with_tags(**tags)
    json_format.ParseDict(value, message.jsonData)
    return message


def _tensors() -> dict[str, Any]:
    return {
        "tensor []": tensor([], [1.0]),
        "tensor [] without a value": tensor([], []),
        "tensor [0]": tensor([0], []),
        "tensor [0,4]": tensor([0, 4], []),
        "tensor [4,0]": tensor([4, 0], []),
        "tensor [1]": tensor([1], [1.5]),
        "tensor [2,3]": tensor([2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        "tensor 4-d": tensor([1, 2, 3, 2], [float(i) for i in range(12)]),
        "tensor with NaN": tensor([6], [NAN, INF, -INF, -0.0, 1e308, 5e-324]),
        "tensor, too many values": tensor([2], [1.0, 2.0, 3.0]),
        "tensor, too few values": tensor([3], [1.0, 2.0]),
        "tensor -1": tensor([-1], [1.0]),
        "tensor -1 among others": tensor([1, -1], [1.0]),
        "tensor, unpacked": unpacked_tensor(),
    }


def unpacked_tensor() -> Any:
    """Return the bytes of a tensor whose values stand one by one, as an old encoder may write them."""
    values = b"".join(b"\x11" + struct.pack("<d", value) for value in (1.5, 2.5))
    inner = b"\x0a\x01\x02" + values  # shape [2], packed
    data = b"\x12" + bytes([len(inner)]) + inner
    return b"\x1a" + bytes([len(data)]) + data


def _ndarrays() -> dict[str, Any]:
    values: dict[str, list[Any]] = {
        "[]": [],
        "[[]]": [[]],
        "[[], []]": [[], []],
        "1-d": [1, 2.5],
        "2-d": [[1, 2], [3, 4]],
        "4-d": [[[[1], [2]], [[3], [4]]]],
        "bool": [True, False],
        "bool rows": [[True], [False]],
        "strings": ["a", "", "é"],
        "numbers and strings": [1, "a"],
        "numbers and bools": [1, True],
        "bools and strings": [True, "a"],
        "nulls": [None, 1],
        "only nulls": [None],
        "objects": [{"a": 1}, {"b": [2]}],
        "rows of objects": [[{"a": 1}, 2]],
        "ragged": [[1], [1, 2]],
        "ragged by depth": [1, [2]],
        "2^53 + 1": [2**53 + 1],
    }
    return {f"ndarray {name}": ndarray(value) for name, value in values.items()}


# TensorFlow's numbers of dtypes, a field of TensorProto that holds them, and values.
TYPED: dict[str, tuple[int, str, list[Any]]] = {
    "DT_FLOAT": (1, "float_val", [0.1, NAN, -INF, -0.0]),
    "DT_DOUBLE": (2, "double_val", [0.1, NAN, -INF, -0.0]),
    "DT_INT32": (3, "int_val", [-(2**31), 2**31 - 1]),
    "DT_UINT8": (4, "int_val", [0, 255]),
    "DT_INT16": (5, "int_val", [-32768, 32767]),
    "DT_INT8": (6, "int_val", [-128, 127]),
    "DT_STRING": (7, "string_val", [b"a", b"\xff\x00", b""]),
    "DT_COMPLEX64": (8, "scomplex_val", [1.0, 2.0, 3.0, -4.0]),
    "DT_INT64": (9, "int64_val", [-(2**63), 2**53 + 1]),
    "DT_BOOL": (10, "bool_val", [True, False]),
    "DT_BFLOAT16": (14, "half_val", [0x3F80, 0xC000]),
    "DT_UINT16": (17, "int_val", [0, 65535]),
    "DT_COMPLEX128": (18, "dcomplex_val", [1.0, 2.0, 3.0, -4.0]),
    "DT_HALF": (19, "half_val", [0x3C00, 0xC000, 0x7E00]),
    "DT_UINT32": (22, "uint32_val", [0, 2**32 - 1]),
    "DT_UINT64": (23, "uint64_val", [0, 2**64 - 1]),
}
NUMPY = {"DT_FLOAT": "f4", "DT_DOUBLE": "f8", "DT_INT32": "i4", "DT_UINT8": "u1", "DT_INT16": "i2", "DT_INT8": "i1"}
NUMPY |= {"DT_COMPLEX64": "c8", "DT_INT64": "i8", "DT_BOOL": "?", "DT_UINT16": "u2", "DT_COMPLEX128": "c16"}
NUMPY |= {"DT_HALF": "f2", "DT_UINT32": "u4", "DT_UINT64": "u8", "DT_BFLOAT16": "u2"}


def _tftensors() -> dict[str, Any]:
    requests: dict[str, Any] = {}
    for name, (dtype, field, values) in TYPED.items():
        count = len(values) // 2 if "complex" in field else len(values)
        requests[f"tftensor {name}"] = tftensor(dtype, [count], **{field: values})
        requests[f"tftensor {name}, one value repeated"] = tftensor(
            dtype, [2, 2], **{field: values[: len(values) // count]}
        )
        requests[f"tftensor {name}, no value"] = tftensor(dtype, [2])
        requests[f"tftensor {name}, empty"] = tftensor(dtype, [0, 3])
        requests[f"tftensor {name}, scalar"] = tftensor(dtype, [], **{field: values[: len(values) // count]})
        if name in NUMPY:
            content = np.arange(8).astype(NUMPY[name]).tobytes()
            requests[f"tftensor {name}, content"] = tftensor(dtype, [2, 1, 2, 2], tensor_content=content)
    floats = [1.0, 2.0, 3.0]
    requests |= {
        "tftensor, fewer values": tftensor(1, [5], float_val=floats),
        "tftensor, more values": tftensor(1, [2], float_val=floats),
        "tftensor, wrong field": tftensor(1, [2], double_val=floats[:2]),
        "tftensor, content and values": tftensor(1, [1], tensor_content=struct.pack("<f", 7), float_val=[1.0]),
        "tftensor, short content": tftensor(1, [2], tensor_content=b"\x00\x00\x80\x3f"),
        "tftensor, odd content": tftensor(1, [1], tensor_content=b"\x00\x00\x80"),
        "tftensor, uint8 300": tftensor(4, [1], int_val=[300]),
        "tftensor, no dtype": tftensor(0, [1], float_val=[1.0]),
        "tftensor, unknown dtype": tftensor(99, [1], float_val=[1.0]),
        "tftensor, resource": tftensor(20, [1]),
        "tftensor, quantized": tftensor(11, [1], int_val=[1]),
        "tftensor -1": tftensor(1, [-1], float_val=floats),
        "tftensor, strings, fewer": tftensor(7, [3], string_val=[b"a", b"b"]),
    }
    return requests


def _others() -> dict[str, Any]:
    requests: dict[str, Any] = {
        "binData": SeldonMessage(binData=b"\x00\xff"),
        "binData, empty": SeldonMessage(binData=b""),
        "strData": SeldonMessage(strData="téxt\n\U0001f600\x00"),
        "strData, empty": SeldonMessage(strData=""),
        "customData": payload("customData"),
        "data with nothing in it": payload("data"),
        "no payload": SeldonMessage(),
    }
    for name, value in {
        "object": {"a": [1, {"b": None, "c": 2.5}], "z": "x"},
        "empty object": {},
        "list": [1, 2.5],
        "list of lists": [[1], [2]],
        "list of strings": ["a"],
        "mixed list": [1, "a", None],
        "list of objects": [{"a": 1}],
        "empty list": [],
        "ragged list": [[1], [1, 2]],
        "string": "x",
        "number": 1.5,
        "true": True,
        "null": None,
    }.items():
        requests[f"jsonData, {name}"] = json_data(value)
    return requests


def _metas() -> dict[str, Any]:
    full = SeldonMessage(strData="x")
    full.meta.puid = "p-1"
    full.meta.routing["r"] = 3
    full.meta.requestPath["a"] = "image:1"
    full.meta.metrics.add(key="k", type=1, value=2.5, tags={"t": "v"})
    full.meta.metrics.add(key="timer", type=2, value=0.1)
    full.status.code, full.status.info, full.status.status = 7, "info", 1
    tags = {"text": "x", "number": 39, "part": 39.7, "yes": True, "nothing": None, "list": [1, "a"], "map": {"k": []}}
    named = tensor([1, 2], [1.0, 2.0])
    named.data.names.extend(["a", "b"])
    empty = SeldonMessage(strData="x")
    empty.meta.SetInParent()
    return {
        "meta, every field": full,
        "meta, every kind of tag": payload("tensor", **tags),
        "meta, empty": empty,
        "names": named,
        "names of rank 1": _named([2]),
        "names, wrong count": _named([1, 2], ["a"]),
    }


def _named(shape: list[int], names: list[str] | None = None) -> Any:
    message = tensor(shape, [1.0, 2.0])
    message.data.names.extend(names or ["a", "b"])
    return message


def described(message: Any) -> Any:
    """Return the same request, asking what the hook gets."""
    if isinstance(message, bytes):
        return message
    copy = SeldonMessage()
    copy.CopyFrom(message)
    copy.meta.tags["describe"].string_value = "x"
    return copy


ECHOED: dict[str, Any] = {**_tensors(), **_ndarrays(), **_tftensors(), **_others(), **_metas()}
# The hook is asked what it gets.
DESCRIBED: dict[str, Any] = {name: described(message) for name, message in ECHOED.items()}
