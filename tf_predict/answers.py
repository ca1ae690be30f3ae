"""One function for each method: the model that the request asks for, then the answer."""

from __future__ import annotations

from typing import Any

import grpc

from dl_inference.messages import GetModelMetadataResponse, GetModelStatusResponse, ModelSpec, SignatureDefMap
from tf_predict import examples
from tf_predict import predict as predictions
from tf_predict.errors import RequestError, invalid_argument
from tf_predict.versions import Versions

SIGNATURES = "signature_def"
"""The only metadata field that TF Serving knows."""


def predict(versions: Versions, request: Any) -> Any:
    """Answer a PredictRequest."""
    _check_spec(request)
    with versions.lease(request.model_spec) as (servable, number):
        return predictions.predict(servable, number, request)


def classify(versions: Versions, request: Any) -> Any:
    """Answer a ClassificationRequest."""
    _check_spec(request)
    with versions.lease(request.model_spec) as (servable, number):
        return examples.classify(servable, number, request)


def regress(versions: Versions, request: Any) -> Any:
    """Answer a RegressionRequest."""
    _check_spec(request)
    with versions.lease(request.model_spec) as (servable, number):
        return examples.regress(servable, number, request)


def multi_inference(versions: Versions, request: Any) -> Any:
    """Answer a MultiInferenceRequest; its first task says which model."""
    with versions.lease(request.tasks[0].model_spec if request.tasks else ModelSpec()) as (servable, number):
        return examples.multi_inference(servable, number, request)


def metadata(versions: Versions, request: Any) -> Any:
    """Answer a GetModelMetadataRequest with the signatures as they are in the SavedModel."""
    _check_spec(request)
    if not request.metadata_field:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURES:
            raise invalid_argument(f"Metadata field {field} is not supported")
    answer: Any = GetModelMetadataResponse()
    signatures: Any = SignatureDefMap()
    with versions.lease(request.model_spec) as (servable, number):
        for name, signature in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
    answer.model_spec.name = request.model_spec.name
    answer.model_spec.version.value = number
    answer.metadata[SIGNATURES].Pack(signatures)
    return answer


def status(versions: Versions, request: Any) -> Any:
    """Answer a GetModelStatusRequest; a label is not looked at, as in TF Serving."""
    _check_spec(request)
    answer: Any = GetModelStatusResponse()
    for each in versions.statuses(request.model_spec):
        added = answer.model_version_status.add(version=each.version, state=int(each.state))
        added.status.error_code = each.code
        added.status.error_message = each.text
    return answer


def reload_config(versions: Versions, request: Any) -> Any:
    """Refuse a ReloadConfigRequest."""
    raise RequestError(
        grpc.StatusCode.UNIMPLEMENTED,
        f"this server serves the one model folder of {versions.names[0]}: change its versions or model.yaml instead",
    )


def _check_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
