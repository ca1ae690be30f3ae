"""Runs in .peers/seldon: seldon-core's own stubs, as a server that answers (``serve``) or as a client (``call``)."""

from __future__ import annotations

import json
import sys
from concurrent import futures
from typing import Any

import grpc
import numpy as np
from seldon_core.proto import prediction_pb2, prediction_pb2_grpc
from seldon_core.seldon_client import SeldonClient


class Model(prediction_pb2_grpc.ModelServicer):
    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        return request

    def SendFeedback(self, request: Any, context: grpc.ServicerContext) -> Any:
        return prediction_pb2.SeldonMessage(strData=f"reward {request.reward}")


class Seldon(prediction_pb2_grpc.SeldonServicer):
    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        return request


def serve() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    prediction_pb2_grpc.add_ModelServicer_to_server(Model(), server)
    prediction_pb2_grpc.add_SeldonServicer_to_server(Seldon(), server)
    print("listening", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    server.start()
    server.wait_for_termination()


def call(address: str) -> dict[str, Any]:
    channel = grpc.insecure_channel(address)
    model, seldon = prediction_pb2_grpc.ModelStub(channel), prediction_pb2_grpc.SeldonStub(channel)
    results: dict[str, Any] = {}
    for kind in ("model", "taskId", "number"):
        request = prediction_pb2.SeldonMessage()
        request.data.tensor.shape.extend([2, 2])
        request.data.tensor.values.extend([1.5, 2.5, float("inf"), -0.0])
        if kind == "number":
            request.meta.tags["taskId"].number_value = 39.7
        else:
            request.meta.tags[kind].string_value = "m" if kind == "model" else "39"
        results[kind] = model.Predict(request, timeout=20) == request == seldon.Predict(request, timeout=20)
    feedback = prediction_pb2.Feedback(reward=0.5)
    feedback.request.meta.tags["model"].string_value = "m"
    results["feedback"] = model.SendFeedback(feedback, timeout=20).strData
    bare = prediction_pb2.SeldonMessage(strData="x")
    results["x-model"] = model.Predict(bare, metadata=[("x-model", "m")], timeout=20).strData
    results["client"] = stock_client(address)
    return results


def stock_client(address: str) -> list[Any]:
    """Call as seldon-core's own client does: through a gateway it sends a name in metadata, directly none at all."""
    client = SeldonClient(deployment_name="m", namespace="", gateway="istio", gateway_endpoint=address)
    data = np.array([[1.0, 2.0], [3.0, 4.0]])
    through = client.predict(transport="grpc", data=data, payload_type="tensor")
    direct = client.microservice(
        microservice_endpoint=address, transport="grpc", method="predict", data=data, payload_type="ndarray"
    )
    return [through.success, through.response["data"]["tensor"]["values"], direct.success]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        print(json.dumps(call(sys.argv[2])))
