"""Runs in .peers/triton or .peers/mlserver: unloads and loads a model of `serve` by their client; prints JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def triton(address: str) -> dict[str, Any]:
    import tritonclient.grpc as client

    with client.InferenceServerClient(address) as server:

        def index() -> dict[str, list[str]]:
            found = server.get_model_repository_index()
            return {each.name: [each.version, each.state, each.reason] for each in found.models}

        def failure(call: Callable[[str], object]) -> str | None:
            try:
                call("nobody")
            except client.InferenceServerException as error:
                return str(error.status())
            return None

        return told(index, server.unload_model, server.load_model, failure)


def triton_http(address: str) -> dict[str, Any]:
    import tritonclient.http as client
    from tritonclient.utils import InferenceServerException

    # A load takes as long as the model's process.
    with client.InferenceServerClient(address, network_timeout=60) as server:

        def index() -> dict[str, list[str]]:
            found = server.get_model_repository_index()
            return {each["name"]: [each["version"], each["state"], each["reason"]] for each in found}

        def failure(call: Callable[[str], object]) -> str | None:
            try:
                call("nobody")
            except InferenceServerException as error:
                return str(error.status())
            return None

        return told(index, server.unload_model, server.load_model, failure)


def mlserver(address: str) -> dict[str, Any]:
    import grpc
    from mlserver.grpc import model_repository_pb2 as messages
    from mlserver.grpc import model_repository_pb2_grpc as stubs

    with grpc.insecure_channel(address) as channel:
        stub = stubs.ModelRepositoryServiceStub(channel)

        def index() -> dict[str, list[str]]:
            found = stub.RepositoryIndex(messages.RepositoryIndexRequest(), timeout=30)
            return {each.name: [each.version, each.state, each.reason] for each in found.models}

        def unload(name: str) -> object:
            return stub.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(model_name=name), timeout=60)

        def load(name: str) -> object:
            return stub.RepositoryModelLoad(messages.RepositoryModelLoadRequest(model_name=name), timeout=60)

        def failure(call: Callable[[str], object]) -> str | None:
            try:
                call("nobody")
            except grpc.RpcError as error:
                return f"StatusCode.{error.code().name}"
            return None

        return told(index, unload, load, failure)


def told(
    index: Callable[[], dict[str, list[str]]],
    unload: Callable[[str], object],
    load: Callable[[str], object],
    failure: Callable[[Callable[[str], object]], str | None],
) -> dict[str, Any]:
    before = index()
    unload("one")
    unloaded = index()
    load("one")
    return {"before": before, "unloaded": unloaded, "loaded": index(), "failures": [failure(unload), failure(load)]}


if __name__ == "__main__":
    clients = {
        "triton": triton,
        "mlserver": mlserver,
        "triton over HTTP": triton_http,
    }
    print(json.dumps(clients[sys.argv[2]](sys.argv[1])))
