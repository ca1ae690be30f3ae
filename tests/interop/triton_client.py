"""Runs in .peers/triton: Triton's client, in each way it can call, on MLServer's models; prints what it found."""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2
from tritonclient.utils import triton_to_np_dtype

DTYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]


def tensor(data: Any, datatype: str) -> Any:
    given = triton.InferInput("x", list(data.shape), datatype)
    given.set_data_from_numpy(data)
    return given


def numbers(datatype: str) -> Any:
    return np.array([[0, 1], [1, 0]], triton_to_np_dtype(datatype))


def status(call: Any) -> list[str]:
    try:
        call()
    except triton.InferenceServerException as error:
        return [error.status(), error.message()]
    return []


def call(address: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with triton.InferenceServerClient(address) as client:
        found["dtypes"] = [each for each in DTYPES if infers(client, each)]
        text = np.array([b"plain", "gärtner".encode()], np.object_)
        found["text"] = [each.decode() for each in client.infer("echo", [tensor(text, "BYTES")]).as_numpy("x")]
        one = numbers("FP32")
        doubled = client.infer("double", [tensor(one, "FP32")])
        found["doubled"] = bool((doubled.as_numpy(doubled.get_response().outputs[0].name) == one * 2).all())
        found["typed"] = typed(client)
        found["version"] = client.infer("echo", [tensor(one, "FP32")], model_version="3").get_response().model_version
        found["callbacks"] = callbacks(client)
        found["live"], found["ready"] = client.is_server_live(), client.is_server_ready()
        found["model ready"] = client.is_model_ready("echo")
        metadata = client.get_model_metadata("echo", as_json=True)
        found["metadata"] = [metadata["platform"], metadata["versions"], metadata["inputs"][0]["shape"]]
        found["errors"] = {
            "inference": status(lambda: client.infer("echo", [tensor(one, "FP32")], parameters={"fail": "inference"})),
            "unknown to the endpoint": status(lambda: client.infer("ghost", [tensor(one, "FP32")])),
            "unknown to the proxy": status(lambda: client.infer("stranger", [tensor(one, "FP32")]))[:1],
            "deadline": status(
                lambda: client.infer("echo", [tensor(one, "FP32")], parameters={"fail": "slow"}, client_timeout=0.3)
            )[:1],
        }
        headers = {"x-model": "double"}
        client.unload_model("double", headers=headers)
        found["unloaded"] = status(lambda: client.infer("double", [tensor(one, "FP32")]))[:1]
        client.load_model("double", headers=headers)
        found["loaded"] = status(lambda: client.infer("double", [tensor(one, "FP32")]))
    found["asyncio"] = asyncio.run(concurrently(address))
    return found


def infers(client: Any, datatype: str) -> bool:
    data = numbers(datatype)
    answer = client.infer("echo", [tensor(data, datatype)], request_id=datatype)
    got = answer.as_numpy("x")
    return answer.get_response().id == datatype and got.dtype == data.dtype and bool((got == data).all())


def typed(client: Any) -> list[Any]:
    """Send typed contents, which the client itself never does, through its channel."""
    request = service_pb2.ModelInferRequest(model_name="echo", id="typed")
    given = request.inputs.add(name="x", datatype="FP64", shape=[2])
    given.contents.fp64_contents.extend([0.1, -0.0])
    answer = client._client_stub.ModelInfer(request, timeout=30)
    return [answer.id, list(answer.outputs[0].contents.fp64_contents), len(answer.raw_output_contents)]


def callbacks(client: Any) -> list[str]:
    answers: queue.Queue[Any] = queue.Queue()
    for number in range(8):
        client.async_infer(
            "echo",
            [tensor(numbers("INT64") + number, "INT64")],
            lambda result, error: answers.put((result, error)),
            request_id=str(number),
        )
    got = [answers.get(timeout=30) for _ in range(8)]
    assert all(error is None for _, error in got), got
    assert all((result.as_numpy("x")[0, 0] == int(result.get_response().id)) for result, _ in got)
    return sorted(result.get_response().id for result, _ in got)


async def concurrently(address: str) -> list[int]:
    async with triton_aio.InferenceServerClient(address) as client:
        calls = [client.infer("echo", [tensor(numbers("INT32") + number, "INT32")]) for number in range(8)]
        return [int(result.as_numpy("x")[0, 0]) for result in await asyncio.gather(*calls)]


if __name__ == "__main__":
    print(json.dumps(call(sys.argv[1])))
