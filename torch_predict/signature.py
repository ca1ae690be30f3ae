"""What is known of a model's inputs and outputs: to bring named tensors to it, and for OIP's ModelMetadata.

An exported program knows shapes and types, any other model its arguments (arguments.py) at most; samples of the model
folder show the rest (warmup.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torch_predict.arguments import OPEN, Argument, Form
from torch_predict.errors import InvalidInput

SINGLE = ("binData", "strData", "jsonData")
"""Names of a single BYTES element that stands for Seldon's payload of that name."""
NO_INPUTS = "the request has no inputs"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output."""

    name: str
    dtype: str
    """numpy's name, ``object`` for bytes and strings; ``bfloat16``, which numpy does not have, for such a model."""
    shape: tuple[int, ...]
    """-1 where a size varies or is not known."""


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
    rows: str = ""
    """What the program calls the first axis, where all inputs and outputs share one that was left open."""
    arrange: Callable[[Mapping[str, Any]], tuple[Sequence[Any], Mapping[str, Any]]] | None = None
    """Makes positional and keyword arguments of inputs by name; None: by the arguments' order."""

    def bind(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Return the model's arguments by name, in the model's order.

        Names that are all the model's own decide; names that are all strange to it go by position.

        Raises:
            InvalidInput: an input is missing, is not one of the model's, or has a type or shape that it does not take.
        """
        if self.arguments is None:
            if inputs:
                return inputs
            raise InvalidInput(NO_INPUTS)
        takes = self._takes(inputs)
        names = list(takes)
        strange = [name for name in inputs if name not in takes]
        if len(strange) == len(inputs) <= len(names) and not any(name.endswith(OPEN) for name in names):
            inputs = dict(zip(names, inputs.values(), strict=False))
        elif strange:
            raise InvalidInput(f"unexpected inputs {_list(strange)}: this model takes {_list(names) or 'none'}")
        missing = [name for name, is_required in takes.items() if is_required and name not in inputs]
        if missing:
            raise InvalidInput(f"missing inputs {_list(missing)}: this model takes {_list(names)}")
        self.check(inputs)
        return {name: inputs[name] for name in names if name in inputs}

    def _takes(self, given: Collection[str]) -> dict[str, bool]:
        """Return the names of the inputs that the arguments are made of, and whether a call must bring them."""
        takes = {}
        exact = {argument.name for argument in self.arguments or ()}
        loose = [name for name in given if name not in exact]
        for argument in self.arguments or ():
            names = argument.inputs(loose)
            is_required = argument.is_required or any(name in given for name in names)
            takes.update({name: is_required for name in names})
        return takes

    def bind_one(self, x: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Return the one array of a request that names no inputs, by its argument's name and in its type.

        Protocols of JSON know one kind of number, so whole numbers become integers where the model takes these.

        Raises:
            InvalidInput: the model takes several inputs or none, or not this type or shape.
        """
        if self.arguments is None:
            return {"input": x}
        name = self.only_name()
        if name is None:
            names = [name for name, is_required in self._takes(()).items() if is_required]
            if not self.arguments:
                raise InvalidInput("this model takes no inputs: send {} as jsonData of Seldon")
            raise InvalidInput(
                f"this model takes the inputs {_list(names)}: send them by name, as jsonData or by the Open Inference "
                "Protocol"
            )
        return self.bind({name: self.integers(name, x)})

    def only_name(self) -> str | None:
        """Return the name of the input that one tensor without a name is; None where there is no such one."""
        takes = self._takes(())
        required = [name for name, is_required in takes.items() if is_required]
        name = next(iter(required or takes), None)
        return None if len(required) > 1 or name is None or name.endswith(OPEN) else name

    def optional(self) -> list[str]:
        """Return the inputs that a request may leave out."""
        return [name for name, is_required in self._takes(()).items() if not is_required]

    @property
    def is_open(self) -> bool:
        """Whether it takes dicts or lists of tensors, whose keys or length only the model knows."""
        return any(argument.form in (Form.DICT, Form.LIST) for argument in self.arguments or ())

    def strange_tags(self, tags: Mapping[str, Any]) -> str:
        """Return the tags that are no arguments of the model, as a list in words."""
        if self.arguments is None:
            return ""
        names = [argument.name for argument in self.arguments if self.arrange is None]
        return _list([name for name in tags if name not in names])

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

    def call(self, model: Callable[..., Any], values: Mapping[str, Any], tags: Mapping[str, Any]) -> Any:
        """Call the model with what `bind` returned: by position as far as possible, as traced programs want it."""
        if self.arguments is None:
            return model(*values.values(), **tags)
        if self.arrange is not None:
            positional_values, keyword_values = self.arrange(values)
            return model(*positional_values, **keyword_values)
        positional: list[Any] = []
        keywords = dict(tags)
        is_gap = False
        for argument in self.arguments:
            is_given = any(name in values for name in argument.inputs(values))
            if not is_given and not argument.is_nullable:
                is_gap = True  # its default counts
                continue
            value = argument.made_of(values) if is_given else None
            if is_gap or argument.is_keyword_only:
                keywords[argument.name] = value
            else:
                positional.append(value)
        return model(*positional, **keywords)

    def names(self, values: Mapping[str, Any]) -> bool:
        """Whether these are inputs of the model by name, all that it must have among them."""
        if self.arguments is None:
            return False
        takes = self._takes(values)
        return set(values) <= set(takes) and all(name in values or not takes[name] for name in takes)

    def plain_form(self, name: str) -> Form | None:
        """Return what an input is where the model takes no tensor for it, but Python's own numbers."""
        forms = (argument.plain_form(name) for argument in self.arguments or ())
        return next((form for form in forms if form is not None), None)

    def dtype_of(self, name: str) -> str | None:
        """Return the type that an input is to be cast to; None where that is not known."""
        return next((spec.dtype for spec in self.inputs if spec.name == name), None)


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


_CASTS = {"float": "biuf", "bfloat": "biuf", "complex": "biufc"}
"""numpy's kinds of numbers that are cast to a type whatever their size."""


def _check(spec: TensorSpec, array: np.ndarray[Any, Any]) -> None:
    have = array.dtype
    loses_nothing = _CASTS.get(spec.dtype.rstrip("0123456789"))  # but digits, as with every float of the caller's
    fits = have.kind in (loses_nothing or "biu") and (loses_nothing or np.can_cast(have, np.dtype(spec.dtype), "safe"))
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
