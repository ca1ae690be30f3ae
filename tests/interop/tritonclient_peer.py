"""Runs in .peers/triton: the real tritonclient as a caller of OIP; prints what it found as one line of JSON.

    python tritonclient_peer.py ECHO_ADDRESS SCORES_ADDRESS SEED

The models are those of oip_models.py: `echo` gives back what it gets, `scores` is float32 [n, 4] -> [n, 3].
The addresses are those of their servers, or twice that of the access service.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype

WAIT_S = 60
TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def arrays() -> list[Any]:
    """Return one array of each datatype but BF16."""
    numbers = np.arange(6).reshape(2, 3)
    words = np.array([[b"", b"a"], ["é".encode(), b"\0\xff"]], object)
    dtypes = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
    return [numbers % 2 == 1, words, *(numbers.astype(dtype) for dtype in dtypes)]


def tensor(name: str, array: Any) -> Any:
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def error_of(call: Callable[[], Any]) -> list[str]:
    try:
        call()
    except triton.InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    return ["no error", ""]


def binary(client: Any) -> dict[str, bool]:
    """Send each datatype raw, as this client always does."""
    same = {}
    for array in arrays():
        answer = client.infer("echo", [tensor("x", array)]).as_numpy("output")
        same[np_to_triton_dtype(array.dtype)] = bool(answer.dtype == array.dtype and (answer == array).all())
    halves = np.array([1.0, -2.5, 65536.0], ml_dtypes.bfloat16)
    answer = client.infer("echo", [tensor("x", halves)]).as_numpy("output")
    same["BF16"] = bool(answer.dtype == np.float32 and (answer == halves.astype(np.float32)).all())
    return same


def typed(address: str) -> dict[str, bool]:
    """Send each datatype in InferTensorContents, through the generated stub."""
    same = {}
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for array in arrays():
            datatype = np_to_triton_dtype(array.dtype)
            if datatype not in TYPED:
                continue
            request = service_pb2.ModelInferRequest(model_name="echo", id="t")
            made = request.inputs.add(name="x", datatype=datatype, shape=array.shape)
            getattr(made.contents, TYPED[datatype]).extend(array.ravel().tolist())
            answer = triton.InferResult(stub.ModelInfer(request, timeout=WAIT_S)).as_numpy("output")
            same[datatype] = bool((answer == array).all())
    return same


def infer(client: Any) -> dict[str, Any]:
    asked = [triton.InferRequestedOutput("b")]
    inputs = [tensor("a", np.zeros(2)), tensor("b", np.ones(3))]
    chosen = client.infer("echo", inputs, outputs=asked)
    parameters = {"do": "meta", "whole": 7, "half": 0.5, "yes": True}
    meta = client.infer("echo", [tensor("x", np.ones(1))], request_id="m", parameters=parameters)
    return {
        "outputs": [[each.name for each in chosen.get_response().outputs], chosen.as_numpy("b").tolist()],
        "meta": json.loads(meta.as_numpy("jsonData").item()),
    }


def scores(client: Any, seed: int) -> dict[str, Any]:
    rows = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
    answer = client.infer("scores", [tensor("input", rows)], request_id="one", model_version="1")
    response = answer.get_response()
    packed = client.infer("scores", [tensor("input", rows)], compression_algorithm="gzip")
    words = [tensor("input", np.array([b"a"], object))]
    return {
        "numbers": answer.as_numpy("output").tolist(),
        "response": [response.model_name, response.model_version, response.id],
        "gzip": bool((packed.as_numpy("output") == answer.as_numpy("output")).all()),
        "strings": error_of(lambda: client.infer("scores", words)),
    }


def at_once(client: Any) -> list[float]:
    """Send twenty calls without waiting for one."""
    answers: queue.Queue[Any] = queue.Queue()
    for number in range(20):
        inputs = [tensor("x", np.full(2, float(number)))]
        client.async_infer("echo", inputs, lambda result, error: answers.put((result, error)), request_id=str(number))
    found = []
    for _ in range(20):
        result, error = answers.get(timeout=WAIT_S)
        assert error is None, error
        assert result.as_numpy("output")[0] == float(result.get_response().id)
        found.append(float(result.as_numpy("output")[0]))
    return sorted(found)


def stream(client: Any) -> list[list[Any]]:
    """Send ten requests on one stream, one bad in the middle, and take the answers afterwards."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(10):
        parameters = {"do": "invalid"} if number == 5 else None
        inputs = [tensor("x", np.full(2, float(number)))]
        client.async_stream_infer("echo", inputs, request_id=str(number), parameters=parameters)
    found = []
    for _ in range(10):
        result, error = answers.get(timeout=WAIT_S)
        if error is not None:
            found.append(["error", error.message()])
            continue
        response = result.get_response()
        final = response.parameters["triton_final_response"].bool_param
        found.append([response.id, float(result.as_numpy("output")[0]), final])
    client.stop_stream()
    return found


async def asynchronous(address: str) -> list[Any]:
    """Do the same with the asyncio client."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(4):
            yield {"model_name": "echo", "inputs": [tensor("x", np.full(2, float(number)))], "request_id": str(number)}

    async with triton_aio.InferenceServerClient(address) as client:
        found: list[Any] = [await client.is_server_live(), await client.is_model_ready("echo")]
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            found.append(float(result.as_numpy("output")[0]))
    return found


def errors(client: Any) -> dict[str, list[str]]:
    one = [tensor("x", np.ones((1, 4)))]
    wrong = triton.InferInput("x", [2, 4], "FP32")
    wrong.set_data_from_numpy(np.ones((2, 4), np.float32))
    wrong.set_shape([3, 4])
    strange = triton.InferInput("x", [1], "FP32")
    strange.set_data_from_numpy(np.ones(1, np.float32))
    strange._input.datatype = "FLOAT"
    shared = triton.InferInput("x", [1], "FP32")
    shared.set_shared_memory("region", 4)
    ranked = [triton.InferRequestedOutput("output", class_count=3)]
    return {
        "model": error_of(lambda: client.infer("stranger", one)),
        "version": error_of(lambda: client.infer("echo", one, model_version="7")),
        "ready": error_of(lambda: client.is_model_ready("echo", "7")),
        "metadata": error_of(lambda: client.get_model_metadata("stranger")),
        "length": error_of(lambda: client.infer("echo", [wrong])),
        "datatype": error_of(lambda: client.infer("echo", [strange])),
        "shared": error_of(lambda: client.infer("echo", [shared])),
        "classification": error_of(lambda: client.infer("echo", one, outputs=ranked)),
        "output": error_of(lambda: client.infer("echo", one, outputs=[triton.InferRequestedOutput("z")])),
        "invalid": error_of(lambda: client.infer("echo", one, parameters={"do": "invalid"})),
        "hook": error_of(
            lambda: client.infer("echo", one, parameters={"do": "raise"}, headers={"x-request-id": "r-1"})
        ),
    }


def metadata(client: Any) -> dict[str, Any]:
    model = client.get_model_metadata("scores")
    described = [[each.name, each.datatype, list(each.shape)] for each in (*model.inputs, *model.outputs)]
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready("scores", "1"),
        "server": client.get_server_metadata().name,
        "model": [model.name, list(model.versions), model.platform, described],
        "index": [[each.name, each.state] for each in client.get_model_repository_index().models],
    }


def main(echo_address: str, scores_address: str, seed: int) -> None:
    with triton.InferenceServerClient(echo_address) as echo, triton.InferenceServerClient(scores_address) as other:
        found = {
            "metadata": metadata(other),
            "scores": scores(other, seed),
            "binary": binary(echo),
            "typed": typed(echo_address),
            "infer": infer(echo),
            "async": at_once(echo),
            "stream": stream(echo),
            "aio": asyncio.run(asynchronous(echo_address)),
            "errors": errors(echo),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
