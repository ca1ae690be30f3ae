"""What a runtime is: the way to load and call one model format.

A runtime recognises its files without torch, so that `check` works where torch is not installed and never
runs what is inside a file; only `load` imports torch.
"""

from __future__ import annotations

import logging
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dl_inference.serving.load_error import LoadError
from torch_predict.arguments import arguments_of
from torch_predict.errors import PickleNotAllowed
from torch_predict.modules import import_from
from torch_predict.signature import Signature

if TYPE_CHECKING:
    import torch


class Runtime(ABC):
    """One model format. Constructing loads nothing."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    """Of ``model.<suffix>`` files that may hold this format."""
    needs_model_py: ClassVar[bool] = False
    """Whether the file holds weights only, for the class ``Model`` of a model.py beside it."""

    @abstractmethod
    def recognises(self, file: Path) -> bool:
        """Say by the file's content, without running any of it, whether this runtime is the one to try."""

    def runs_code(self, file: Path) -> bool:
        """Say whether loading this file runs code that is inside it; False for every format made without pickles."""
        return False

    def refusal(self, file: Path) -> LoadError:
        """Return what is said where a file runs code and nobody has allowed that."""
        return PickleNotAllowed(file)

    def declared(self, file: Path) -> Signature | None:
        """Return the inputs and outputs that a file tells without being loaded; None where it does not."""
        return None

    @abstractmethod
    def load(self, file: Path, device: torch.device) -> Callable[..., Any]:
        """Return the model, ready for inference on the device.

        Raises:
            LoadError: the content is not what it should be; names the file, what is wrong and what to do.
        """

    def signature(self, model: Callable[..., Any]) -> Signature:
        """Return what a loaded model tells of its inputs and outputs; the names of its arguments at most."""
        return Signature(arguments_of(model))


_LOGGER = logging.getLogger(__name__)

_CHECKPOINT_KEYS = frozenset({"state_dict", "model_state_dict", "model"})
"""What training programs call the state dict of the model, beside that of the optimizer."""

_PREFIXES = ("module.", "_orig_mod.")
"""Of DataParallel and torch.compile."""


def zip_names(file: Path) -> list[str]:
    """Return the member names of a zip archive; empty when the file is none, or is cut off."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return []


def model_of(file: Path) -> torch.nn.Module:
    """Return ``Model()`` of the model.py beside the file.

    Raises:
        LoadError: there is no such file or class, or constructing it fails.
    """
    import torch  # noqa: PLC0415  (module head)

    source = file.parent / "model.py"
    remedy = "define 'class Model(torch.nn.Module)' that takes no arguments"
    if not source.is_file():
        raise LoadError(source, f"is missing: {file.name} holds weights only", f"write it: {remedy}")
    model_class = getattr(import_from(file.parent, "model"), "Model", None)
    if model_class is None:
        raise LoadError(source, "has no Model", remedy)
    try:
        model = model_class()
    except Exception as error:
        raise LoadError(source, f"Model() failed: {type(error).__name__}: {error}", remedy) from error
    if not isinstance(model, torch.nn.Module):
        raise LoadError(source, f"Model() is a {type(model).__name__}, not a torch.nn.Module", remedy)
    return model


def fill(file: Path, state: object, device: torch.device) -> torch.nn.Module:
    """Return ``Model()`` with the weights of a state dict, in eval mode on the device.

    A checkpoint, a dict that holds a state dict beside other things, is looked into; prefixes that torch.compile and
    DataParallel put before all names are taken away; weights that are tied need be there once.

    Raises:
        LoadError: it is no state dict, or does not fit the class; names the keys.
    """
    model = model_of(file)
    own = model.state_dict()
    weights = _without_prefixes(file, _state_dict(file, state), own)
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # torch lists the shapes that differ, one a line
        raise _unfit(file, " ".join(str(error).split())) from None
    except Exception as error:  # set_extra_state is the model's own code
        raise _unfit(file, f"{type(error).__name__}: {error}") from error
    loaded = {_memory(tensor) for name, tensor in own.items() if name in weights}
    missing = [name for name in missing if _memory(own.get(name)) not in loaded]
    if missing or unexpected:
        both = ((missing, "missing"), (unexpected, "unexpected"))
        raise _unfit(file, "; ".join(f"{word} keys: {', '.join(names[:20])}" for names, word in both if names))
    return model.eval().to(device)


def _memory(value: Any) -> object:
    """Return what two tied weights have in common; a part of another weight is not tied to it."""
    if not hasattr(value, "data_ptr") or not value.numel():
        return object()  # like nothing else
    return value.data_ptr(), value.dtype, tuple(value.shape), value.stride()


def _state_dict(file: Path, state: object) -> dict[str, Any]:
    if isinstance(state, dict):
        inner = [key for key, value in state.items() if _holds_tensors(value)]
        if not inner and (not state or _holds_tensors(state)):  # of a model without weights it is empty
            return state
        named = [key for key in inner if key in _CHECKPOINT_KEYS] or inner
        if len(named) == 1:
            _LOGGER.info("%s is a checkpoint: its %r is loaded", file.name, named[0])
            return state[named[0]]  # type: ignore[no-any-return]
    keys = f" with the keys {', '.join(map(str, list(state)[:5]))}" if isinstance(state, dict) else ""
    raise LoadError(
        file, f"holds a {type(state).__name__}{keys}, not a state dict", "save model.state_dict() and nothing else"
    )


def _holds_tensors(value: object) -> bool:
    import torch  # noqa: PLC0415  (module head)

    return isinstance(value, dict) and any(isinstance(each, torch.Tensor) for each in value.values())


def _without_prefixes(file: Path, weights: dict[str, Any], own: Collection[str]) -> dict[str, Any]:
    for prefix in _PREFIXES * 2:  # of both, in either order
        if any(name in own for name in weights):  # a model may have a layer that is called so
            return weights
        if all(str(name).startswith(prefix) for name in weights):
            _LOGGER.info("%s: the prefix %r is removed from all names", file.name, prefix)
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _unfit(file: Path, text: str) -> LoadError:
    remedy = "use the model.py it was saved with: the names and shapes of its layers are those of the weights"
    return LoadError(file, f"does not fit Model() of model.py: {text}", remedy)
