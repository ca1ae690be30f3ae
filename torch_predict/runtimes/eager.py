"""State dicts of `torch.save` (model.pt, model.pth), for the class ``Model`` of model.py.

Only torch's weights-only unpickler ever reads such a file, whatever `recognises` thought of it.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.serving.load_error import LoadError
from torch_predict.pickles import is_weight, names_in_pickle
from torch_predict.runtimes.base import Runtime, fill

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class Eager(Runtime):
    """Weights only, in torch.save's format."""

    name = "eager"
    suffixes = (".pt", ".pth")
    needs_model_py = True

    def recognises(self, file: Path) -> bool:
        """Say whether its pickle names nothing but torch's own tensor pieces."""
        names = names_in_pickle(file)
        return names is not None and all(is_weight(name) for name in names)

    def load(self, file: Path, device: torch.device) -> Callable[..., Any]:
        """Return ``Model()`` with these weights, in eval mode on the device.

        Raises:
            LoadError: the file is damaged or holds more than weights, or the weights do not fit.
        """
        import torch  # noqa: PLC0415  (base.py, module head)

        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
            raise LoadError(
                file, f"cannot be read as weights: {error}", "save it again with torch.save(model.state_dict(), ...)"
            ) from error
        return fill(file, state, device)
