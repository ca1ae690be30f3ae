"""The arguments of a model's forward, and the inputs by name that make them.

A tensor or a number is the input of its argument's name. A tuple, list or dict of tensors has an input for each part,
``pair_0`` or ``images_left``, as torch.export names them. What no caller can send is `Form.OTHER`.
"""

from __future__ import annotations

import collections.abc
import enum
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch_predict.errors import InvalidInput

OPEN = "_<key>"
"""What stands behind a dict's name for the names of its inputs, where none is given."""


class Form(enum.Enum):
    """What an argument is made of."""

    TENSOR = "a tensor"
    BOOL = "one bool"
    INT = "one int"
    FLOAT = "one float"
    NUMBERS = "a row of numbers"
    TUPLE = "a tuple"
    LIST = "a list of tensors"
    DICT = "a dict of tensors"
    OTHER = "what no input can be"

    @property
    def is_plain(self) -> bool:
        """Whether it is Python's own number, or a list of them, and not a tensor."""
        return self in (Form.BOOL, Form.INT, Form.FLOAT, Form.NUMBERS)


@dataclass(frozen=True)
class Argument:
    """One argument of the model's forward."""

    name: str
    is_required: bool = True
    is_keyword_only: bool = False
    form: Form = Form.TENSOR
    parts: tuple[Form, ...] = ()
    """Of a tuple: each a tensor or a plain number."""
    is_nullable: bool = False
    """Whether it has no default, and None stands for it where a call brings nothing."""
    declared: str = ""
    """Its type in words, where it is `Form.OTHER`."""

    def inputs(self, given: Collection[str] = ()) -> list[str]:
        """Return the names of the inputs that make it; those of a list or a dict depend on what is given."""
        if self.form is Form.TUPLE:
            return [f"{self.name}_{index}" for index in range(len(self.parts))]
        if self.form is Form.LIST:
            return list(self._elements(given)) or [f"{self.name}_0"]
        if self.form is Form.DICT:
            return [name for name in given if name.startswith(f"{self.name}_")] or [f"{self.name}{OPEN}"]
        return [] if self.form is Form.OTHER else [self.name]

    def plain_form(self, name: str) -> Form | None:
        """Return the form of an input of this argument that is no tensor; None for tensors and for strange names."""
        forms = dict(zip(self.inputs(), self.parts or (self.form,), strict=False))
        form = forms.get(name)
        return form if form is not None and form.is_plain else None

    def made_of(self, values: Mapping[str, Any]) -> Any:
        """Return the argument, of tensors and plain numbers by the names of inputs."""
        if self.form is Form.TUPLE:
            return tuple(values[name] for name in self.inputs())
        if self.form is Form.LIST:
            return [values[name] for name in self._elements(values)]
        if self.form is Form.DICT:
            return {name.removeprefix(f"{self.name}_"): values[name] for name in self.inputs(values)}
        return values[self.name]

    def _elements(self, given: Collection[str]) -> Iterator[str]:
        index = 0
        while (name := f"{self.name}_{index}") in given:
            yield name
            index += 1


def plain_number(name: str, value: Any, form: Form) -> Any:
    """Return an array as the Python number, or list of numbers, that a model takes.

    Raises:
        InvalidInput: it has another number of elements, or none of this type.
    """
    flat = value.reshape(-1).tolist()
    if form is Form.NUMBERS and value.ndim == 1:
        return flat
    if form is Form.NUMBERS or len(flat) != 1:
        raise InvalidInput(f"input {name!r} has the shape {list(value.shape)}: this model takes {form.value}")
    (number,) = flat
    if form is Form.FLOAT:
        return float(number)
    if form is Form.INT and float(number).is_integer():
        return int(number)
    if form is Form.BOOL and number in (0, 1):
        return bool(number)
    raise InvalidInput(f"input {name!r} is {number}: this model takes {form.value}")


def arguments_of(model: Callable[..., Any]) -> tuple[Argument, ...] | None:
    """Return the arguments of a model's forward; None where it does not tell, or takes any number.

    What is not annotated is a tensor; so is what is annotated as what no input can be: Python does not check it.
    """
    forward = getattr(model, "forward", model)
    try:
        parameters = _parameters(forward)
    except (TypeError, ValueError):  # written in C
        return None
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return None
    return tuple(map(_argument, parameters))


def _parameters(forward: Callable[..., Any]) -> Collection[inspect.Parameter]:
    try:
        return inspect.signature(forward, eval_str=True).parameters.values()
    except (NameError, SyntaxError, AttributeError):  # an annotation for the type checker only
        return inspect.signature(forward).parameters.values()


def _argument(parameter: inspect.Parameter) -> Argument:
    form, parts, may_be_none = _form(parameter.annotation)
    has_default = parameter.default is not parameter.empty
    is_keyword_only = parameter.kind is parameter.KEYWORD_ONLY
    is_required = not has_default and not may_be_none
    return Argument(parameter.name, is_required, is_keyword_only, form, parts, may_be_none and not has_default)


_FORMS = {bool: Form.BOOL, int: Form.INT, float: Form.FLOAT}


def _form(annotation: Any) -> tuple[Form, tuple[Form, ...], bool]:
    annotation = _bare(annotation)
    origin, inner = typing.get_origin(annotation), tuple(map(_bare, typing.get_args(annotation)))
    if not inner:  # of `typing.List` there is an origin all the same
        return _FORMS.get(annotation, Form.TENSOR) if isinstance(annotation, type) else Form.TENSOR, (), False
    if origin in (typing.Union, types.UnionType):
        rest = [each for each in inner if each is not types.NoneType]
        form, parts, _ = _form(rest[0]) if len(rest) == 1 else (Form.TENSOR, (), False)
        return form, parts, len(rest) < len(inner)
    if origin in (list, collections.abc.Sequence) or (origin is tuple and inner[-1:] == (...,)):
        is_number = inner[0] in _FORMS
        return (Form.NUMBERS if is_number else Form.LIST), (), False
    if origin is tuple:
        return Form.TUPLE, tuple(_FORMS.get(each, Form.TENSOR) for each in inner), False
    if origin in (dict, collections.abc.Mapping) and inner[0] is str:
        return Form.DICT, (), False
    return Form.TENSOR, (), False


def _bare(annotation: Any) -> Any:
    """Return the type of `typing.Annotated`; what is beside it there may not even be hashable."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation
