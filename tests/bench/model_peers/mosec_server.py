"""A mosec server, in .peers/mosec: ``python mosec_server.py --address HOST --port N``; the folder is in MODEL_FOLDER.

A request's body is the doubles of one row, an answer's those of its result: the form that costs mosec least.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from bench.model_peers.hooks import Model
from mosec import Server, Worker


class Batched(Worker):
    """Answers what mosec has gathered by one call of the model."""

    def __init__(self) -> None:
        """Load the folder, in the worker's process."""
        super().__init__()
        folder = Path(os.environ["MODEL_FOLDER"])
        self._model = Model(folder)
        self._shape = np.array(json.loads((folder / "known.json").read_text())[0]["x"]).shape

    def deserialize(self, data: bytes) -> np.ndarray:
        """Read a body."""
        return np.frombuffer(data, np.float64).reshape(self._shape)

    def serialize(self, data: np.ndarray) -> bytes:
        """Write an answer."""
        return data.astype(np.float64).tobytes()

    def forward(self, data: list[np.ndarray]) -> list[np.ndarray]:
        """Answer a batch."""
        return self._model.many(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Batched, max_batch_size=64, max_wait_time=1)  # ms, the least it takes
    server.run()
