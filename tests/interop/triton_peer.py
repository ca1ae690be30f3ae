"""Runs in .peers/triton: Triton's own messages as a server (``serve``), and its client (``call``)."""

from __future__ import annotations

import json
import queue
import sys
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc


class Inference(service_pb2_grpc.GRPCInferenceServiceServicer):
    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:
        return service_pb2.ModelReadyResponse(ready=request.name == "m")

    def ModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        return service_pb2.ModelMetadataResponse(name=request.name, versions=["1"], platform="test")

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        return _answer(request)

    def ModelStreamInfer(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            if request.id == "bad":
                # Triton's way: the error is a message, and the stream goes on.
                yield service_pb2.ModelStreamInferResponse(error_message="this one does not do")
                continue
            yield service_pb2.ModelStreamInferResponse(infer_response=_answer(request))


def _answer(request: Any) -> Any:
    answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        answer.raw_output_contents.append(raw)
    return answer


def serve() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Inference(), server)
    print("listening", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    server.start()
    server.wait_for_termination()


def call(address: str) -> dict[str, Any]:
    data = np.arange(120_000, dtype=np.float32).reshape(400, 300)
    tensor = triton.InferInput("x", list(data.shape), "FP32")
    tensor.set_data_from_numpy(data)
    results: dict[str, Any] = {}
    with triton.InferenceServerClient(address) as client:
        results["live"], results["ready"] = client.is_server_live(), client.is_server_ready()
        results["server"] = client.get_server_metadata().name
        results["index"] = [[each.name, each.state] for each in client.get_model_repository_index().models]
        results["model ready"] = client.is_model_ready("m")
        results["platform"] = client.get_model_metadata("m").platform
        answer = client.infer("m", [tensor], request_id="one")
        results["infer"] = [bool((answer.as_numpy("x") == data).all()), answer.get_response().id]
        packed = client.infer("m", [tensor], compression_algorithm="gzip")
        results["gzip"] = bool((packed.as_numpy("x") == data).all())
        try:
            client.infer("stranger", [tensor])
        except triton.InferenceServerException as error:
            results["unknown"] = error.status()
        results["stream"] = stream(client, tensor, data)
    return results


def stream(client: Any, tensor: Any, data: Any) -> list[str]:
    """Send ten requests on one stream, each after the answer to the one before, with a bad one before each."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    ids = []
    for number in range(10):
        client.async_stream_infer("m", [tensor], request_id="bad")
        _, error = answers.get(timeout=20)
        assert error.message() == "this one does not do"
        client.async_stream_infer("m", [tensor], request_id=str(number))
        result, error = answers.get(timeout=20)
        assert error is None, error
        assert (result.as_numpy("x") == data).all()
        ids.append(result.get_response().id)
    client.stop_stream()
    return ids


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        print(json.dumps(call(sys.argv[2])))
