"""Import what loading any model needs, once, in a process that is forked for each model.

Importing torch takes seconds of CPU, and what `torch.export.load` imports at its first call takes more. Nothing is
computed here: a process in which OpenMP's threads or CUDA have started must not be forked.
"""

from __future__ import annotations

import contextlib
import importlib

# Private names of torch among them, which may be gone in the next version: then they are imported when needed.
_MODULES = (
    "torch.export.passes",
    "torch._export.serde.serialize",
    "torch.export.pt2_archive._package",
    "networkx",
    "filelock",
    "safetensors.torch",
)


def preload() -> None:
    """Import torch, the model server and what the runtimes use of torch.

    Raises:
        ModuleNotFoundError: torch is not installed.
    """
    importlib.import_module("torch")
    for name in ("torch_predict.server", "torch_predict.predictor", "torch_predict.warmup"):
        importlib.import_module(name)
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
