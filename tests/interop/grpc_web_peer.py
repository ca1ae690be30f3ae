"""Runs in .peers/sonora: a gRPC-Web client in Python as a caller; prints what it found as one line of JSON.

    python grpc_web_peer.py URL PATH_OF_A_CALL PATH_OF_A_STREAM

Requests are read from standard input, one a line in hexadecimal: of a call, of a stream, of a call that fails, of a
stream that fails.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import sonora.client
from sonora.protocol import WebRpcError


def main() -> None:
    url, unary, stream = sys.argv[1:]
    requests = [bytes.fromhex(line) for line in sys.stdin.read().split()]
    with sonora.client.insecure_web_channel(url) as channel:
        call: Any = channel.unary_unary(unary, bytes, bytes)
        calls: Any = channel.unary_stream(stream, bytes, bytes)
        found: dict[str, Any] = {"call": call(requests[0], timeout=20).hex()}
        found["stream"] = [each.hex() for each in calls(requests[1], timeout=20)]
        try:
            call(requests[2], timeout=20)
        except WebRpcError as error:
            found["failed call"] = [error.code().name, error.details()]
        answers = []
        try:
            answers.extend(each.hex() for each in calls(requests[3], timeout=20))
        except WebRpcError as error:
            found["failed stream"] = [error.code().name, error.details()]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
