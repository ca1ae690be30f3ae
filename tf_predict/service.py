"""TF Serving's methods on grpc.aio: bytes in, one thread per running call, bytes out.

Parsing, the model and the answer's bytes are work of a thread, so that the event loop only moves messages: health
answers while every thread is busy. A call whose deadline passes while it waits for a thread is not run.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError, Message

from dl_inference.messages import (
    ClassificationRequest,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    MultiInferenceRequest,
    PredictRequest,
    RegressionRequest,
    ReloadConfigRequest,
)
from tf_predict import answers
from tf_predict.errors import RequestError, invalid_argument
from tf_predict.meter import TRAILER, Meter, Times
from tf_predict.versions import Versions

_LOGGER = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class _Method(NamedTuple):
    request: type[Message]
    answer: Callable[[Versions, Any], Any]


METHODS = {
    "/tensorflow.serving.PredictionService/Predict": _Method(PredictRequest, answers.predict),
    "/tensorflow.serving.PredictionService/Classify": _Method(ClassificationRequest, answers.classify),
    "/tensorflow.serving.PredictionService/Regress": _Method(RegressionRequest, answers.regress),
    "/tensorflow.serving.PredictionService/MultiInference": _Method(MultiInferenceRequest, answers.multi_inference),
    "/tensorflow.serving.PredictionService/GetModelMetadata": _Method(GetModelMetadataRequest, answers.metadata),
    "/tensorflow.serving.ModelService/GetModelStatus": _Method(GetModelStatusRequest, answers.status),
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest": _Method(ReloadConfigRequest, answers.reload_config),
}


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """The handlers of `METHODS`.

    Args:
        versions: the model.
        threads: calls that run at a time.
        max_queue: calls running and waiting; beyond it RESOURCE_EXHAUSTED.
    """

    def __init__(self, versions: Versions, threads: int, max_queue: int) -> None:
        self.finished: Counter[tuple[str, str]] = Counter()
        """Calls ended, by method and gRPC code."""
        self.waiting = 0
        """Calls whose caller still waits for an answer."""
        self._versions = versions
        self._max_queue = max_queue
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, "call")
        self._meter = Meter(threads)
        self._busy = 0
        self._lock = threading.Lock()

    @property
    def busy(self) -> int:
        """Return how many calls run or wait, those included that nobody waits for any more."""
        return self._busy

    def close(self) -> None:
        """Start no call that still waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a method; None where there is none."""
        path: str = details.method
        if path not in METHODS:
            return None

        async def handle(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
            code = grpc.StatusCode.CANCELLED
            times = Times()
            self.waiting += 1
            try:
                answer = await self._answer(METHODS[path], data, context, times)
                code = grpc.StatusCode.OK
                self._tell_load(context, code, times)
                return answer
            except RequestError as error:
                code = error.code
                self._tell_load(context, code, times)
                await context.abort(error.code, error.text)
                raise AssertionError("abort raises") from error
            finally:
                self.waiting -= 1
                self.finished[path[1:], code.name] += 1

        return grpc.unary_unary_rpc_method_handler(handle)

    def _tell_load(self, context: grpc.aio.ServicerContext, code: grpc.StatusCode, times: Times) -> None:
        """Count the call, and let its trailers say how loaded this server is."""
        self._meter.count(code)
        if self._versions.settings.load_reports:
            context.set_trailing_metadata(((TRAILER, self._meter.report(self._busy, times)),))

    async def _answer(self, method: _Method, data: bytes, context: grpc.aio.ServicerContext, times: Times) -> bytes:
        timeout_s = self._versions.settings.timeout_ms / 1000
        left_s = context.time_remaining()
        timeout_s = timeout_s if left_s is None else min(timeout_s, left_s)
        deadline = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(self._submit(method, data, deadline, times))
        except TimeoutError:
            raise _too_late(f"no answer within {timeout_s * 1000:.0f} ms") from None
        except RequestError:
            raise
        except Exception as error:  # a fault of ours, or one that TensorFlow raised as no OpError
            request_id = _request_id(context)
            _LOGGER.error("request %s failed", request_id, exc_info=error)
            raise RequestError(grpc.StatusCode.INTERNAL, f"internal error; request id {request_id}") from error

    def _submit(self, method: _Method, data: bytes, deadline: float, times: Times) -> concurrent.futures.Future[bytes]:
        with self._lock:
            if self._busy >= self._max_queue:
                raise RequestError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{self._busy} calls are running or waiting, the limit (max_queue) is "
                    f"{self._max_queue}: try again later",
                )
            self._busy += 1
        future = self._pool.submit(self._measured, method, data, deadline, times, time.monotonic())
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: concurrent.futures.Future[bytes]) -> None:
        with self._lock:
            self._busy -= 1

    def _measured(self, method: _Method, data: bytes, deadline: float, times: Times, submitted: float) -> bytes:
        begun = time.monotonic()
        times.queue_s = begun - submitted
        self._meter.begin()
        try:
            return self._run(method, data, deadline)
        finally:
            times.compute_s = time.monotonic() - begun
            self._meter.end()

    def _run(self, method: _Method, data: bytes, deadline: float) -> bytes:
        if time.monotonic() >= deadline:
            raise _too_late("the deadline passed before the call could run")
        try:
            request = method.request.FromString(data)
        except DecodeError as error:
            raise invalid_argument(f"the request is not a {method.request.DESCRIPTOR.full_name}: {error}") from None
        answer: bytes = method.answer(self._versions, request).SerializeToString()
        return answer


def _too_late(text: str) -> RequestError:
    return RequestError(grpc.StatusCode.DEADLINE_EXCEEDED, text)


def _request_id(context: grpc.aio.ServicerContext) -> str:
    """Return the caller's x-request-id if it is fit for a log, else a new one."""
    given = dict(context.invocation_metadata() or ()).get("x-request-id", "")
    return given if isinstance(given, str) and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
