"""The messages of a call in the JSON that each protocol has over HTTP, and back; knows no network."""

import base64
import json
from typing import Any

import numpy as np
from google.protobuf import json_format

from dl_inference import messages
from dl_inference.codec import dtypes, oip
from dl_inference.codec.dtypes import Array
from dl_inference.codec.tensor_proto import from_tensor_proto, to_tensor_proto
from dl_inference.codec.tfs import TensorSpec

# Types whose elements JSON says exactly; others lie behind the JSON as binary data.
_IN_JSON = {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"}
_SIZE = "binary_data_size"


def from_infer(request: Any) -> tuple[bytes, int]:
    """Return the body of a ModelInferRequest, and the length of its JSON.

    The answer is asked for as binary data: JSON has no infinities, and no bytes that are not text.
    """
    inputs, binary = [], b""
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        entry = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        data = _elements(tensor, raw)
        if data is None:
            entry["parameters"] = {_SIZE: len(raw)}
            binary += raw
        else:
            entry["data"] = data
        inputs.append(entry)
    document = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return document + binary, len(document)


def _elements(tensor: Any, raw: bytes) -> list[Any] | None:
    if tensor.datatype not in _IN_JSON and tensor.datatype != "BYTES":
        return None
    output = messages.ModelInferResponse(raw_output_contents=[raw])
    output.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    array = oip.outputs_of(output)[tensor.name].reshape(-1)
    try:
        return [item.decode() if isinstance(item, bytes) else item for item in array.tolist()]
    except UnicodeDecodeError:
        return None


def to_infer(body: bytes, length: int | None) -> Any:
    """Return a ModelInferResponse. `length`: of the JSON, None: all of it.

    Raises:
        ValueError: not an answer of the protocol.
    """
    length = len(body) if length is None else length
    document, binary = json.loads(body[:length]), body[length:]
    names = {"model_name": document.get("model_name", ""), "model_version": document.get("model_version", "")}
    response: Any = messages.ModelInferResponse(id=document.get("id", ""), **names)
    for output in document["outputs"]:
        response.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        size = (output.get("parameters") or {}).get(_SIZE)
        if size is None:
            response.raw_output_contents.append(_raw(output["name"], output["datatype"], output["data"]))
        else:
            response.raw_output_contents.append(binary[:size])
            binary = binary[size:]
    return response


def _raw(name: str, datatype: str, data: list[Any]) -> bytes:
    dtype = None if datatype == "BYTES" else oip.numpy_name(datatype)
    array = _array(data, dtype)
    request = oip.request("", {name: array.reshape(-1)})
    raw: bytes = request.raw_input_contents[0]
    return raw


def _array(data: Any, dtype: str | None) -> Array:
    """Return values of JSON as an array; null is NaN."""
    if dtype is None:
        return np.asarray(data, dtype=object)
    return np.asarray(data, dtype=object).astype(dtype)


def from_predict(request: Any) -> bytes:
    """Return the body of a PredictRequest: columns of JSON."""
    inputs = {name: _columns(from_tensor_proto(tensor)) for name, tensor in request.inputs.items()}
    document: dict[str, Any] = {"inputs": inputs}
    if request.model_spec.signature_name:
        document["signature_name"] = request.model_spec.signature_name
    return json.dumps(document).encode()


def _columns(array: Array) -> Any:
    if array.dtype.kind not in dtypes.TEXT_KINDS:
        return array.astype(np.float32).tolist() if array.dtype.name == "bfloat16" else array.tolist()
    texts = np.empty(array.size, object)
    texts[:] = [{"b64": base64.b64encode(item).decode()} for item in dtypes.to_texts(array)]
    return texts.reshape(array.shape).tolist()


def to_predict(body: bytes, specs: dict[str, TensorSpec]) -> Any:
    """Return a PredictResponse, with the types that the model has told, else float32 and int64.

    Raises:
        ValueError: not an answer of the protocol.
    """
    found = json.loads(body)["outputs"]
    if not isinstance(found, dict) or found.keys() == {"b64"}:
        # The only output has no name in JSON.
        found = {next(iter(specs), "outputs"): found}
    response: Any = messages.PredictResponse()
    for name, value in found.items():
        dtype = specs[name].dtype if name in specs else None
        to_tensor_proto(_typed(value, dtype), response.outputs[name], name)
    return response


def _typed(value: Any, dtype: str | None) -> Array:
    array = dtypes.as_array(_bytes(value), "answer")
    if array.dtype.kind in dtypes.TEXT_KINDS:
        return array
    if dtype in np.sctypeDict and dtype != "bytes":
        return array.astype(dtype)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value.encode() if isinstance(value, str) else value


def from_seldon(request: Any) -> bytes:
    """Return the body of a SeldonMessage."""
    document = json_format.MessageToDict(request)
    if request.data.tensor.shape:
        # Protobuf's JSON has quotes around NaN.
        document["data"]["tensor"]["values"] = list(request.data.tensor.values)
    return json.dumps(document).encode()


def to_message(body: bytes, message: Any) -> Any:
    """Fill a message from protobuf's JSON.

    Raises:
        ValueError: it does not fit.
    """
    try:
        return json_format.ParseDict(json.loads(body), message, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error
