"""Clients of gRPC-Web, Google's for pages and one in Python, against the access service."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.lacking import lacking
from fixtures.processes import ROOT
from native.test_http_streams import STREAM, UNARY, Model, address, model, request

from dl_inference import messages

__all__ = ["address", "model"]

HERE = Path(__file__).parent
REQUESTS = "\n".join(request(what).hex() for what in ("a", "3", "fail", "2 fail"))
TIRED = "no 100 % today"


def found_by(command: list[Any]) -> dict[str, Any]:
    done = subprocess.run(
        [str(word) for word in command], input=REQUESTS, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def numbers(answers: list[str]) -> list[int]:
    read = [messages.ModelStreamInferResponse.FromString(bytes.fromhex(each)) for each in answers]
    return [struct.unpack("<i", each.infer_response.raw_output_contents[0])[0] for each in read]


def test_a_client_in_python_has_calls_streams_and_errors(
    address: str, model: Model, peer_python: Callable[[str], Path]
) -> None:
    found = found_by([peer_python("sonora"), HERE / "grpc_web_peer.py", f"http://{address}", UNARY, STREAM])
    assert messages.ModelInferResponse.FromString(bytes.fromhex(found["call"])).id == "a"
    assert numbers(found["stream"]) == [0, 1, 2]
    assert found["failed call"] == ["FAILED_PRECONDITION", TIRED]
    assert found["failed stream"] == ["FAILED_PRECONDITION", TIRED]


@pytest.mark.parametrize("form", ["text", "binary"])
def test_the_client_of_web_pages_has_calls_streams_and_errors(address: str, model: Model, form: str) -> None:
    folder = ROOT / ".peers" / "grpc-web"
    if not (folder / ".installed").exists():
        lacking("no environment grpc-web: make peers, with node and npm")
    found = found_by(["node", HERE / "grpc_web_peer.js", folder, f"http://{address}", UNARY, STREAM, form])
    assert messages.ModelInferResponse.FromString(bytes.fromhex(found["call"])).id == "a"
    assert found["failed call"] == [9, TIRED]
    if form == "text":
        assert numbers(found["stream"]["answers"]) == [0, 1, 2]
        assert numbers(found["failed stream"]["answers"]) == [0, 1]
        assert found["failed stream"]["error"] == [9, TIRED]
