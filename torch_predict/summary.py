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
    if methods := sources.methods_in(version.path):
        parts["methods"] = f"{', '.join(methods)} (by the tag or parameter method)"
    settings = ServerSettings.from_environment(os.environ)
    count = found.settings.instances or 1
    given = (settings.completed(torch_device=found.settings.device_of(index)) for index in range(count))
    devices = dict.fromkeys(each.torch_device for each in given)
    parts["device"] = ", ".join("cuda where there is one, else cpu" if each == "auto" else each for each in devices)
    if found.settings.instances is not None:
        parts["instances"] = str(count)
    if found.settings.python is not None:
        parts["python"] = found.settings.python
    return parts


def specs_text(specs: Iterable[TensorSpec]) -> str:
    """Return tensors as people read them: ``x float32 [-1, 4]``."""
    return "; ".join(f"{each.name} {each.dtype} {list(each.shape)}" for each in specs)
