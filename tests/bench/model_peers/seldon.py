"""A component for seldon-core's own wrapper, in .peers/seldon-torch; the folder is in MODEL_FOLDER."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from bench.model_peers.hooks import Model


class Component:
    """Loaded by the wrapper in each of its processes."""

    def load(self) -> None:
        """Load the folder."""
        self._model = Model(Path(os.environ["MODEL_FOLDER"]))

    def predict(self, x: np.ndarray, names: Iterable[str], meta: dict[str, Any] | None = None) -> np.ndarray:
        """Answer one request."""
        return self._model.one(x)
