"""What is known of a model's inputs and outputs: to bring named tensors to it, and for OIP's ModelMetadata.

An exported program knows shapes and types, any other model the names of its arguments at most; samples of the
model folder show the rest (warmup.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torch_predict.errors import InvalidInput

SINGLE = ("binData", "strData", "jsonData")
"""Names of a single BYTES element that stands for Seldon's payload of that name."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output."""

    name: str
    dtype: str
    """numpy's name, ``object`` for bytes and strings; ``bfloat16``, which numpy does not have, for such a model."""
    shape: tuple[int, ...]
    """-1 where a size varies or is not known."""


@dataclass(frozen=True)
class Argument:
    """One argument of the model's forward."""

    name: str
    is_required: bool = True
    is_keyword_only: bool = False


@dataclass(frozen=True)
class Size:
    """What one axis of an input may be, where that varies."""

    lowest: int = 0
    highest: int | None = None
    symbol: str = ""
    """Axes with the same one have the same size, in all inputs; empty: of its own."""


@dataclass(frozen=True)
class Signature:
    """What one model takes and gives."""

    arguments: tuple[Argument, ...] | None = None
    """None where the model does not tell, or takes any number."""
    inputs: tuple[TensorSpec, ...] = ()
    """By argument; empty where they are not known."""
    outputs: tuple[TensorSpec, ...] = ()
    sizes: Mapping[tuple[str, int], Size] = field(default_factory=dict)
    """By input and axis, for axes that vary within bounds."""
    arrange: Callable[[dict[str, Any]], tuple[Sequence[Any], Mapping[str, Any]]] | None = None
    """Makes positional and keyword arguments of inputs by name; None: by the arguments' order."""

    def bind(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Return the model's arguments by name, in the model's order.

        Names that are all the model's own decide; names that are all strange to it go by position.

        Raises:
            InvalidInput: an input is missing, is not one of the model's, or has a type or shape that it does not take.
        """
        if self.arguments is None:
            return inputs
        names = [argument.name for argument in self.arguments]
        strange = [name for name in inputs if name not in names]
        if len(strange) == len(inputs) <= len(names):
            inputs = dict(zip(names, inputs.values(), strict=False))
        elif strange:
            raise InvalidInput(f"unexpected inputs {_list(strange)}: this model takes {_list(names)}")
        missing = [a.name for a in self.arguments if a.is_required and a.name not in inputs]
        if missing:
            raise InvalidInput(f"missing inputs {_list(missing)}: this model takes {_list(names)}")
        self.check(inputs)
        return {name: inputs[name] for name in names if name in inputs}

    def bind_one(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the one array of a request that names no inputs, in the type that the model takes.

        Protocols of JSON know one kind of number, so whole numbers become integers where the model takes these.

        Raises:
            InvalidInput: the model takes several inputs, or not this type or shape.
        """
        required = [argument.name for argument in self.arguments or () if argument.is_required]
        if len(required) > 1:
            raise InvalidInput(
                f"this model takes the inputs {_list(required)}: send them by name, as jsonData or by the Open "
                "Inference Protocol"
            )
        if self.inputs:
            name = self.inputs[0].name
            x = self.integers(name, x)
            self.check({name: x})
        return x

    def integers(self, name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return floats that are whole numbers as integers, where the model takes these for an input.

        Raises:
            InvalidInput: the model takes integers, and these are none, or are too large to be exact.
        """
        spec = next((spec for spec in self.inputs if spec.name == name), None)
        if spec is None or array.dtype.kind != "f" or not spec.dtype.startswith(("int", "uint")):
            return array
        return _whole(spec, array)

    def check(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Check types and shapes against what is known of the model.

        Raises:
            InvalidInput: names the input, what it has, and what the model takes.
        """
        known: dict[str, tuple[str, int]] = {}
        for spec in self.inputs:
            if spec.name in inputs:
                array = inputs[spec.name]
                _check(spec, array)
                for axis, have in enumerate(array.shape):
                    size = self.sizes.get((spec.name, axis))
                    if size is not None:
                        _check_size(f"input {spec.name!r} has the size {have} on axis {axis}", have, size, known)

    def call(self, model: Callable[..., Any], values: dict[str, Any]) -> Any:
        """Call the model with what `bind` returned: by position as far as possible, as traced programs want it."""
        if self.arguments is None:
            return model(*values.values())
        if self.arrange is not None:
            positional_values, keyword_values = self.arrange(values)
            return model(*positional_values, **keyword_values)
        positional = []
        for argument in self.arguments:
            if argument.is_keyword_only or argument.name not in values:
                break
            positional.append(argument.name)
        keywords = {name: value for name, value in values.items() if name not in positional}
        return model(*(values[name] for name in positional), **keywords)

    def names(self, values: dict[str, Any]) -> bool:
        """Whether these are all arguments of the model by name."""
        return self.arguments is not None and set(values) <= {argument.name for argument in self.arguments}

    def dtype_of(self, name: str) -> str | None:
        """Return the type that an input is to be cast to; None where that is not known."""
        return next((spec.dtype for spec in self.inputs if spec.name == name), None)


def arguments_of(model: Callable[..., Any]) -> tuple[Argument, ...] | None:
    """Return the arguments of a model's forward; None where it does not tell."""
    forward = getattr(model, "forward", model)
    schema = getattr(forward, "schema", None)  # TorchScript's methods have no signature of Python's
    if schema is not None:
        return tuple(
            Argument(a.name, not a.has_default_value(), a.kwarg_only) for a in schema.arguments if a.name != "self"
        )
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):  # written in C
        return None
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return None
    return tuple(Argument(p.name, p.default is p.empty, p.kind is p.KEYWORD_ONLY) for p in parameters)


def merged(specs: Sequence[TensorSpec]) -> TensorSpec:
    """Return one spec for what was seen of one tensor: the first one's type, -1 for sizes that differ.

    The first axis of numbers counts as the batch's: what samples have there says nothing.
    """
    first = specs[0]
    if first.name in SINGLE:
        return first
    if any(len(spec.shape) != len(first.shape) for spec in specs):
        return TensorSpec(first.name, first.dtype, (-1,))
    sizes = [set(column) for column in zip(*(spec.shape for spec in specs), strict=True)]
    shape = [column.pop() if axis and len(column) == 1 else -1 for axis, column in enumerate(sizes)]
    return TensorSpec(first.name, first.dtype, tuple(shape))


def _check(spec: TensorSpec, array: np.ndarray[Any, Any]) -> None:
    have = array.dtype
    is_float = spec.dtype.startswith(("float", "bfloat"))
    fits = have.kind in "biuf" if is_float else have.kind in "biu" and np.can_cast(have, np.dtype(spec.dtype), "safe")
    if not fits:
        name = "bytes" if have.kind == "O" else have.name
        raise InvalidInput(f"input {spec.name!r} holds {name}: this model takes {spec.dtype}")
    sizes = list(spec.shape)
    if len(sizes) != array.ndim or any(s not in (-1, n) for s, n in zip(sizes, array.shape, strict=True)):
        raise InvalidInput(f"input {spec.name!r} has the shape {list(array.shape)}: this model takes {sizes}")


def _check_size(what: str, have: int, size: Size, known: dict[str, tuple[str, int]]) -> None:
    if have < size.lowest or (size.highest is not None and have > size.highest):
        bound = f"at least {size.lowest}" if size.highest is None else f"{size.lowest} to {size.highest}"
        raise InvalidInput(f"{what}: this model takes {bound}")
    other, same = known.setdefault(size.symbol or what, (what, have))
    if same != have:
        raise InvalidInput(f"{what}, and {other}: this model takes equal sizes there")


def _whole(spec: TensorSpec, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return floats that are whole numbers as the integers that a model takes."""
    limits = np.iinfo(spec.dtype)
    with np.errstate(invalid="ignore"):
        fits = np.isfinite(x).all() and (x == np.trunc(x)).all()
    # Beyond 2**53 not every whole number is a float: what was sent is not known.
    if not fits or (x < max(limits.min, -(2**53))).any() or (x > min(limits.max, 2**53)).any():
        raise InvalidInput(
            f"input {spec.name!r} holds {x.dtype} values that are no {spec.dtype}, which this model takes"
        )
    return x.astype(spec.dtype)


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:64]) for name in names[:32])
