"""Predict: a request's tensors through one signature. Checks and texts in TF Serving's order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
import numpy as np

from dl_inference.messages import PredictResponse
from tf_predict.codec import encode
from tf_predict.errors import RequestError, failed_precondition, invalid_argument
from tf_predict.servable import Servable

DEFAULT_SIGNATURE = "serving_default"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
PREDICT = "tensorflow/serving/predict"


def predict(servable: Servable, version: int, request: Any) -> Any:
    """Answer a PredictRequest.

    Args:
        servable: the model.
        version: its number, for the answer's model_spec.
        request: tensorflow.serving.PredictRequest.

    Raises:
        RequestError: the request does not fit the signature, or the model failed on it.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    if signature.method_name not in (PREDICT, CLASSIFY, REGRESS):
        raise RequestError(
            grpc.StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{PREDICT}, {CLASSIFY}, {REGRESS}}}. "
            f"Was: {signature.method_name}",
        )
    _check_size(signature, request.inputs)
    feeds = _feeds(servable, signature, request.inputs)
    aliases = _outputs(signature, request.output_filter)
    outputs = servable.run(feeds, [signature.outputs[alias].name for alias in aliases])
    answer: Any = PredictResponse()
    answer.model_spec.CopyFrom(spec_of(request.model_spec, version))
    for alias, (dtype, array) in zip(aliases, outputs, strict=True):
        answer.outputs[alias].CopyFrom(encode(dtype, array))
    return answer


def spec_of(asked: Any, version: int) -> Any:
    """Return an answer's ModelSpec: the name asked for, the signature's name and the version that answered."""
    spec = type(asked)(name=asked.name, signature_name=asked.signature_name or DEFAULT_SIGNATURE)
    spec.version.value = version
    return spec


def _check_size(signature: Any, inputs: Mapping[str, Any]) -> None:
    too_few = len(inputs) < len(signature.inputs) and not signature.defaults
    if len(inputs) > len(signature.inputs) or too_few:
        sent, wanted = set(inputs), set(signature.inputs)
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({_set(sent)}) != "
            f"len({_set(wanted)}). Sent extra: {_set(sent - wanted)}. Missing but required: {_set(wanted - sent)}."
        )


def _feeds(servable: Servable, signature: Any, inputs: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    feeds = {}
    for alias in sorted(signature.inputs):
        feed = signature.inputs[alias].name
        tensor = inputs[alias] if alias in inputs else signature.defaults.get(alias)
        if tensor is None:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {feed}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {_set(inputs)}, or default input alias set: "
                f"{','.join(sorted(signature.defaults))}"
            )
        try:
            feeds[feed] = servable.parse(tensor.SerializeToString(), tensor.dtype)
        except ValueError:
            raise invalid_argument(f"tensor parsing error: {alias}") from None
    used = sorted(set(inputs) & set(signature.inputs))
    if len(used) != len(inputs):
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {','.join(used)}, request input: "
            f"{','.join(sorted(inputs))}"
        )
    return feeds


def _outputs(signature: Any, output_filter: Iterable[str]) -> list[str]:
    """Return the aliases of the outputs wanted: all when none is named."""
    seen: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_set(signature.outputs)}."
            )
        if alias in seen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        seen.append(alias)
    return seen or sorted(signature.outputs)


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
