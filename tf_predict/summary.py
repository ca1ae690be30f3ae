"""What a model folder with SavedModels holds, in words for people; without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dl_inference.messages import DataType
from tf_predict.repository import ModelFolder
from tf_predict.saved_file import signatures


def of(found: ModelFolder) -> dict[str, str]:
    """Return what there is: format, versions, and inputs and outputs of each signature; of the version calls get."""
    parts = {"format": "TensorFlow, SavedModel", "versions": found.versions_text()}
    for name, signature in sorted(signatures(found.chosen()[-1].path).items()):
        if signature.inputs:
            parts[f"inputs of {name}"] = _tensors(signature.inputs)
            parts[f"outputs of {name}"] = _tensors(signature.outputs)
    return parts


def _tensors(tensors: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name} {_dtype(info.dtype)} {_shape(info.tensor_shape)}" for name, info in sorted(tensors.items())
    )


def _dtype(number: int) -> str:
    return str(DataType.Name(number)).removeprefix("DT_").lower()


def _shape(shape: Any) -> str:
    return "of any rank" if shape.unknown_rank else str([dim.size for dim in shape.dim])
