"""A LitServe server, in .peers/litserve: ``python litserve_server.py PORT``; the folder is in MODEL_FOLDER.

Requests and answers are JSON, as LitServe reads and writes them by itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
from bench.model_peers.hooks import Model


class Batched(litserve.LitAPI):  # type: ignore[misc]  # untyped
    """Answers what LitServe has gathered by one call of the model."""

    def setup(self, device: str) -> None:
        """Load the folder, in the worker's process."""
        self._model = Model(Path(os.environ["MODEL_FOLDER"]))

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # FastAPI would read a type here
        """Read a request."""
        return np.array(request["input"])

    def batch(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Join nothing: the hooks get requests one by one, and ``Model.many`` joins after them."""
        return inputs

    def predict(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Answer a batch."""
        return self._model.many(inputs)

    def unbatch(self, output: list[np.ndarray]) -> list[np.ndarray]:
        """Give each its answer."""
        return output

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """Write an answer."""
        return {"output": output.tolist()}


if __name__ == "__main__":
    api = Batched(max_batch_size=64, batch_timeout=0.001)  # s
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="error", generate_client_file=False
    )
