"""One call for `dl-inference call`, and what may help when it fails."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from dl_inference import messages

PATHS = {
    "seldon": "/seldon.protos.Seldon/Predict",
    "tfs": "/tensorflow.serving.PredictionService/Predict",
    "oip": "/inference.GRPCInferenceService/ModelInfer",
}
_ANSWERS: dict[str, Any] = {
    "seldon": messages.SeldonMessage,
    "tfs": messages.PredictResponse,
    "oip": messages.ModelInferResponse,
}

# What to do about a failed call: by the trailer `access-error`, else by the code.
_REMEDIES = {
    "no_route": "`dl-inference status` lists the models that the access service knows",
    "bad_route_key": "send the model's name: the metadata `x-model` always works",
    "unknown_method": "the server at this address does not speak this protocol: try another --protocol",
    "no_endpoints": "no endpoint of the model is live: `dl-inference status` shows which are down",
    "connect_failed": "no endpoint took the connection: `dl-inference status` shows which are down",
    "shed": "too many calls in flight: try again later, or raise max_in_flight",
    "deadline_exceeded": "raise --timeout-ms here or timeout_ms in access.yaml, or find out why the model is slow",
    "message_too_large": "send less at once, or raise limits.max_message_bytes",
    "hook": "the model's own code failed: its server's log has the traceback under the request id",
    "UNAVAILABLE": "is the server running at this address? --to HOST:PORT",
    "UNIMPLEMENTED": "the server at this address does not speak this protocol: try another --protocol",
    "DEADLINE_EXCEEDED": "raise --timeout-ms, or find out why the model is slow",
    "INVALID_ARGUMENT": "the model does not take this input",
    "NOT_FOUND": "check the model's name and version",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        message: the answer.
        took_ms: from sending to the whole answer, the connection included.
        trailers: the call's trailing metadata; texts only.
    """

    message: Message
    took_ms: float
    trailers: Mapping[str, str]


class CallError(Exception):
    """A call that failed.

    Attributes:
        code: the gRPC code's name.
        kind: the access service's word for it (trailer `access-error`); empty from any other server.
        details: the server's text.
        trailers: the call's trailing metadata; texts only.
    """

    def __init__(self, code: str, details: str, trailers: Mapping[str, str]) -> None:
        super().__init__(f"{code}: {details}")
        self.code, self.details, self.trailers = code, details, trailers
        self.kind = trailers.get("access-error", "")

    @property
    def remedy(self) -> str:
        """Return what may help; empty when nothing is known to."""
        return _REMEDIES.get(self.kind) or _REMEDIES.get(self.code, "")


def call(address: str, protocol: str, request: Message, timeout_ms: int) -> Answer:
    """Make one call on a connection of its own.

    Raises:
        CallError: it failed, here or there.
    """
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    # gRPC would send even what is for 127.0.0.1 to a web proxy of the environment (http_proxy).
    options.append(("grpc.enable_http_proxy", 0))
    with grpc.insecure_channel(address, options=options) as channel:
        method = channel.unary_unary(
            PATHS[protocol],
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_ANSWERS[protocol].FromString,
        )
        begin = time.perf_counter()
        try:
            message, rpc = method.with_call(request, timeout=timeout_ms / 1000)
        except grpc.RpcError as error:
            # grpc's stubs do not say it: what a call raises is the call itself too.
            failed: Any = error
            raise CallError(failed.code().name, failed.details() or "", _texts(failed.trailing_metadata())) from error
        took_ms = (time.perf_counter() - begin) * 1000
        return Answer(message, took_ms, _texts(rpc.trailing_metadata()))


def _texts(metadata: Any) -> dict[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}
