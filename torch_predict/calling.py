"""One loaded model, and how it is called with what a caller sent or a hook made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from torch_predict.arguments import arguments_of, plain_number
from torch_predict.blame import described, operator_words
from torch_predict.direct import direct_of
from torch_predict.errors import BadInput, InvalidInput
from torch_predict.signature import Signature

Array = np.ndarray[Any, Any]
_PREPROCESS = "processor.py's preprocess"


class Model:
    """A model with its signature, on its device."""

    def __init__(self, module: Callable[..., Any], device: torch.device, signature: Signature | None) -> None:
        """Take a loaded model.

        Args:
            module: what is called.
            device: where tensors go before.
            signature: what the model's runtime knows of it; None: its arguments.
        """
        self.module = module
        self.signature = signature or Signature(arguments_of(module))
        self.dtype = _float_dtype(module)
        """Of its weights, to which floats are cast."""
        self.device = device
        self._is_gpu = device.type == "cuda"
        self._direct = direct_of(module, self.signature)
        names = self._direct.name if self._direct is not None else ""
        known = self.signature.dtype_of(names)
        self._direct_dtype = None if known is None else getattr(torch, known)

    def takes(self, x: Any) -> bool:
        """Say whether `call_direct` does for an array or a tensor."""
        return self._direct is not None and self._direct.takes(x)

    def takes_named(self, x: Any) -> bool:
        """Say whether `call_direct` does for the one array among inputs by name."""
        direct = self._direct
        return direct is not None and len(x) == 1 and direct.name in x and direct.takes(x[direct.name])

    def call_direct(self, x: Any, *, is_made: bool) -> Any:
        """Call a model that takes one tensor with what `takes` says it does.

        Args:
            x: an array, or a tensor.
            is_made: whether a preprocess hook made it, and not the caller.

        Raises:
            InvalidInput: an operator of the model does not take it after all; BadInput, if a hook made it.
        """
        assert self._direct is not None  # as `takes` has said
        made: Any = None
        try:
            made = self._direct_tensor(x)
            return self._direct.run(made)
        except Exception as error:
            words = operator_words(error, is_open=self.signature.is_open)
            if words is None or made is None:
                raise
            what = described({self._direct.name: made})
            if is_made:
                raise BadInput(f"{_PREPROCESS} returned {what}, which the model cannot take: {words}") from error
            raise InvalidInput(f"this model cannot take {what}: {words}") from error

    def _direct_tensor(self, x: Any) -> torch.Tensor:
        if isinstance(x, torch.Tensor):
            return x.to(self.device)
        flags = x.flags
        if not (flags.c_contiguous and flags.writeable):
            x = np.require(x, requirements=["C", "W"])
        tensor = torch.from_numpy(x)
        dtype = self._direct_dtype or (self.dtype if tensor.is_floating_point() else tensor.dtype)
        return self._placed(tensor, dtype)

    def named(self, x: Any, kind: str) -> dict[str, Array]:
        """Return a Seldon payload by the names of the model's inputs.

        Raises:
            InvalidInput: the model takes something else; the text says what.
        """
        known = self.signature
        if isinstance(x, dict) and known.arguments is not None:
            return known.bind({name: known.integers(name, _numbers(value, kind)) for name, value in x.items()})
        return known.bind_one(_numbers(x, kind))

    def check_tags(self, tags: Mapping[str, Any]) -> None:
        """Check tags that are to become arguments.

        Raises:
            InvalidInput: one is none of the model's.
        """
        strange = self.signature.strange_tags(tags)
        if strange:
            raise InvalidInput(
                f"the tags {strange} are no arguments of this model, which gets all tags where there are several "
                "beside 'model': send one at most"
            )

    def call(self, given: Mapping[str, Array], tags: Mapping[str, Any]) -> Any:
        """Call the model with what `bind` returned of a request.

        Raises:
            InvalidInput: an operator of the model does not take these tensors.
        """
        values = {name: self._input(name, array) for name, array in given.items()}
        try:
            return self.signature.call(self.module, values, tags)
        except Exception as error:
            words = operator_words(error, is_open=self.signature.is_open)
            if words is None:
                raise
            raise InvalidInput(f"this model cannot take {described(values)}: {words}") from error

    def call_made(self, x: Any, tags: Mapping[str, Any], *, is_named: bool) -> Any:
        """Call the model with what a preprocess hook made.

        Args:
            x: tensors go to the device, arrays become tensors, anything else is passed on as it is.
            tags: further arguments.
            is_named: whether a dict may be the model's inputs by name.

        Raises:
            BadInput: the model does not take it.
        """
        known = self.signature
        if is_named and isinstance(x, dict) and known.names(x):
            values = x
        else:
            name = known.only_name() if isinstance(x, torch.Tensor | np.ndarray) else None
            values = {} if name is None else {name: x}
        made = {name: self._made(name, value) for name, value in values.items()} or {"x": self._made("", x)}
        try:
            known.check({name: _like(value) for name, value in made.items() if isinstance(value, torch.Tensor)})
            return known.call(self.module, made, tags) if values else self.module(made["x"], **tags)
        except InvalidInput as error:
            raise BadInput(f"{_PREPROCESS} returned {described(made)}: {error.text}") from error
        except Exception as error:
            words = operator_words(error, is_open=self.signature.is_open)
            if words is None:
                raise
            raise BadInput(f"{_PREPROCESS} returned {described(made)}, which the model cannot take: {words}") from error

    def _input(self, name: str, array: Array) -> Any:
        if array.dtype.kind == "O":
            raise InvalidInput(f"input {name!r} holds bytes: this model takes numbers")
        form = self.signature.plain_form(name)
        return self._tensor(name, array) if form is None else plain_number(name, array, form)

    def _made(self, name: str, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(self.device)
        if not isinstance(value, np.ndarray):
            return value
        if value.dtype.kind not in "biufc":
            raise BadInput(f"{_PREPROCESS} returned an array of {_word(value.dtype)}: no tensor can hold it")
        return self._tensor(name, value)

    def _tensor(self, name: str, array: Array) -> torch.Tensor:
        """Return a tensor on the device in the type that the model takes, or, of floats, that its weights have."""
        tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
        known = self.signature.dtype_of(name)
        dtype = (
            getattr(torch, known) if known is not None else self.dtype if tensor.is_floating_point() else tensor.dtype
        )
        return self._placed(tensor, dtype)

    def _placed(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if not self._is_gpu:
            return tensor.to(self.device, dtype)
        # From pinned memory a GPU takes it by itself, while Python goes on to the next input; torch keeps the pinned
        # memory for that long, and for the next time.
        return tensor.to(dtype).pin_memory().to(self.device, non_blocking=True)


def _like(tensor: torch.Tensor) -> Array:
    """Return an array of a tensor's type and shape that takes no memory; float32 for numpy's missing floats."""
    name = str(tensor.dtype).removeprefix("torch.")
    dtype = np.dtype(np.float32) if name.startswith(("bfloat", "float8")) else np.dtype(name)
    return np.broadcast_to(np.zeros((), dtype), tuple(tensor.shape))


def _numbers(x: Any, kind: str) -> Array:
    if isinstance(x, list | float | int):  # of jsonData
        try:
            x = np.array(x)
        except ValueError:
            raise InvalidInput("jsonData is ragged: its lists differ in length") from None
    if not isinstance(x, np.ndarray):
        raise InvalidInput(f"this model takes arrays of numbers: send data instead of {kind}")
    if x.dtype.kind not in "biufc":
        raise InvalidInput(f"this model takes arrays of numbers, not of {_word(x.dtype)}")
    return x


def _word(dtype: np.dtype[Any]) -> str:
    return {"U": "strings", "S": "byte strings", "O": "mixed values"}.get(dtype.kind, str(dtype))


def _float_dtype(module: Callable[..., Any]) -> torch.dtype:
    if isinstance(module, torch.nn.Module):
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype
    return torch.get_default_dtype()
