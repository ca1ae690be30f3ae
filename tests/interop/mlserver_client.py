"""Runs in .peers/mlserver: MLServer's own stubs, types and codecs as a client; prints what it found as JSON.

Our messages are imported before MLServer's here, and after them in mlserver_models/runtime.py: both must work.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import grpc
import numpy as np

from dl_inference import messages  # isort: split

from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.grpc import converters, dataplane_pb2, dataplane_pb2_grpc, model_repository_pb2, model_repository_pb2_grpc
from mlserver.types import InferenceRequest, Parameters

DATA = np.array([[0.5, -1.5], [float("inf"), 2.5]], np.float32)
TEXT = ["plain", "gärtner"]


class Client:
    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.stub = dataplane_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def infer(self, model: str, request: InferenceRequest, version: str = "", *, raw: bool = False) -> Any:
        message = converters.ModelInferRequestConverter.from_types(
            request, model_name=model, model_version=version, use_raw=raw
        )
        return self.stub.ModelInfer(message, timeout=30)

    def failure(self, model: str, request: InferenceRequest, version: str = "") -> list[str]:
        try:
            self.infer(model, request, version)
        except grpc.RpcError as error:
            return [error.code().name, error.details()]
        return []


def numbers(**parameters: Any) -> InferenceRequest:
    given = Parameters(**parameters) if parameters else None
    return InferenceRequest(id="one", inputs=[NumpyCodec.encode_input("x", DATA)], parameters=given)


def call(address: str) -> dict[str, Any]:
    client = Client(address)
    found: dict[str, Any] = {}
    for name, raw in (("typed", False), ("raw", True)):
        answer = client.infer("echo", numbers(), raw=raw)
        decoded = converters.ModelInferResponseConverter.to_types(answer)
        same = bool((NumpyCodec.decode_output(decoded.outputs[0]) == DATA).all())
        found[name] = [same, decoded.id, decoded.model_version, len(answer.raw_output_contents)]
        doubled = converters.ModelInferResponseConverter.to_types(client.infer("double", numbers(), raw=raw))
        found[f"doubled, {name}"] = bool((NumpyCodec.decode_output(doubled.outputs[0]) == DATA * 2).all())
    text = InferenceRequest(inputs=[StringCodec.encode_input("x", TEXT)])
    answered = converters.ModelInferResponseConverter.to_types(client.infer("echo", text))
    found["text"] = StringCodec.decode_output(answered.outputs[0])
    found["version"] = client.infer("echo", numbers(), "3").model_version
    found["errors"] = {
        "inference": client.failure("echo", numbers(fail="inference")),
        "exception": client.failure("echo", numbers(fail="boom")),
        "unknown to the endpoint": client.failure("ghost", numbers()),
        "unknown version": client.failure("echo", numbers(), "9"),
        "unknown to the proxy": client.failure("stranger", numbers())[:1],
    }
    found["stream"] = stream(client)
    message = converters.ModelInferRequestConverter.from_types(numbers(), model_name="echo", model_version="3")
    ours = messages.ModelInferRequest.FromString(message.SerializeToString())
    found["our messages beside"] = [ours.model_name, list(ours.inputs[0].shape)]
    metadata = client.stub.ModelMetadata(dataplane_pb2.ModelMetadataRequest(name="echo"), timeout=30)
    found["metadata"] = [metadata.platform, list(metadata.versions), list(metadata.inputs[0].shape)]
    found["ready"] = client.stub.ModelReady(dataplane_pb2.ModelReadyRequest(name="echo"), timeout=30).ready
    found["live"] = client.stub.ServerLive(dataplane_pb2.ServerLiveRequest(), timeout=30).live
    found["repository"] = repository(client)
    return found


def stream(client: Client) -> list[Any]:
    """Send three requests on one stream; MLServer's answers are not wrapped as Triton's are."""
    values = [np.array([[float(number), 0.0]], np.float32) for number in range(3)]
    requests = [
        converters.ModelInferRequestConverter.from_types(
            InferenceRequest(inputs=[NumpyCodec.encode_input("x", value)]), model_name="echo", model_version=None
        )
        for value in values
    ]
    answers = client.stub.ModelStreamInfer(iter(requests), timeout=30)
    return [list(answer.outputs[0].contents.fp32_contents) for answer in answers]


def repository(client: Client) -> list[Any]:
    """Ask MLServer's own service for its models, unload one and load it again; the header says which cluster."""
    stub = model_repository_pb2_grpc.ModelRepositoryServiceStub(client.channel)
    metadata = [("x-model", "double")]
    index = stub.RepositoryIndex(model_repository_pb2.RepositoryIndexRequest(), timeout=30, metadata=metadata)
    stub.RepositoryModelUnload(
        model_repository_pb2.RepositoryModelUnloadRequest(model_name="double"), timeout=30, metadata=metadata
    )
    gone = client.failure("double", numbers())[0]
    stub.RepositoryModelLoad(
        model_repository_pb2.RepositoryModelLoadRequest(model_name="double"), timeout=30, metadata=metadata
    )
    return [sorted(each.name for each in index.models), gone, client.failure("double", numbers())]


if __name__ == "__main__":
    print(json.dumps(call(sys.argv[1])))
