"""What callers may know of a version, for `serve`, which compares it with the version that answers them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dl_inference.codec.tensor_proto import type_name
from dl_inference.serving.report import Tensor
from tf_predict.predict import CLASSIFY, DEFAULT_SIGNATURE, REGRESS

_OF_EXAMPLES = {CLASSIFY: "Classify", REGRESS: "Regress"}


def inputs_of(signatures: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Return the inputs of every signature; those with a default may be left out."""
    return tuple(
        _tensor(alias, signature.inputs[alias], way, is_optional=alias in signature.defaults)
        for way, signature in _ways(signatures)
        for alias in sorted(signature.inputs)
    )


def outputs_of(signatures: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Return the outputs of every signature."""
    return tuple(
        _tensor(alias, signature.outputs[alias], way)
        for way, signature in _ways(signatures)
        for alias in sorted(signature.outputs)
    )


def _ways(signatures: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every way to call a model: each signature by Predict, and some by the method for examples, too."""
    for name, signature in sorted(signatures.items()):
        yield name, signature
        if signature.method_name in _OF_EXAMPLES:
            yield f"{name} of {_OF_EXAMPLES[signature.method_name]}", signature


def _tensor(alias: str, info: Any, way: str, *, is_optional: bool = False) -> Tensor:
    sizes = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
    name = alias if way == DEFAULT_SIGNATURE else f"{alias} of signature {way}"
    return Tensor(name=name, dtype=type_name(info.dtype), shape=sizes, is_optional=is_optional, way=way)
