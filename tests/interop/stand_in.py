"""An endpoint of every protocol on grpcio's server and our messages, in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import any_pb2

from dl_inference import messages

BROKEN = 'Serving signature key "broken" not found.'


class StandIn:
    """Answers Predict with twice the input (`y` for `x`), and everything else with what it got."""

    def __init__(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        for service, methods in SERVICES.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait(10)


def _predict(request: Any, context: grpc.ServicerContext) -> Any:
    if request.model_spec.name == "broken":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, BROKEN)
    answer = messages.PredictResponse(model_spec=request.model_spec)
    answer.outputs["y"].CopyFrom(request.inputs["x"])
    answer.outputs["y"].float_val[:] = [2 * value for value in request.inputs["x"].float_val]
    return answer


def _metadata(request: Any, context: grpc.ServicerContext) -> Any:
    signatures = messages.SignatureDefMap()
    signatures.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    packed = any_pb2.Any(
        type_url=f"type.googleapis.com/{signatures.DESCRIPTOR.full_name}", value=signatures.SerializeToString()
    )
    answer = messages.GetModelMetadataResponse(model_spec=request.model_spec)
    answer.metadata["signature_def"].ParseFromString(packed.SerializeToString())
    return answer


def _echo(request: Any, context: grpc.ServicerContext) -> Any:
    return request


def _infer(request: Any, context: grpc.ServicerContext) -> Any:
    answer = messages.ModelInferResponse(model_name=request.model_name, id=request.id)
    answer.raw_output_contents.extend(request.raw_input_contents)
    return answer


def _stream(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    for request in requests:
        yield messages.ModelStreamInferResponse(infer_response=_infer(request, context))


def _unary(function: Callable[[Any, grpc.ServicerContext], Any], request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(function, request.FromString, lambda answer: answer.SerializeToString())


SERVICES = {
    "tensorflow.serving.PredictionService": {
        "Predict": _unary(_predict, messages.PredictRequest),
        "GetModelMetadata": _unary(_metadata, messages.GetModelMetadataRequest),
    },
    "seldon.protos.Model": {"Predict": _unary(_echo, messages.SeldonMessage)},
    "seldon.protos.Seldon": {"Predict": _unary(_echo, messages.SeldonMessage)},
    "inference.GRPCInferenceService": {
        "ModelInfer": _unary(_infer, messages.ModelInferRequest),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
            _stream, messages.ModelInferRequest.FromString, lambda answer: answer.SerializeToString()
        ),
    },
}
