"""State dicts in model.safetensors, for the class ``Model`` of model.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.serving.load_error import LoadError
from torch_predict.runtimes.base import Runtime, fill

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


_MAX_HEADER_BYTES = 100_000_000  # the limit of the format


class SafeTensors(Runtime):
    """Weights only, in a format that cannot hold code."""

    name = "safetensors"
    suffixes = (".safetensors",)
    needs_model_py = True

    def recognises(self, file: Path) -> bool:
        """Say whether it is as long as its header says: 8 bytes of length, JSON with places, then the tensors."""
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
                return False
            try:
                header = json.loads(stream.read(length))
                ends = [value["data_offsets"][1] for name, value in header.items() if name != "__metadata__"]
                return bool(8 + length + max(ends, default=0) == size)
            except (ValueError, TypeError, AttributeError, LookupError):
                return False

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
