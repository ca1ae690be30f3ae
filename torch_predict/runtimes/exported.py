"""`torch.export` programs (model.pt2): the format to prefer.

torch reads some parts of such a file (example inputs, custom constants) with pickle, and so warns of files from
strangers; one whose pickles name more than tensors is treated like any pickled model.
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.serving.load_error import LoadError
from torch_predict.arguments import Argument
from torch_predict.arrays import bfloat16
from torch_predict.outputs import parts
from torch_predict.pickles import is_weight, names_in_archive
from torch_predict.runtimes.base import Runtime, zip_names
from torch_predict.signature import Signature, Size, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import torch


_DOCUMENTS = ("serialized_exported_program.json", "models/model.json")
"""What the program's document is called in the archive of torch 2.6, and in the later ones."""

_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16",
}  # fmt: skip
"""Numbers of types in that document (torch's ScalarType of the export schema)."""

_NUMBERS = {"bool": "bool", "int": "int64", "SymInt": "int64", "float": "float64", "SymFloat": "float64"}
"""Types of results that are no tensors, and what they are sent as."""


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

    def declared(self, file: Path) -> Signature | None:
        """Return what the program's document says; None where it is not as the torch versions known here write it."""
        try:
            with zipfile.ZipFile(file) as archive:
                name = next(n for n in archive.namelist() if n.endswith(_DOCUMENTS))
                return _declared(json.loads(archive.read(name))["graph_module"])
        except (OSError, zipfile.BadZipFile, StopIteration, ValueError, LookupError, TypeError, AttributeError):
            return None

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
        inputs = _named_inputs(nodes, [argument.name for argument in known.arguments])
        arguments = tuple(Argument(name) for name, value in inputs if hasattr(value, "shape"))
        specs = _specs([(name, value) for name, value in inputs if hasattr(value, "shape")])
        sizes = _sizes(inputs, getattr(model, "range_constraints", None) or {})
        rows = _shared_axis([value for _, value in inputs if hasattr(value, "shape")] + [value for _, value in outputs])
        return Signature(arguments, specs, _sent(_specs(outputs)), sizes, rows, _arranged(inputs, structure))


def _declared(program: dict[str, Any]) -> Signature:
    """Return inputs and outputs of the document's graph, by the names that a loaded program has."""
    values, call = program["graph"]["tensor_values"], program["module_call_graph"][0]["signature"]
    kinds = ("user_input", "constant_input")
    taken = [spec[kind] for spec in program["signature"]["input_specs"] for kind in kinds if kind in spec]
    own = [each["arg"]["as_tensor"]["name"] if "arg" in each else each["name"] for each in taken]
    names = _input_names(own, call["forward_arg_names"] or [])
    inputs = [_spec(name, values[of]) for name, of, each in zip(names, own, taken, strict=True) if "arg" in each]
    given = [spec["user_output"]["arg"] for spec in program["signature"]["output_specs"] if "user_output" in spec]
    _, structure = json.loads(call["out_spec"])
    leaves = [_leaf(arg, values) for arg in given]
    return Signature(inputs=tuple(inputs), outputs=_sent(_specs(parts(_tree(structure, iter(leaves))))))


def _leaf(argument: dict[str, Any], values: dict[str, Any]) -> Any:
    """Return what the program gives at one place: a tensor's spec, or a number or None as it is."""
    ((kind, value),) = argument.items()
    if kind == "as_tensor":
        return _spec("", values[value["name"]])
    return {"as_none": None, "as_sym_int": 0, "as_sym_float": 0.0}.get(kind, value)


def _tree(structure: dict[str, Any], leaves: Iterator[Any]) -> Any:
    """Return leaves in the lists and dicts in which the program gives them."""
    if structure["type"] is None:
        return next(leaves)
    children = [_tree(child, leaves) for child in structure["children_spec"]]
    is_dict = str(structure["type"]).lower().endswith("dict")
    return dict(zip(json.loads(structure["context"]), children, strict=True)) if is_dict else children


def _spec(name: str, value: dict[str, Any]) -> TensorSpec:
    return TensorSpec(name, _DTYPES[value["dtype"]], tuple(size.get("as_int", -1) for size in value["sizes"]))


def _named_inputs(graph: Any, names: list[str]) -> list[tuple[str, Any]]:
    """Return (name, fake tensor or constant) of what the program takes, in its order.

    The names are the arguments' where each is one tensor; of a dict or a list as an argument each leaf has one, such as
    ``pair_0``. The program's own names are not the arguments' where these are words of Python's, such as ``input``.
    """
    nodes = graph.find_nodes(op="placeholder")
    own = [node.name for node in nodes]
    return [(name, node.meta.get("val")) for name, node in zip(_input_names(own, names), nodes, strict=True)]


def _input_names(own: list[str], arguments: list[str]) -> list[str]:
    """Return what inputs are called, by the program's own names for them and those of the arguments."""
    if len(arguments) != len(own):
        return own
    names = [
        argument if re.fullmatch(rf"{re.escape(argument)}(_\d+)?", name) else name  # ``input_1`` for ``input``
        for name, argument in zip(own, arguments, strict=True)
    ]
    # an argument is called as another one's leaf; the program's own names never are
    return own if len(set(names)) < len(names) else names


def _arranged(inputs: list[tuple[str, Any]], structure: Any) -> Callable[[Mapping[str, Any]], Any]:
    """Return what puts inputs by name where the program was exported with them; constants are filled in."""
    from torch.utils import _pytree  # noqa: PLC0415  (base.py, module head)

    def arrange(values: Mapping[str, Any]) -> Any:
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


def _shared_axis(values: list[Any]) -> str:
    """Return the symbol of the first axis of all tensors; empty where they do not share an open one."""
    firsts = [next(iter(getattr(value, "shape", ())), 0) for value in values]
    names = {"" if isinstance(first, int) else str(first) for first in firsts}
    return names.pop() if len(names) == 1 else ""


def _number(bound: Any) -> int | None:
    """Return a bound, a number of sympy's or an infinity of torch's or sympy's, as a number; None for an infinity."""
    text = str(bound)
    return int(text) if text.isdigit() else None


def _named_outputs(values: Any, structure: Any) -> list[tuple[str, Any]]:
    """Return (name, fake tensor) of what the program gives, leaves in `values`."""
    from torch.utils import _pytree  # noqa: PLC0415  (base.py, module head)

    if structure is None or not isinstance(values, tuple | list):
        return []
    return parts(_pytree.tree_unflatten(values, structure))


def _sent(outputs: Iterable[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return outputs as they leave: bfloat16 as float32 where nothing has an array for it."""
    if bfloat16() is not None:
        return tuple(outputs)
    return tuple(replace(spec, dtype="float32") if spec.dtype == "bfloat16" else spec for spec in outputs)


def _specs(values: list[tuple[str, Any]]) -> tuple[TensorSpec, ...]:
    """Return the specs of fake tensors and numbers; none at all where one of the values is neither."""
    specs = []
    for name, value in values:
        if hasattr(value, "shape"):
            shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
            specs.append(TensorSpec(name, str(value.dtype).removeprefix("torch."), shape))
        elif type(value).__name__ in _NUMBERS:
            specs.append(TensorSpec(name, _NUMBERS[type(value).__name__], ()))
        else:
            return ()
    return tuple(specs)
