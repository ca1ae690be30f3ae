"""The Open Inference Protocol (Triton, MLServer, KServe): requests from arrays, results from answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from dl_inference.codec import dtypes, packed
from dl_inference.codec.dtypes import Array, DType
from dl_inference.codec.errors import BadTensorError, InputError
from dl_inference.codec.tfs import TensorSpec, named

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
METADATA = "/inference.GRPCInferenceService/ModelMetadata"
READY = "/inference.GRPCInferenceService/ModelReady"
_BY_OIP = {dtype.oip: dtype for dtype in dtypes.DTYPES if dtype.oip}
# Each element of a raw BYTES tensor is its length, 4 bytes little-endian, and the bytes.
_LENGTH_BYTES = 4

Parameter = bool | int | float | str


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """The description of a model that a server of the Open Inference Protocol returns.

    Attributes:
        name: name of the model.
        versions: the versions that the server has; empty where it does not say.
        platform: the server's name for the model's format, such as ``pytorch_exported``.
        inputs: type and shape of each input, by name.
        outputs: type and shape of each output, by name.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


def request(
    model: str,
    inputs: Mapping[str, npt.ArrayLike],
    *,
    version: str | int = "",
    outputs: Sequence[str] = (),
    parameters: Mapping[str, Parameter] | None = None,
) -> Any:
    """Return a ModelInferRequest with raw contents.

    Raises:
        InputError: no mapping, or one that the protocol has no type for; a parameter of another type than its own.
    """
    message = packed.ModelInferRequest(model_name=model, model_version=str(version))
    for name, array in named(inputs).items():
        is_text = array.dtype.kind in dtypes.TEXT_KINDS
        datatype = "BYTES" if is_text else dtypes.dtype_of(array, name, oip=True).oip
        message.inputs.add(name=name, datatype=datatype, shape=array.shape)
        message.raw_input_contents.append(_join(dtypes.to_texts(array)) if is_text else dtypes.to_bytes(array))
    for name in outputs:
        message.outputs.add(name=name)
    for name, value in (parameters or {}).items():
        _set_parameter(message.parameters[name], name, value)
    return message


def _join(texts: list[bytes]) -> bytes:
    return b"".join(len(text).to_bytes(_LENGTH_BYTES, "little") + text for text in texts)


def _set_parameter(message: Any, name: str, value: Parameter) -> None:
    if isinstance(value, bool):
        message.bool_param = value
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise InputError(f"parameter {name}: {value} has more than 64 bits")
        message.int64_param = value
    elif isinstance(value, float):
        message.double_param = value
    elif isinstance(value, str):
        message.string_param = value
    else:
        raise InputError(f"parameter {name}: bool, int, float or str, not {type(value).__name__}")


def outputs_of(message: Any) -> dict[str, Array]:
    """Return a ModelInferResponse's arrays in its order, from raw or typed contents.

    Args:
        message: a ModelInferResponse of any package.

    Returns:
        Writable arrays that own their memory; BYTES are object arrays of bytes.

    Raises:
        BadTensorError: a type that the protocol does not have, values that do not fit the shape, a name twice, or
            raw contents for some outputs only.
    """
    answer = packed.packed(message, packed.ModelInferResponse)
    raw = answer.raw_output_contents
    if raw and len(raw) != len(answer.outputs):
        raise BadTensorError(f"{len(answer.outputs)} outputs, but raw contents of {len(raw)}")
    arrays: dict[str, Array] = {}
    for index, output in enumerate(answer.outputs):
        if output.name in arrays:
            raise BadTensorError(f"two outputs have the name {output.name!r}")
        try:
            arrays[output.name] = _raw(output, raw[index]) if raw else _typed(output)
        except BadTensorError as error:
            raise BadTensorError(f"output {output.name!r}: {error}") from error
    return arrays


def _dtype(output: Any) -> DType:
    dtype = _BY_OIP.get(output.datatype)
    if dtype is None:
        raise BadTensorError(f"{output.datatype!r} is not a datatype of the protocol")
    return dtype


def _raw(output: Any, data: bytes) -> Array:
    if output.datatype == "BYTES":
        return dtypes.from_texts(list(_split(data)), tuple(output.shape))
    return dtypes.from_bytes(data, _dtype(output), tuple(output.shape))


def _split(data: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(data[position:start], "little")
        if start > len(data) or position > len(data):
            raise BadTensorError(f"the last of the texts in {len(data)} bytes is cut off")
        yield data[start:position]


def _typed(output: Any) -> Array:
    if output.datatype == "BYTES":
        return dtypes.from_texts(list(output.contents.bytes_contents), tuple(output.shape))
    dtype = _dtype(output)
    count = dtypes.count_of(tuple(output.shape))
    if not dtype.oip_field:
        raise BadTensorError(f"{output.datatype} without raw contents")
    found = packed.numbers(output.contents, dtype.oip_field, dtype.wire, count)
    if len(found) != count:
        raise BadTensorError(f"shape {list(tuple(output.shape))} takes {count} values, {len(found)} were sent")
    return dtypes.from_storage(dtypes.as_storage(found, dtype), dtype, tuple(output.shape))


def parameters_of(message: Any) -> dict[str, Parameter]:
    """Return an answer's parameters."""
    chosen = ((name, value, value.WhichOneof("parameter_choice")) for name, value in message.parameters.items())
    return {name: getattr(value, which) for name, value, which in sorted(chosen, key=lambda each: each[0]) if which}


def metadata_of(message: Any) -> ModelMetadata:
    """Return what a ModelMetadataResponse says."""
    return ModelMetadata(
        message.name, tuple(message.versions), message.platform, _specs(message.inputs), _specs(message.outputs)
    )


def _specs(tensors: Any) -> dict[str, TensorSpec]:
    return {each.name: TensorSpec(each.name, numpy_name(each.datatype), tuple(each.shape)) for each in tensors}


def numpy_name(datatype: str) -> str:
    """Return numpy's name of a datatype; the protocol's own where numpy has none."""
    if datatype == "BYTES":
        return "bytes"
    return _BY_OIP[datatype].name if datatype in _BY_OIP else datatype
