"""From a model folder to a predictor that has seen its samples. Knows nothing of how it is served."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dl_inference.serving import expected
from dl_inference.serving.load_error import LoadError
from dl_inference.serving.report import Reporter
from dl_inference.variables import variable
from torch_predict import context, hooks, modules, repository
from torch_predict.arguments import Form, arguments_of
from torch_predict.config import ServerSettings
from torch_predict.signature import Signature

if TYPE_CHECKING:
    import torch

    from torch_predict.predictor import Predictor

_LOGGER = logging.getLogger(__name__)


def load_predictor(  # noqa: PLR0913  (what the server was told)
    folder: repository.ModelFolder,
    version: repository.Version,
    *,
    allow_pickle: bool,
    settings: ServerSettings,
    reporter: Reporter | None = None,
    is_judged: bool = True,
) -> Predictor:
    """Load one version with its hooks, warm it up, and compare its answers with those that the folder expects.

    Changes the working directory and ``sys.path`` of the process to the version's folder.

    Raises:
        LoadError: model, model.py, processor.py or an answer are not what they should be, or the device is not there.
    """
    reporter = reporter or Reporter()
    reporter.at("load")
    started = time.monotonic()
    _LOGGER.info("loading %s (%s)", version.file, version.runtime.name)
    import torch  # noqa: PLC0415  (takes seconds: not before the folder is known to be good)

    from torch_predict.compiling import Compilation  # noqa: PLC0415  (torch)
    from torch_predict.predictor import Predictor  # noqa: PLC0415  (torch)
    from torch_predict.proof import prove  # noqa: PLC0415  (torch)
    from torch_predict.warmup import warm_up  # noqa: PLC0415  (torch)

    torch.set_num_threads(settings.torch_threads)
    device = device_of(settings.torch_device)
    modules.enter(version.path)
    context.use_settings(folder.settings.settings)
    model = repository.load(folder, version, allow_pickle=allow_pickle, device=device)
    signature = version.runtime.signature(model)
    own = hooks.load(version.path)
    if own.initialise is not None and (replacement := own.initialise(model)) is not None:
        if not callable(replacement):
            text = f"initialise returned a {type(replacement).__name__}, which cannot be called"
            raise LoadError(version.path / "processor.py", text, "return a model, or None")
        model, signature = replacement, Signature(arguments_of(replacement))
    if own.preprocess is None and own.run_model is None:
        _check_callable(version.file, signature)
    compilation = Compilation() if folder.settings.compile else None
    if compilation is not None:
        model = compilation.of(model)
    predictor = Predictor(model, own, device, folder.settings.class_names, signature)
    _LOGGER.info("loaded on %s in %.1f s", device, time.monotonic() - started)
    started = time.monotonic()
    reporter.at("warm-up")
    warmed = warm_up(predictor, folder.path, folder.settings.golden)
    context.enter(None)
    if warmed.samples:
        _LOGGER.info("warmed up with %d samples in %.1f s", warmed.samples, time.monotonic() - started)
    if compilation is not None:
        compilation.check(version.file)
    reporter.at("golden")
    if is_judged and folder.settings.golden.required:
        expected.require(warmed.problems, folder.path)
    declared = predictor.metadata
    predictor.learn(warmed.inputs, warmed.outputs)
    reporter.found(
        predictor.metadata.inputs,
        predictor.metadata.outputs,
        optional=predictor.optional_inputs,
        learned=("" if declared.inputs else warmed.digest, "" if declared.outputs else warmed.digest),
        nan=warmed.nan,
    )
    predictor.joining = prove(predictor, folder.settings.batching, folder.path)
    _LOGGER.info("%s", predictor.joining.reason)
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

    gpus = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, ImportError) as error:  # torch without CUDA asserts
        there = ", ".join(["cpu", *(f"cuda:{index}" for index in range(gpus))])
        remedy = f"here is {there}: correct device in model.yaml, or {variable('torch_device')}"
        text = str(error).partition("\n")[0]
        raise LoadError(f"device {name}", f"is not on this machine: {text}", remedy) from None
