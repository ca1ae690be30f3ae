"""Runs in .peers/tfs: TensorFlow Serving's stubs, as a server that answers (``serve``) or a client (``call``)."""

from __future__ import annotations

import json
import sys
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework.types_pb2 import DT_FLOAT
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.model_spec.signature_name == "broken":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "broken" not found.')
        answer = predict_pb2.PredictResponse(model_spec=request.model_spec)
        answer.model_spec.version.value = 7
        for name, tensor in request.inputs.items():
            answer.outputs[name].CopyFrom(tensor)
        return answer

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        signatures = get_model_metadata_pb2.SignatureDefMap()
        signatures.signature_def["serving_default"].CopyFrom(SignatureDef(method_name="tensorflow/serving/predict"))
        packed = AnyMessage()
        packed.Pack(signatures)
        answer = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=request.model_spec)
        answer.metadata["signature_def"].CopyFrom(packed)
        return answer


class Models(model_service_pb2_grpc.ModelServiceServicer):
    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = get_model_status_pb2.GetModelStatusResponse()
        answer.model_version_status.add(version=7, state=30)
        return answer


def serve() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    print("listening", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    server.start()
    server.wait_for_termination()


def call(address: str) -> dict[str, Any]:
    channel = grpc.insecure_channel(address)
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    values = [float(number) for number in range(20_000)]
    request.inputs["x"].CopyFrom(tensor_pb2.TensorProto(dtype=DT_FLOAT, float_val=values))
    request.inputs["x"].tensor_shape.dim.add(size=len(values))
    answer = predictions.Predict(request, timeout=20)
    packed = predictions.Predict(request, timeout=20, compression=grpc.Compression.Gzip)

    request.model_spec.signature_name = "broken"
    try:
        predictions.Predict(request, timeout=20)
        error = None
    except grpc.RpcError as caught:
        error = [caught.code().name, caught.details()]
    request.model_spec.name, request.model_spec.signature_name = "stranger", ""
    try:
        predictions.Predict(request, timeout=20)
        unknown = None
    except grpc.RpcError as caught:
        unknown = caught.code().name

    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "m"
    described = predictions.GetModelMetadata(metadata, timeout=20)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    described.metadata["signature_def"].Unpack(signatures)

    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "m"
    states = models.GetModelStatus(status, timeout=20).model_version_status
    return {
        "same": list(answer.outputs["x"].float_val) == values and answer == packed,
        "version": answer.model_spec.version.value,
        "error": error,
        "unknown": unknown,
        "signatures": list(signatures.signature_def),
        "states": [[each.version, each.state] for each in states],
    }


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        print(json.dumps(call(sys.argv[2])))
