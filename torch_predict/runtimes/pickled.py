"""Whole pickled models (model.pth of ``torch.save(model)``): only where it was allowed explicitly.

Loading one runs code that its author chose, with the server's rights. The repository asks for the permission
before it calls `load`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.serving.load_error import LoadError
from torch_predict.pickles import names_in_pickle
from torch_predict.runtimes.base import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class Pickled(Runtime):
    """A model object as it is, with the names of its classes."""

    name = "pickled"
    suffixes = (".pth", ".pt")

    def recognises(self, file: Path) -> bool:
        """Say whether there is a pickle in the file at all; what is safe was recognised before."""
        return names_in_pickle(file) is not None

    def runs_code(self, file: Path) -> bool:
        """Say that it does: that is what a pickle is."""
        return True

    def load(self, file: Path, device: torch.device) -> Callable[..., Any]:
        """Return the unpickled model, in eval mode on the device.

        Raises:
            LoadError: unpickling fails, often for a class that was defined in ``__main__`` or is not in the folder.
        """
        import torch  # noqa: PLC0415  (base.py, module head)

        try:
            model = torch.load(file, map_location=device, weights_only=False)
        except Exception as error:  # the pickle's own code may raise anything
            raise LoadError(
                file,
                f"unpickling failed: {type(error).__name__}: {error}",
                "put the modules that define its classes into the folder, under the names they had when it was saved",
            ) from error
        if not callable(model):
            raise LoadError(file, f"holds a {type(model).__name__}, not a model", "save the model itself")
        if isinstance(model, torch.nn.Module):
            model.eval().to(device)
        return model  # type: ignore[no-any-return]
