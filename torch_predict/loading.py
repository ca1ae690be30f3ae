"""From a model folder to a predictor that has seen its samples. Knows nothing of how it is served."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dl_inference.serving.load_error import LoadError
from dl_inference.variables import variable
from torch_predict import hooks, modules, repository
from torch_predict.arguments import Form
from torch_predict.config import ServerSettings
from torch_predict.signature import Signature

if TYPE_CHECKING:
    import torch

    from torch_predict.predictor import Predictor

_LOGGER = logging.getLogger(__name__)


def load_predictor(
    folder: repository.ModelFolder, version: repository.Version, *, allow_pickle: bool, settings: ServerSettings
) -> Predictor:
    """Load one version with its hooks and warm it up.

    Changes the working directory and ``sys.path`` of the process to the version's folder.

    Raises:
        LoadError: model, model.py or processor.py are not what they should be.
    """
    started = time.monotonic()
    _LOGGER.info("loading %s (%s)", version.file, version.runtime.name)
    import torch  # noqa: PLC0415  (takes seconds: not before the folder is known to be good)

    from torch_predict.predictor import Predictor  # noqa: PLC0415  (torch)
    from torch_predict.warmup import warm_up  # noqa: PLC0415  (torch)

    torch.set_num_threads(settings.torch_threads)
    device = device_of(settings.torch_device)
    modules.enter(version.path)
    model = repository.load(folder, version, allow_pickle=allow_pickle, device=device)
    signature = version.runtime.signature(model)
    own = hooks.load(version.path)
    if own.preprocess is None and own.run_model is None:
        _check_callable(version.file, signature)
    predictor = Predictor(model, own, device, folder.settings.class_names, signature)
    _LOGGER.info("loaded on %s in %.1f s", device, time.monotonic() - started)
    started = time.monotonic()
    warmed = warm_up(predictor, folder.path)
    if warmed.samples:
        _LOGGER.info("warmed up with %d samples in %.1f s", warmed.samples, time.monotonic() - started)
    predictor.learn(warmed.inputs, warmed.outputs)
    return predictor


def _check_callable(file: Path, signature: Signature) -> None:
    for argument in signature.arguments or ():
        if argument.is_required and argument.form is Form.OTHER:
            raise LoadError(
                file,
                f"forward takes {argument.name!r} as {argument.declared}, which no request can bring",
                "take tensors and numbers, or tuples, lists or dicts of tensors; or write run_model in processor.py",
            )


def device_of(name: str) -> torch.device:
    """Return the device of a setting.

    Raises:
        ValueError: there is none of this name here.
    """
    import torch  # noqa: PLC0415  (as above)

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ValueError(f"{variable('torch_device')}={name}: {error}") from None
