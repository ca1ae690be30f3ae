"""TensorFlow Serving's protocol: requests from arrays, results from answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from dl_inference import messages
from dl_inference.codec import packed
from dl_inference.codec.dtypes import Array, as_array
from dl_inference.codec.errors import InputError
from dl_inference.codec.tensor_proto import from_tensor_proto, to_tensor_proto, type_name

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The type and shape of one input or output, as the server describes it.

    Attributes:
        name: name of the tensor.
        dtype: numpy's name of its type; ``bytes`` for texts; the protocol's own name where numpy has none.
        shape: one size per dimension, -1 where any size is accepted; None where even the rank is unknown.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of a SavedModel.

    Attributes:
        inputs: type and shape of each input, by name.
        outputs: type and shape of each output, by name.
        method: the signature's method, such as ``tensorflow/serving/predict``.
    """

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    method: str


def request(  # noqa: PLR0913  (the fields of a PredictRequest)
    model: str,
    inputs: Mapping[str, npt.ArrayLike],
    *,
    version: int | None = None,
    label: str | None = None,
    signature: str = "",
    outputs: Sequence[str] = (),
) -> Any:
    """Return a PredictRequest.

    Raises:
        InputError: no mapping, one that TensorFlow has no type for, or both a version and a label.
    """
    message = packed.PredictRequest()
    fill_spec(message.model_spec, model, version, label)
    message.model_spec.signature_name = signature
    for name, array in named(inputs).items():
        to_tensor_proto(array, message.inputs[name], name)
    message.output_filter.extend(outputs)
    return message


def named(inputs: Any) -> dict[str, Array]:
    """Return named inputs as arrays.

    Raises:
        InputError: they have no names, or one is not an array.
    """
    if not isinstance(inputs, Mapping):
        raise InputError(f'this protocol wants named inputs, {{"x": array}}, not {type(inputs).__name__}')
    return {name: as_array(value, name) for name, value in inputs.items()}


def fill_spec(spec: Any, model: str, version: int | None, label: str | None) -> None:
    """Write a ModelSpec.

    Raises:
        InputError: both a version and a label, or a version of more than 64 bits.
    """
    if version is not None and label is not None:
        raise InputError(f"version {version} and label {label!r}: give one of them")
    if version is not None and not -(2**63) <= version < 2**63:
        raise InputError(f"version {version} has more than 64 bits")
    spec.name = model
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label


def outputs_of(message: Any) -> dict[str, Array]:
    """Return a PredictResponse's arrays, in the order of their names.

    Raises:
        BadTensorError: a tensor contradicts itself.
    """
    return {name: from_tensor_proto(message.outputs[name]) for name in sorted(message.outputs)}


def signatures_of(message: Any) -> dict[str, Signature]:
    """Return the signatures of a GetModelMetadataResponse; empty when it holds none."""
    found: Any = messages.SignatureDefMap()
    if "signature_def" in message.metadata:
        message.metadata["signature_def"].Unpack(found)
    return {
        name: Signature(
            {key: _spec(key, info) for key, info in sorted(signature.inputs.items())},
            {key: _spec(key, info) for key, info in sorted(signature.outputs.items())},
            signature.method_name,
        )
        for name, signature in sorted(found.signature_def.items())
    }


def _spec(name: str, info: Any) -> TensorSpec:
    shape = info.tensor_shape
    return TensorSpec(name, type_name(info.dtype), None if shape.unknown_rank else tuple(dim.size for dim in shape.dim))


def states_of(message: Any) -> dict[int, str]:
    """Return the state of each version in a GetModelStatusResponse, such as ``{7: "AVAILABLE"}``."""
    return {each.version: _STATES.get(each.state, str(each.state)) for each in message.model_version_status}
