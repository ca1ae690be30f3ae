"""A pass-through proxy on grpc.aio with uvloop: what a careful Python programmer would write. Runs in .peers/aio.

``python aio_proxy.py LISTEN ENDPOINT...``; bytes in, bytes out, round robin, one channel an endpoint.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import uvloop

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class PassThrough(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc is untyped
    """Hands every unary call to the next channel, as bytes."""

    def __init__(self, channels: list[grpc.aio.Channel]) -> None:
        """Take the open channels."""
        self._channels = itertools.cycle(channels)
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return the method's handler, made on its first call."""
        handler = self._handlers.get(details.method)
        if handler is None:
            handler = grpc.unary_unary_rpc_method_handler(self._forward(details.method))
            self._handlers[details.method] = handler
        return handler

    def _forward(self, method: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
        calls: dict[int, Any] = {}

        async def forward(request: bytes, context: Any) -> bytes:
            channel = next(self._channels)
            call = calls.get(id(channel))
            if call is None:
                call = calls[id(channel)] = channel.unary_unary(method)
            answer: bytes = await call(request, timeout=context.time_remaining())
            return answer

        return forward


async def main(listen: str, endpoints: list[str]) -> None:
    """Serve until killed."""
    channels = [grpc.aio.insecure_channel(endpoint, options=OPTIONS) for endpoint in endpoints]
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((PassThrough(channels),))
    server.add_insecure_port(listen)
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
