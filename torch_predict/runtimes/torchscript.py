"""TorchScript archives (model.pt of `torch.jit.save`): still loaded, called deprecated by torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.serving.load_error import LoadError
from torch_predict.runtimes.base import Runtime, zip_names

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class TorchScript(Runtime):
    """A module saved by `torch.jit.save`."""

    name = "torchscript"
    suffixes = (".pt", ".pth")

    def recognises(self, file: Path) -> bool:
        """Say whether it is a zip archive with compiled code in it, which torch.save never writes."""
        names = zip_names(file)
        return any(n.endswith("constants.pkl") for n in names) and any("/code/" in n for n in names)

    def load(self, file: Path, device: torch.device) -> Callable[..., Any]:
        """Return the module in eval mode on the device.

        Raises:
            LoadError: the archive is damaged, or uses operators that this torch does not have.
        """
        import torch  # noqa: PLC0415  (base.py, module head)

        try:
            with warnings.catch_warnings():
                # torch >= 2.9 says so at every load; whoever serves an old file cannot do anything about it here.
                warnings.filterwarnings("ignore", "`torch.jit.load` is")
                module = torch.jit.load(str(file), map_location=device)  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise LoadError(
                file,
                f"torch {torch.__version__} cannot load it: {error}",
                "save it again with torch.jit.save, or export it",
            ) from error
        module.eval()
        return module  # type: ignore[no-any-return]
