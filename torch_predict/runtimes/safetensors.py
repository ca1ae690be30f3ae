"""State dicts in model.safetensors, for the class ``Model`` of model.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.serving.load_error import LoadError
from torch_predict.runtimes.base import Runtime, fill

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class SafeTensors(Runtime):
    """Weights only, in a format that cannot hold code."""

    name = "safetensors"
    suffixes = (".safetensors",)
    needs_model_py = True

    def recognises(self, file: Path) -> bool:
        """Say whether the file starts as safetensors do: 8 bytes of length, then JSON."""
        with file.open("rb") as stream:
            return stream.read(9)[8:] == b"{"

    def load(self, file: Path, device: torch.device) -> Callable[..., Any]:
        """Return ``Model()`` with these weights, in eval mode on the device.

        Raises:
            LoadError: the file is damaged, safetensors is not installed, or the weights do not fit.
        """
        try:
            import safetensors.torch  # noqa: PLC0415  (base.py, module head)
        except ImportError:
            raise LoadError(file, "needs the package safetensors", "pip install 'dl-inference[torch]'") from None
        try:
            state = safetensors.torch.load_file(file)
        except (safetensors.SafetensorError, ValueError) as error:
            raise LoadError(file, f"is damaged: {error}", "save it again with safetensors.torch.save_file") from error
        return fill(file, state, device)
