"""The hooks and the model of a folder for other people's servers: what a careful user of theirs would write.

Each program here runs in its own environment, so this needs numpy, and torch where the folder has a model.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray


class Model:
    """processor.py and model.pt2 of a folder, on one thread."""

    def __init__(self, folder: Path) -> None:
        """Load both."""
        hooks = runpy.run_path(str(folder / "processor.py"))
        self._preprocess: Callable[[Array], Array] = hooks.get("preprocess", _same)
        self._postprocess: Callable[[Any], Array] = hooks.get("postprocess", _same)
        run_model = hooks.get("run_model")
        self.run: Callable[[Array], Any] = _torch(folder) if run_model is None else lambda x: run_model(None, x)

    def one(self, x: Array) -> Array:
        """Answer one request, of shape [rows, ...]."""
        return self._postprocess(self.run(self._preprocess(x)))

    def many(self, requests: Sequence[Array]) -> list[Array]:
        """Answer requests by one call of the model; the hooks get them one by one."""
        ready = [self._preprocess(x) for x in requests]
        joined = self.run(np.concatenate(ready))
        ends = np.cumsum([len(x) for x in ready])
        return [self._postprocess(joined[end - len(x) : end]) for end, x in zip(ends, ready, strict=True)]


def _same(x: Array) -> Array:
    return x


def _torch(folder: Path) -> Callable[[Array], Any]:
    import torch  # an echo needs none

    torch.set_num_threads(1)
    model: Any = torch.export.load(folder / "model.pt2").module()

    def run(x: Array) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(x).to(torch.float32))

    return run
