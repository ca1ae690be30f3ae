"""grpc.health.v1 for "" and every name of the model: SERVING until the drain begins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from dl_inference.messages import HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse
from tf_predict.versions import Versions

_SERVICE = "/grpc.health.v1.Health/"
_STATES: Any = HealthCheckResponse
SERVING, NOT_SERVING, SERVICE_UNKNOWN = (
    _STATES.ServingStatus.Value(name) for name in ("SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
)


class Health(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """The health service.

    Args:
        versions: the model; it is served as long as a version answers.
        draining: set when the server stops; ends every Watch after NOT_SERVING.
    """

    def __init__(self, versions: Versions, draining: asyncio.Event) -> None:
        self._versions = versions
        self._draining = draining

    @property
    def serving(self) -> bool:
        """Return whether calls are answered."""
        return not self._draining.is_set() and bool(self._versions.available())

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a method; None where there is none."""
        serialize = {"response_serializer": lambda message: message.SerializeToString()}
        if details.method == _SERVICE + "Check":
            return grpc.unary_unary_rpc_method_handler(self._check, HealthCheckRequest.FromString, **serialize)
        if details.method == _SERVICE + "List":
            return grpc.unary_unary_rpc_method_handler(self._list, HealthListRequest.FromString, **serialize)
        if details.method == _SERVICE + "Watch":
            return grpc.unary_stream_rpc_method_handler(self._watch, HealthCheckRequest.FromString, **serialize)
        return None

    def _status(self, service: str) -> int:
        if service not in ("", *self._versions.names):
            return int(SERVICE_UNKNOWN)
        return int(SERVING if self.serving else NOT_SERVING)

    async def _check(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        status = self._status(request.service)
        if status == SERVICE_UNKNOWN:
            known = ", ".join(self._versions.names)
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}; known: {known}")
        return HealthCheckResponse(status=status)

    async def _list(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        answer: Any = HealthListResponse()
        for service in ("", *self._versions.names):
            answer.statuses[service].status = self._status(service)
        return answer

    async def _watch(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        first = self._status(request.service)
        yield HealthCheckResponse(status=first)
        await self._draining.wait()
        if (last := self._status(request.service)) != first:
            yield HealthCheckResponse(status=last)
