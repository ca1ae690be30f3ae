"""`torch.export` programs (model.pt2): the format to prefer.

torch reads some parts of such a file (example inputs, custom constants) with pickle, and so warns of files from
strangers; one whose pickles name more than tensors is treated like any pickled model.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.serving.load_error import LoadError
from torch_predict.pickles import is_weight, names_in_archive
from torch_predict.runtimes.base import Runtime, zip_names
from torch_predict.signature import Argument, Signature, Size, TensorSpec, output_names

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
        structure = getattr(model, "_in_spec", None)
        if known.arguments is None or nodes is None or structure is None:
            return known
        (end,) = nodes.find_nodes(op="output")
        outputs = _named_outputs(end.meta.get("val"), getattr(model, "_out_spec", None))
        # What is bfloat16 in the model leaves it as float32: numpy has no bfloat16.
        sent = [replace(spec, dtype="float32") if spec.dtype == "bfloat16" else spec for spec in _specs(outputs)]
        inputs = _named_inputs(nodes, [argument.name for argument in known.arguments])
        arguments = tuple(Argument(name) for name, value in inputs if hasattr(value, "shape"))
        specs = _specs([(name, value) for name, value in inputs if hasattr(value, "shape")])
        sizes = _sizes(inputs, getattr(model, "range_constraints", None) or {})
        return Signature(arguments, specs, tuple(sent), sizes, _arranged(inputs, structure))


def _named_inputs(graph: Any, names: list[str]) -> list[tuple[str, Any]]:
    """Return (name, fake tensor or constant) of what the program takes, in its order.

    The names are the arguments' where each is one tensor; of a dict or a list as an argument each leaf has one, such as
    ``pair_0``. The program's own names are not the arguments' where these are words of Python's, such as ``input``.
    """
    nodes = graph.find_nodes(op="placeholder")
    if len(names) != len(nodes):
        names = [node.name for node in nodes]
    inputs = []
    for name, node in zip(names, nodes, strict=True):
        is_itself = re.fullmatch(rf"{re.escape(name)}(_\d+)?", node.name) is not None  # ``input_1`` for ``input``
        inputs.append((name if is_itself else node.name, node.meta.get("val")))
    if len({name for name, _ in inputs}) < len(inputs):  # an argument is called as another one's leaf; nodes never are
        return [(node.name, node.meta.get("val")) for node in nodes]
    return inputs


def _arranged(inputs: list[tuple[str, Any]], structure: Any) -> Callable[[dict[str, Any]], Any]:
    """Return what puts inputs by name where the program was exported with them; constants are filled in."""
    from torch.utils import _pytree  # noqa: PLC0415  (base.py, module head)

    def arrange(values: dict[str, Any]) -> Any:
        leaves = [values.get(name, value) for name, value in inputs]
        return _pytree.tree_unflatten(leaves, structure)

    return arrange


def _sizes(inputs: list[tuple[str, Any]], ranges: Any) -> dict[tuple[str, int], Size]:
    """Return the bounds of axes that were left open."""
    sizes = {}
    for name, value in inputs:
        for axis, size in enumerate(getattr(value, "shape", ())):
            if not isinstance(size, int):
                bounds = ranges.get(size.node.expr)
                lowest, highest = (0, None) if bounds is None else (_number(bounds.lower), _number(bounds.upper))
                sizes[name, axis] = Size(lowest or 0, highest, str(size))
    return sizes


def _number(bound: Any) -> int | None:
    """Return a bound, a number of sympy's or an infinity of torch's or sympy's, as a number; None for an infinity."""
    text = str(bound)
    return int(text) if text.isdigit() else None


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
