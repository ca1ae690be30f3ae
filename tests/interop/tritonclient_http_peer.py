"""Runs in .peers/triton: the real tritonclient.http as a caller; prints what it found as one line of JSON.

    python tritonclient_http_peer.py ECHO_ADDRESS SCORES_ADDRESS

The models and addresses are those of tritonclient_peer.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype
from tritonclient_peer import arrays

LARGE = 5000


def tensor(name: str, array: Any, *, is_binary: bool) -> Any:
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=is_binary)
    return made


def same(client: Any, array: Any, *, is_binary: bool, compression: str | None = None) -> bool:
    """Whether an array comes back as it was sent, in its form."""
    wanted = [triton.InferRequestedOutput("output", binary_data=is_binary)]
    given = [tensor("x", array, is_binary=is_binary)]
    answer = client.infer("echo", given, outputs=wanted, response_compression_algorithm=compression)
    data = answer.as_numpy("output")
    return bool(data.dtype == array.dtype and data.shape == array.shape and (data == array).all())


def error_of(call: Callable[[], Any]) -> list[str]:
    try:
        call()
    except InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    return ["OK", ""]


def main() -> None:
    echo_address, scores_address = sys.argv[1:]
    echo, scores = (triton.InferenceServerClient(address) for address in (echo_address, scores_address))
    json_arrays = [each for each in arrays() if each.dtype != object]
    json_arrays.append(np.array([["", 'a\n"\\'], ["é", "\0😀"]], object))
    rows = np.ones((2, 4), np.float32)
    described = scores.get_model_metadata("scores")
    inferred = scores.infer("scores", [tensor("input", rows, is_binary=True)], request_id="one")
    found = {
        "binary": {np_to_triton_dtype(each.dtype): same(echo, each, is_binary=True) for each in arrays()},
        # The client itself sends half precision as binary data only.
        "json": {
            np_to_triton_dtype(each.dtype): same(echo, each, is_binary=False)
            for each in json_arrays
            if each.dtype != np.float16
        },
        "compressed": [
            scores.infer("scores", [tensor("input", rows, is_binary=False)], request_compression_algorithm=name)
            .as_numpy("output")
            .shape
            for name in ("gzip", "deflate")
        ],
        "compressed answers": [
            same(echo, np.arange(LARGE, dtype=np.float32), is_binary=is_binary, compression=name)
            for name in ("gzip", "deflate")
            for is_binary in (False, True)
        ],
        "response": [inferred.get_response()[name] for name in ("model_name", "model_version", "id")],
        "shape": inferred.as_numpy("output").shape,
        "states": [echo.is_server_live(), echo.is_server_ready(), scores.is_model_ready("scores", "1")],
        "server": echo.get_server_metadata()["name"],
        "model": [described["name"], described["versions"], described["inputs"]],
        "errors": {
            "version": error_of(
                lambda: scores.infer("scores", [tensor("input", rows, is_binary=True)], model_version="7")
            ),
            "shape": error_of(
                lambda: scores.infer("scores", [tensor("input", np.ones((2, 5), np.float32), is_binary=False)])
            ),
        },
        "not ready": scores.is_model_ready("scores", "7"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
