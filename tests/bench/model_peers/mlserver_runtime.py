"""A runtime for ``mlserver start``, in .peers/mlserver-torch; the folder is in MODEL_FOLDER.

MLServer joins requests itself when its batching is on, so the hooks get the joined array.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from bench.model_peers.hooks import Model
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Runtime(MLModel):  # type: ignore[misc]  # untyped
    """Answers a request, or several that MLServer has joined."""

    async def load(self) -> bool:
        """Load the folder."""
        self._model = Model(Path(os.environ["MODEL_FOLDER"]))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer by the hooks and one call of the model."""
        x: np.ndarray = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("output", self._model.one(x))
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=[output])
