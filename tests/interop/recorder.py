"""A stand-in that keeps what it got by the Open Inference Protocol, in the test's own process, and answers the same.

What a call's model does besides: ``slow``, ``short`` and ``dropped`` never answer; ``together`` waits for the others;
``wide`` sends more than it got; ``many`` answers a stream's message many times; ``taken`` compresses its answer;
``broken`` fails.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from stand_in import BROKEN, SERVICES

from dl_inference import messages

TOGETHER = 64
WIDE_BYTES = 17_000_000
MANY = 64
MANY_BYTES = 262_144
# A call that is to be cut off by its caller.
NEVER_S = 30
_THREADS = TOGETHER + 8
_SAY = "x-say-"


@dataclass
class Got:
    """A call, or a message of a stream, as it came."""

    model: str
    id: str
    size: int
    digest: str
    metadata: list[tuple[str, str | bytes]]
    left_s: float
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the call is over, by whomever."""


class Recorder:
    """The endpoint; a test looks at :attr:`got` and clears it."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.sent = 0
        """Answers of ``many`` that the caller's side has taken."""
        self.half_closed = threading.Event()
        """Set when a stream's caller has said that it sends no more."""
        self._together = threading.Barrier(TOGETHER)
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        options += [("grpc.max_metadata_size", 65536), ("grpc.absolute_max_metadata_size", 65536)]
        self._server = grpc.server(futures.ThreadPoolExecutor(_THREADS), options=options)
        kinds = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self._infer, _read, _written),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream, _read, _written),
        }
        for service, methods in {**SERVICES, "inference.GRPCInferenceService": kinds}.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait(10)

    def clear(self) -> None:
        self.got.clear()
        self.sent = 0
        self.half_closed.clear()

    def models(self) -> list[str]:
        """Return the models of the calls, in the order in which they came."""
        return [each.model for each in self.got]

    def _keep(self, request: Any, context: grpc.ServicerContext) -> Got:
        data = b"".join(request.raw_input_contents)
        metadata = [(key, value) for key, value in context.invocation_metadata()]
        left_s = context.time_remaining()
        left_s = math.inf if left_s is None else left_s
        got = Got(request.model_name, request.id, len(data), hashlib.sha256(data).hexdigest(), metadata, left_s)
        if not context.add_callback(got.ended.set):
            got.ended.set()
        self.got.append(got)
        return got

    def _infer(self, request: Any, context: grpc.ServicerContext) -> Any:
        got = self._keep(request, context)
        said = _said(context)
        if request.model_name in ("slow", "short", "dropped"):
            got.ended.wait(NEVER_S)
        elif request.model_name == "together":
            self._together.wait(NEVER_S)
        elif request.model_name == "taken":
            context.set_compression(grpc.Compression.Gzip)
        elif request.model_name == "broken":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, BROKEN)
        context.send_initial_metadata(said)
        context.set_trailing_metadata(said)
        return _same(request, bytes(WIDE_BYTES) if request.model_name == "wide" else None)

    def _stream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        context.send_initial_metadata(_said(context))
        context.set_trailing_metadata(_said(context))
        for request in requests:
            self._keep(request, context)
            if request.model_name == "broken":
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, BROKEN)
            if request.model_name != "many":
                yield messages.ModelStreamInferResponse(infer_response=_same(request))
                continue
            for number in range(MANY):
                answer = _same(request, bytes([number]) * MANY_BYTES)
                yield messages.ModelStreamInferResponse(infer_response=answer)
                self.sent = number + 1
        if context.is_active():
            self.half_closed.set()


def _said(context: grpc.ServicerContext) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((key, value) for key, value in context.invocation_metadata() if key.startswith(_SAY))


def _read(data: bytes) -> Any:
    return messages.ModelInferRequest.FromString(data)


def _written(answer: Any) -> bytes:
    written: bytes = answer.SerializeToString()
    return written


def _same(request: Any, data: bytes | None = None) -> Any:
    answer = messages.ModelInferResponse(model_name=request.model_name, id=request.id)
    answer.raw_output_contents.extend(request.raw_input_contents if data is None else [data])
    return answer
