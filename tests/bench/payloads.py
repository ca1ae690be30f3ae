"""Predict requests of given sizes, in TensorFlow Serving's wire format, written by hand so that no peer is needed."""

from __future__ import annotations

MODEL = "bench"
PATH = "/tensorflow.serving.PredictionService/Predict"
# Bytes of the message. 179 is a small Predict: ten floats and the usual names.
SIZES = {"small": 179, "150 KB": 150_000, "1 MB": 1 << 20}


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _message(content_bytes: int, model: str) -> bytes:
    spec = _field(1, model.encode()) + _field(3, b"serving_default")
    shape = _field(2, b"\x08\x01") + _field(2, b"\x08" + _varint(max(content_bytes // 4, 1)))
    tensor = b"\x08\x01" + _field(2, shape) + _field(4, bytes(content_bytes))
    entry = _field(1, b"inputs") + _field(2, tensor)
    return _field(1, spec) + _field(2, entry)


def predict(size: int, model: str = MODEL) -> bytes:
    """Return a PredictRequest of exactly ``size`` bytes with one float tensor.

    Raises:
        ValueError: no tensor gives this size (a length that grew by a byte jumped over it).
    """
    content = size - len(_message(0, model))
    while content > 0:
        message = _message(content, model)
        if len(message) == size:
            return message
        content -= len(message) - size
    raise ValueError(f"no request for {model} has {size} bytes")


def framed(message: bytes) -> bytes:
    """Put gRPC's prefix in front of a message, as ``h2load -d`` needs it."""
    return b"\0" + len(message).to_bytes(4, "big") + message
