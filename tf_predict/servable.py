"""What the server knows of a loaded model, whatever runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class Output(NamedTuple):
    """One tensor of an answer; ``dtype`` is a number of tensorflow.DataType."""

    dtype: int
    array: np.ndarray[Any, Any]


class Servable(Protocol):
    """What the rest of the server knows of a loaded model. Thread-safe."""

    signatures: Mapping[str, Any]
    """Name -> tensorflow.SignatureDef (dl_inference.messages)."""

    def parse(self, tensor: bytes, dtype: int) -> np.ndarray[Any, Any]:
        """Return the values of a serialized TensorProto; ValueError when they are not what it says."""

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]], fetches: Sequence[str]) -> list[Output]:
        """Return tensors by name; RequestError when the model fails."""

    def warmup_records(self) -> Iterator[bytes]:
        """Yield the records of its own warm-up file; ValueError when that cannot be read."""

    def close(self) -> None:
        """Free its memory; no call may be running."""
