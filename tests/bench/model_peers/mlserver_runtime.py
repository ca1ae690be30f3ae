"""A runtime for ``mlserver start``, in .peers/mlserver-torch; the folder is in MODEL_FOLDER.

MLServer joins requests itself when its batching is on, so the hooks get the joined array.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench.model_peers.hooks import Model
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Runtime(MLModel):  # type: ignore[misc]  # untyped
    """Answers a request, or several that MLServer has joined."""

    async def load(self) -> bool:
        """Load the folder."""
        self._model = Model(Path(os.environ["MODEL_FOLDER"]))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer by the hooks and one call of the model."""
        (given,) = payload.inputs
        x: Any = Base64Codec.decode_input(given)[0] if given.datatype == "BYTES" else NumpyCodec.decode_input(given)
        output = NumpyCodec.encode_output("output", self._model.one(x))
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=[output])
