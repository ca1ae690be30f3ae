"""`torch.export` programs (model.pt2): the format to prefer.

torch reads some parts of such a file (example inputs, custom constants) with pickle, and so warns of files from
strangers; one whose pickles name more than tensors is treated like any pickled model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.serving.load_error import LoadError
from torch_predict.pickles import is_weight, names_in_archive
from torch_predict.runtimes.base import Runtime, zip_names
from torch_predict.signature import Signature, TensorSpec, output_names

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

    def signature(self, model: Callable[..., Any]) -> Signature:
        """Return names, types and shapes as the program was traced: -1 where a size was left open."""
        known = super().signature(model)
        nodes: Any = getattr(model, "graph", None)
        if known.arguments is None or nodes is None:
            return known
        inputs = [(node.name, node.meta.get("val")) for node in nodes.find_nodes(op="placeholder")]
        (end,) = nodes.find_nodes(op="output")
        outputs = _named_outputs(end.meta.get("val"), getattr(model, "_out_spec", None))
        if [name for name, _ in inputs] != [argument.name for argument in known.arguments]:
            inputs = []  # a dict or a list as an argument: its leaves are not what a caller can name
        # What is bfloat16 in the model leaves it as float32: numpy has no bfloat16.
        sent = [replace(spec, dtype="float32") if spec.dtype == "bfloat16" else spec for spec in _specs(outputs)]
        return Signature(known.arguments, _specs(inputs), tuple(sent))


def _named_outputs(values: Any, structure: Any) -> list[tuple[str, Any]]:
    """Return (name, fake tensor) of what the program gives, leaves in `values`."""
    from torch.utils import _pytree  # noqa: PLC0415  (base.py, module head)

    if structure is None or not isinstance(values, tuple | list):
        return []
    result = _pytree.tree_unflatten(values, structure)
    if isinstance(result, dict):
        return [(str(name), value) for name, value in result.items()]
    leaves = list(result) if isinstance(result, tuple | list) else [result]
    return list(zip(output_names(len(leaves)), leaves, strict=True))


def _specs(values: list[tuple[str, Any]]) -> tuple[TensorSpec, ...]:
    """Return the specs of fake tensors; none at all where one of the values is no tensor."""
    specs = []
    for name, value in values:
        if not hasattr(value, "shape"):
            return ()
        shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
        specs.append(TensorSpec(name, str(value.dtype).removeprefix("torch."), shape))
    return tuple(specs)
