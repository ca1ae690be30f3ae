"""Server reflection, v1 and v1alpha (the same bytes): so that grpcurl and the like need no .proto files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from dl_inference.messages import DESCRIPTORS, ServerReflectionRequest, ServerReflectionResponse

SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "tensorflow.serving.ModelService",
    "tensorflow.serving.PredictionService",
)
"""What this server answers; the descriptors know of more."""

_METHODS = tuple(f"/{name}/ServerReflectionInfo" for name in SERVICES if "reflection" in name)


class Reflection(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """The reflection service.

    Args:
        draining: set when the server stops; ends every stream.
    """

    def __init__(self, draining: asyncio.Event) -> None:
        self._draining = draining
        self._files = {file.name: file for file in FileDescriptorSet.FromString(DESCRIPTORS).file}
        self._places = {symbol: name for name, file in self._files.items() for symbol in _symbols(file)}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a method; None where there is none."""
        if details.method not in _METHODS:
            return None
        return grpc.stream_stream_rpc_method_handler(
            self._stream, ServerReflectionRequest.FromString, lambda message: message.SerializeToString()
        )

    def answer(self, request: Any) -> Any:
        """Return the ServerReflectionResponse for one request."""
        answer: Any = ServerReflectionResponse(valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            for name in SERVICES:
                answer.list_services_response.service.add(name=name)
            return answer
        name = ""
        if kind == "file_by_filename":
            name = request.file_by_filename
        elif kind == "file_containing_symbol":
            name = self._places.get(request.file_containing_symbol, "")
        if name in self._files:
            files = dict.fromkeys(self._with_imports(name))
            answer.file_descriptor_response.file_descriptor_proto.extend(
                self._files[file].SerializeToString() for file in files
            )
            return answer
        code, text = grpc.StatusCode.NOT_FOUND.value[0], f"not found: {kind}"
        answer.error_response.error_code, answer.error_response.error_message = code, text
        return answer

    def _with_imports(self, name: str) -> Iterator[str]:
        yield name
        for each in self._files[name].dependency:
            yield from self._with_imports(each)

    async def _stream(self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        stop = asyncio.ensure_future(self._draining.wait())
        try:
            while True:
                read = asyncio.ensure_future(anext(requests, None))
                await asyncio.wait({read, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not read.done():
                    read.cancel()
                    return
                if (request := read.result()) is None:
                    return
                yield self.answer(request)
        finally:
            stop.cancel()


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    """Yield the full names of a file's services, methods, messages and enums."""
    for service in file.service:
        yield f"{file.package}.{service.name}"
        for method in service.method:
            yield f"{file.package}.{service.name}.{method.name}"
    for enum in file.enum_type:
        yield f"{file.package}.{enum.name}"
    for message in file.message_type:
        yield from _message_symbols(file.package, message)


def _message_symbols(scope: str, message: DescriptorProto) -> Iterator[str]:
    name = f"{scope}.{message.name}"
    yield name
    for enum in message.enum_type:
        yield f"{name}.{enum.name}"
    for nested in message.nested_type:
        yield from _message_symbols(name, nested)
