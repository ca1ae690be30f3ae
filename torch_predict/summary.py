"""What a PyTorch model folder holds, in words for people; without loading any of it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from torch_predict import sources
from torch_predict.config import ServerSettings
from torch_predict.repository import ModelFolder
from torch_predict.signature import TensorSpec


def of(found: ModelFolder) -> dict[str, str]:
    """Return what there is: format, versions, inputs and outputs, hooks, device; of the version that calls get.

    Inputs and outputs are there for formats that tell them without being loaded.
    """
    version = found.chosen()[-1]
    size = version.file.stat().st_size
    hooks = sources.hooks_in(version.path)
    parts = {
        "format": f"PyTorch, {version.runtime.name}: {version.file.name}, {size:,} bytes",
        "versions": found.versions_text(),
    }
    declared = version.runtime.declared(version.file)
    if declared is not None:
        parts |= {"inputs": specs_text(declared.inputs), "outputs": specs_text(declared.outputs)}
    parts["hooks"] = ", ".join(hooks) if hooks else "none: arrays go to the model as they are"
    device = ServerSettings.from_environment(os.environ).torch_device
    parts["device"] = "cuda where there is one, else cpu" if device == "auto" else device
    return parts


def specs_text(specs: Iterable[TensorSpec]) -> str:
    """Return tensors as people read them: ``x float32 [-1, 4]``."""
    return "; ".join(f"{each.name} {each.dtype} {list(each.shape)}" for each in specs)
