"""The access service's settings on a machine whose environment is for model servers, too.

The commands read them through this module: they alone know every program, and so whose a variable is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from access.config import load
from dl_inference.serving.given import numbers_of
from dl_inference.variables import variable


def read(path: Path, flags: Mapping[str, Any] | None = None) -> load.Loaded:
    """Read access.yaml, as `access.config.load.load` does."""
    return load.load(path, flags=flags, is_foreign=is_of_a_model_server)


def read_without_file(defaults: Mapping[str, Any], flags: Mapping[str, Any]) -> load.Loaded:
    """Read flags and environment, as `access.config.load.load_without_file` does."""
    return load.load_without_file(defaults, flags=flags, is_foreign=is_of_a_model_server)


def is_of_a_model_server(name: str) -> bool:
    """Tell whether a model server reads a variable."""
    # Not for the other commands.
    from tf_predict import config as tensorflow  # noqa: PLC0415
    from torch_predict import config as torch  # noqa: PLC0415

    settings = (*torch.ServerSettings.model_fields, *tensorflow.ServerSettings.model_fields)
    numbers = (*numbers_of(torch.ModelSettings), *numbers_of(tensorflow.ModelSettings))
    return name in map(variable, (*settings, *numbers))
