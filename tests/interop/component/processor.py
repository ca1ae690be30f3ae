"""A predictor that says what it got, or returns or raises what the request's tags ask for."""

import numpy as np
from google.protobuf import any_pb2

import torch_predict


def a_tensor():
    import torch  # the test reads the names below without it

    return torch.zeros(2)


RESULTS = {
    "float16": lambda: np.float16([[1.5, -2.25]]),
    "float32": lambda: np.float32([[0.1, 1.5], [np.nan, -np.inf]]),
    "float64": lambda: np.float64([0.1, -0.0, np.inf]),
    "int8": lambda: np.int8([[-128, 127]]),
    "int16": lambda: np.int16([[-32768, 32767]]),
    "int32": lambda: np.int32([[-(2**31), 2**31 - 1]]),
    "int64": lambda: np.int64([[-(2**63), 2**53 + 1]]),
    "uint8": lambda: np.uint8([[0, 255]]),
    "uint16": lambda: np.uint16([[0, 65535]]),
    "uint32": lambda: np.uint32([[0, 2**32 - 1]]),
    "uint64": lambda: np.uint64([[0, 2**64 - 1]]),
    "bool array": lambda: np.array([[True, False]]),
    "complex64": lambda: np.complex64([[1 + 2j]]),
    "complex128": lambda: np.complex128([1 + 2j, 3 - 4j]),
    "str array": lambda: np.array([["a", "bé"]]),
    "bytes array": lambda: np.array([b"a", b"bc"]),
    "object array": lambda: np.array([[None, "a", 1.5, True, {"k": [1]}]], dtype=object),
    "datetime array": lambda: np.array(["2026-11-21"], dtype="datetime64[D]"),
    "big-endian": lambda: np.array([[1.5, 2.5]], dtype=">f8"),
    "transposed": lambda: np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "strided": lambda: np.arange(10, dtype=np.int64)[::3],
    "scalar array": lambda: np.array(1.5),
    "scalar int array": lambda: np.array(7),
    "empty": lambda: np.zeros((0,)),
    "empty rows": lambda: np.zeros((0, 4), np.float32),
    "empty columns": lambda: np.zeros((3, 0)),
    "one": lambda: np.zeros((1, 1), np.int32),
    "4-d": lambda: np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4),
    "wide": lambda: np.arange(12.0).reshape(1, 12),
    "list": lambda: [[1, 2.5]],
    "int list": lambda: [1, 2],
    "bool list": lambda: [True, False],
    "str list": lambda: ["a", "b"],
    "mixed list": lambda: [1, "a"],
    "none list": lambda: [None, 1],
    "empty list": list,
    "ragged list": lambda: [[1], [1, 2]],
    "list of arrays": lambda: [np.arange(2), np.arange(2)],
    "list of tensors": lambda: [a_tensor()],
    "dict": lambda: {"a": 1, "b": [1.5, None, True, "x"], "c": {"d": {}}},
    "empty dict": dict,
    "nan dict": lambda: {"a": float("nan"), "b": float("-inf")},
    "int keys": lambda: {1: 2},
    "numpy values": lambda: {"a": np.float32(1)},
    "numpy float64 values": lambda: {"a": np.float64(1.5)},
    "tuple values": lambda: {"a": (1, 2)},
    "bytes values": lambda: {"a": b"x"},
    "str": lambda: "téxt",
    "empty str": str,
    "numpy str": lambda: np.str_("x"),
    "lone surrogate": lambda: "\ud800",
    "bytes": lambda: b"\x00\xff",
    "empty bytes": bytes,
    "bytearray": lambda: bytearray(b"ab"),
    "any": lambda: any_pb2.Any(type_url="t/x", value=b"\x08\x01"),
    "tuple": lambda: (1, 2),
    "int": lambda: 1,
    "float": lambda: 1.5,
    "numpy float": lambda: np.float32(1.5),
    "bool": lambda: True,
    "none": lambda: None,
    "tensor": a_tensor,
    "set": lambda: {1},
}

ERRORS = {
    "value": ValueError("a secret of the model"),
    "type": TypeError("a secret of the model"),
    "key": KeyError("secret"),
    "memory": MemoryError(),
    "exit": SystemExit(3),
    "invalid": torch_predict.InvalidInput("send numbers"),
    "coded": torch_predict.Error("RESOURCE_EXHAUSTED", "come back later"),
}


def run_model(model, x, **kwargs):
    tags = kwargs["meta"].get("tags", {})
    if "raise" in tags:
        raise ERRORS[tags["raise"]]
    if "return" in tags:
        return RESULTS[tags["return"]]()
    if "write" in tags:
        x[0] = tags["write"]
    if "describe" in tags:
        return describe(x, kwargs)
    if "ask" in tags:
        request = torch_predict.request()
        asked = {"parameters": request.parameters, "inputs": request.inputs, "loaded": LOADED}
        return {**asked, "words": list(torch_predict.settings()["words"])}
    return x


LOADED = []


def initialise(model, settings):
    LOADED[:] = [type(model).__name__, len(settings)]


@torch_predict.method
def double(model, x):
    return 2 * x


def describe(x, kwargs):
    """Say what a hook got, as text."""
    if isinstance(x, np.ndarray):
        what = f"{x.dtype} {x.shape} {[(type(value).__name__, value) for value in x.ravel().tolist()]}"
    else:
        what = repr(x)
    return f"{type(x).__name__} {what} {sorted(kwargs)} {sort(kwargs['meta'])}"


def sort(value):
    """Return JSON-like data with its keys in order: a map has none on the wire."""
    if isinstance(value, dict):
        return {key: sort(value[key]) for key in sorted(value)}
    return [sort(each) for each in value] if isinstance(value, list) else value
