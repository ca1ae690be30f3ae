"""What a hook gets for each kind of payload, as the original's wrapper gave it (compat.md, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import any_pb2

from torch_predict.errors import InvalidInput

if TYPE_CHECKING:
    from dl_inference._native import Item
    from torch_predict.warmup import Sample


def payload_of(item: Item | Sample) -> Any:
    """Return the `x` of the first hook.

    Returns: tensor: float64 array, writable; ndarray: what ``np.array`` makes of the list (float64, bool, strings
        or objects); tftensor: array of its dtype; binData: bytes; strData: str; jsonData: dict, list, float, str,
        bool or None; customData: ``google.protobuf.Any``.

    Raises:
        InvalidInput: there is no payload, or the ndarray is ragged.
    """
    if item.kind == "ndarray":
        return _array(item.value)
    if item.kind == "customData":
        return any_pb2.Any.FromString(item.value)
    if item.kind == "none":
        raise InvalidInput("the message has no payload; set one of data, binData, strData, jsonData, customData")
    return item.value


def _array(values: list[Any]) -> np.ndarray[Any, Any]:
    try:
        return np.array(values)
    except ValueError:  # numpy: "setting an array element with a sequence ... inhomogeneous shape"
        raise InvalidInput("data.ndarray is ragged: its lists differ in length") from None
