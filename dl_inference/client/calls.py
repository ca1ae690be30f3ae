"""The calls that both clients make: each is a path, a request and what is made of the answer."""

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import numpy.typing as npt
from google.protobuf.message import DecodeError

from dl_inference import messages
from dl_inference.client.prediction import Answer, Prediction
from dl_inference.codec import oip, packed, seldon, tfs
from dl_inference.codec.dtypes import Array
from dl_inference.codec.errors import BadTensorError, InputError

T_co = TypeVar("T_co", covariant=True)
HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = 1

_SERVICE = "/com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService/"
DL_INFERENCE = {
    tfs.PREDICT: _SERVICE + "Predict",
    seldon.PREDICT: _SERVICE + "PytorchPredict",
    oip.INFER: _SERVICE + "TisPredict",
}
"""path -> the one of dl_inference's own service that answers the same message."""


P = ParamSpec("P")


def _raises_input_error(make: Callable[P, "Call[T_co]"]) -> Callable[P, "Call[T_co]"]:
    """Make every failure with a caller's values an InputError: their own code runs in it, and protobuf's checks."""

    @functools.wraps(make)
    def checked(*args: P.args, **kwargs: P.kwargs) -> "Call[T_co]":
        try:
            return make(*args, **kwargs)
        except InputError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise InputError(f"the input has no form in the protocol: {what}") from error

    return checked


class Refused(NamedTuple):
    """The error of one message of a stream: its text, and the parameters of its answer."""

    message: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """One call, before it is made.

    Attributes:
        path: the method's.
        request: the message's bytes.
        read: makes the result of the answer's bytes and of how the call went. Raises BadTensorError, DecodeError.
        model: for the metadata `x-model`, where the request itself names no model.
        version: for the metadata `x-model-version`, where the request has no place for it.
    """

    path: str
    request: bytes
    read: Callable[[bytes, dict[str, Any]], T_co]
    model: str | None = None
    version: str = ""


@_raises_input_error
def predict_tfs(model: str, inputs: Mapping[str, npt.ArrayLike], **fields: Any) -> Call[Prediction]:
    """Return the call of `tfs.request`."""
    request = tfs.request(model, inputs, **fields)
    return Call(tfs.PREDICT, request.SerializeToString(), functools.partial(_read_tfs, model))


@_raises_input_error
def predict_seldon(
    model: str, value: Any, *, version: str | int, tags: Mapping[str, Any] | None, **fields: Any
) -> Call[Prediction]:
    """Return the call of `seldon.request`.

    Raises:
        InputError: there is no form for an input, or the version is not an ASCII text.
    """
    asked = str(version)
    if not (asked.isascii() and asked.isprintable()):
        raise InputError(f"version {asked!r}: give a number or a label of printable ASCII, as metadata holds no other")
    # Metadata is ASCII. It is preferred, as the message then holds what the caller put there and nothing else.
    as_metadata = model.isascii() and model.isprintable()
    request = seldon.request(value, tags=tags if as_metadata else {"model": model, **(tags or {})}, **fields)
    read = functools.partial(_read_seldon, model)
    return Call(seldon.PREDICT, request.SerializeToString(), read, model if as_metadata else None, asked)


@_raises_input_error
def predict_oip(model: str, inputs: Mapping[str, npt.ArrayLike], **fields: Any) -> Call[Prediction]:
    """Return the call of `oip.request`."""
    request = oip.request(model, inputs, **fields)
    return Call(oip.INFER, request.SerializeToString(), functools.partial(_read_oip, model))


@_raises_input_error
def streamed_oip(
    model: str, inputs: Mapping[str, npt.ArrayLike], message_id: str, **fields: Any
) -> Call[Prediction | Refused]:
    """Return the call of one message of a stream; it is answered with a Prediction or with its error's text."""
    request = oip.request(model, inputs, **fields)
    request.id = message_id
    return Call(oip.STREAM, request.SerializeToString(), functools.partial(_read_streamed, model, message_id))


@_raises_input_error
def signatures_tfs(model: str, version: int | None, label: str | None) -> Call[dict[str, tfs.Signature]]:
    """Return the call for a model's signatures."""
    request: Any = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    tfs.fill_spec(request.model_spec, model, version, label)
    return _call(tfs.METADATA, request, messages.GetModelMetadataResponse, tfs.signatures_of)


@_raises_input_error
def status_tfs(model: str, version: int | None) -> Call[dict[int, str]]:
    """Return the call for the states of a model's versions."""
    request: Any = messages.GetModelStatusRequest()
    tfs.fill_spec(request.model_spec, model, version, None)
    return _call(tfs.STATUS, request, messages.GetModelStatusResponse, tfs.states_of)


@_raises_input_error
def metadata_oip(model: str, version: str | int) -> Call[oip.ModelMetadata]:
    """Return the call for a model's inputs and outputs."""
    request = messages.ModelMetadataRequest(name=model, version=str(version))
    return _call(oip.METADATA, request, messages.ModelMetadataResponse, oip.metadata_of)


@_raises_input_error
def ready_oip(model: str, version: str | int) -> Call[bool]:
    """Return the call for whether a model is ready."""
    request = messages.ModelReadyRequest(name=model, version=str(version))
    return _call(oip.READY, request, messages.ModelReadyResponse, lambda message: bool(message.ready))


@_raises_input_error
def is_serving(service: str) -> Call[bool]:
    """Return the call of gRPC's health protocol."""
    request = messages.HealthCheckRequest(service=service)
    return _call(HEALTH, request, messages.HealthCheckResponse, lambda message: message.status == _SERVING)


def send(path: str, request: Any, answer: Any, model: str | None) -> Call[Answer[Any]]:
    """Return the call of any method."""
    read = lambda data, reply: Answer(**reply, message=answer.FromString(data))  # noqa: E731  (needs two arguments)
    return Call(path, request.SerializeToString(), read, model)


def _call(path: str, request: Any, answer: Any, read: Callable[[Any], T_co]) -> Call[T_co]:
    return Call(path, request.SerializeToString(), lambda data, reply: read(answer.FromString(data)))


def _parsed(message_class: Any, data: bytes) -> Any:
    """Return a prediction's message.

    Raises:
        BadTensorError: it is empty. No server of the protocols answers so, but dl_inference's first access service
            did, to a call that had failed.
        DecodeError: it does not parse.
    """
    if not data:
        raise BadTensorError("the answer is empty")
    return message_class.FromString(data)


def _read_tfs(model: str, data: bytes, reply: dict[str, Any]) -> Prediction:
    """Return what a PredictResponse says."""
    message = _parsed(packed.PredictResponse, data)
    outputs, spec = tfs.outputs_of(message), message.model_spec
    return Prediction(
        **reply,
        outputs=outputs,
        value=_only(outputs),
        meta={"signature_name": spec.signature_name} if spec.signature_name else {},
        model=spec.name or model,
        version=str(spec.version.value) if spec.HasField("version") else None,
    )


def _read_seldon(model: str, data: bytes, reply: dict[str, Any]) -> Prediction:
    """Return what a SeldonMessage says."""
    message = _parsed(packed.SeldonMessage, data)
    value, has_array = seldon.value_of(message), message.HasField("data")
    meta = seldon.meta_of(message) if message.HasField("meta") else {}
    return Prediction(
        **reply,
        outputs={"data": value} if has_array else {},
        value=value,
        names=tuple(message.data.names) if has_array else (),
        tags=meta.get("tags", {}),
        meta=meta,
        model=model,
    )


def _read_oip(model: str, data: bytes, reply: dict[str, Any]) -> Prediction:
    """Return what a ModelInferResponse says."""
    return _oip_prediction(model, _parsed(packed.ModelInferResponse, data), reply)


def _read_streamed(model: str, message_id: str, data: bytes, reply: dict[str, Any]) -> Prediction | Refused:
    """Return what one message of a stream was answered with: in Triton's envelope, or without it as from MLServer."""
    if not data:
        raise BadTensorError("the answer is empty")
    try:
        wrapped: Any = packed.ModelStreamInferResponse.FromString(data)
        error, message = wrapped.error_message, wrapped.infer_response
    except DecodeError:
        error, message = "", None
    if message is None or not message.id:  # older Tritons leave the id out of errors
        with contextlib.suppress(DecodeError):
            plain: Any = packed.ModelInferResponse.FromString(data)
            if plain.id:  # of the stream's first message, whichever this answers
                return _oip_prediction(model, plain, reply)
    if message is None:
        raise BadTensorError("it is no ModelStreamInferResponse")
    if message.id not in (message_id, ""):
        raise BadTensorError(f"it answers the message {message.id!r} in place of {message_id!r}")
    if error:
        return Refused(error, oip.parameters_of(message))
    return _oip_prediction(model, message, reply)


def _oip_prediction(model: str, message: Any, reply: dict[str, Any]) -> Prediction:
    outputs = oip.outputs_of(message)
    return Prediction(
        **reply,
        outputs=outputs,
        value=_only(outputs),
        meta=oip.parameters_of(message),
        model=message.model_name or model,
        version=message.model_version or None,
    )


def _only(outputs: dict[str, Array]) -> Array | None:
    return next(iter(outputs.values())) if len(outputs) == 1 else None
