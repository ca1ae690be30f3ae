"""`torch.export` programs (model.pt2): the format to prefer.

torch reads some parts of such a file (example inputs, custom constants) with pickle, and so warns of files from
strangers; one whose pickles name more than tensors is treated like any pickled model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch_predict.runtimes.base import LoadError, Runtime, is_weight, names_in_archive, zip_names

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class Exported(Runtime):
    """A program saved by `torch.export.save`."""

    name = "exported"
    suffixes = (".pt2",)

    def recognises(self, file: Path) -> bool:
        """Say whether it is a zip archive with torch.export's marks (torch 2.6 and the later layout)."""
        names = zip_names(file)
        return any(n.endswith(("serialized_exported_program.json", "archive_format")) for n in names)

    def runs_code(self, file: Path) -> bool:
        """Say whether a pickle in the archive names anything but tensors and the containers of example inputs."""
        return not all(is_weight(name) for name in names_in_archive(file))

    def load(self, file: Path, device: torch.device) -> Callable[..., Any]:
        """Return the program's module on the device; it is in the mode that it was exported in.

        Raises:
            LoadError: the archive is damaged or of another torch version.
        """
        import torch  # noqa: PLC0415  (base.py, module head)
        from torch.export.passes import move_to_device_pass  # noqa: PLC0415

        try:
            program = torch.export.load(file)
            # The graph holds devices as constants: moving only the weights would leave them behind.
            return move_to_device_pass(program, device).module()
        except Exception as error:  # torch raises anything here: zip, JSON, schema and operator errors
            raise LoadError(
                file,
                f"torch {torch.__version__} cannot load it: {type(error).__name__}: {error}",
                "export it again with torch.export.save, with the torch version that serves it",
            ) from error
