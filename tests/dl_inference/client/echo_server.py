"""A server of all three protocols on grpcio, for the client's tests: it sends inputs back, or fails as the model says.

Run as a program it prints its address, and ``waiting`` when the model ``slow`` is called.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

from dl_inference import messages
from dl_inference.codec import oip, seldon, tfs

FEEDBACK = "/seldon.protos.Model/SendFeedback"


class Echo(grpc.GenericRpcHandler):
    """Attributes: what was called, by path; the metadata of the last call; attempts by request id."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self.metadata: dict[str, str] = {}
        self.waiting = threading.Event()
        self.cancelled = threading.Event()
        self.go = threading.Event()
        """Set it to let the stream of the model ``holds`` go on."""
        self.streamed = 0

    def service(self, details: Any) -> Any:
        answers = {
            tfs.PREDICT: self.tfs,
            tfs.STATUS: self.status,
            tfs.METADATA: self.signatures,
            seldon.PREDICT: self.seldon,
            FEEDBACK: self.seldon,
            oip.INFER: self.oip,
            oip.METADATA: self.metadata_oip,
            oip.READY: self.ready_oip,
        }
        service = "/com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService/"
        answers |= {
            service + "Predict": self.tfs,
            service + "PytorchPredict": self.seldon,
            service + "TisPredict": self.oip,
        }
        if details.method == oip.STREAM:
            self.metadata = {key: value for key, value in details.invocation_metadata if isinstance(value, str)}
            return grpc.stream_stream_rpc_method_handler(self.stream)
        answer = answers.get(details.method)
        if answer is None:
            return None
        metadata = {key: value for key, value in details.invocation_metadata if isinstance(value, str)}

        def call(data: bytes, context: Any) -> bytes:
            self.calls[details.method] += 1
            self.metadata = metadata
            self.attempts[metadata.get("x-request-id", "")] += 1
            context.set_trailing_metadata((("access-attempts", "2"), ("access-endpoint", "10.0.0.1:8500")))
            return answer(data, context)

        return grpc.unary_unary_rpc_method_handler(call)

    def behave(self, model: str, context: Any) -> bytes | None:
        """Do as the model's name says: fail, hang, or answer nonsense; None to go on."""
        attempt = self.attempts[self.metadata.get("x-request-id", "")]
        if model == "slow":
            context.add_callback(self.cancelled.set)
            self.waiting.set()
            print("waiting", flush=True)
            self.cancelled.wait(60)
        elif model == "garbage":
            return b"\xff\xff\xff"
        elif model == "empty":
            return b""
        elif model.startswith("fails "):  # so many attempts, then answers
            if attempt <= int(model.split()[1]):
                context.abort(grpc.StatusCode.UNAVAILABLE, f"attempt {attempt}")
        elif model in grpc.StatusCode.__members__:
            trailers = (
                ("access-error", "hook"),
                ("access-attempts", "3"),
                ("x-request-id", "theirs"),
                ("a-bin", b"\0"),
            )
            context.set_trailing_metadata(trailers)
            context.abort(grpc.StatusCode[model], f"broken: {model}")
        return None

    def tfs(self, data: bytes, context: Any) -> bytes:
        request: Any = messages.PredictRequest.FromString(data)
        if (early := self.behave(request.model_spec.name, context)) is not None:
            return early
        answer: Any = messages.PredictResponse(model_spec=request.model_spec)
        if not request.model_spec.HasField("version"):
            answer.model_spec.version.value = 7
        for name in request.output_filter or request.inputs:
            answer.outputs[name].CopyFrom(request.inputs[name])
        return bytes(answer.SerializeToString())

    def seldon(self, data: bytes, context: Any) -> bytes:
        model = self.metadata.get("x-model", "")
        return data if (early := self.behave(model, context)) is None else early

    def oip(self, data: bytes, context: Any) -> bytes:
        request: Any = messages.ModelInferRequest.FromString(data)
        if (early := self.behave(request.model_name, context)) is not None:
            return early
        answer: Any = messages.ModelInferResponse(model_name=request.model_name, model_version=request.model_version)
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            if not request.outputs or tensor.name in [each.name for each in request.outputs]:
                answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
                answer.raw_output_contents.append(raw)
        for name, value in request.parameters.items():
            answer.parameters[name].CopyFrom(value)
        return bytes(answer.SerializeToString())

    def stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Answer a stream as Triton does, and as the model's name says; an input ``fail`` is a message's own error."""
        context.add_callback(self.cancelled.set)
        first = ""
        for count, data in enumerate(requests, 1):
            self.streamed = count
            request: Any = messages.ModelInferRequest.FromString(data)
            model, answer = request.model_name, messages.ModelStreamInferResponse()
            plain = answer.infer_response
            plain.ParseFromString(self.oip(data, context))
            plain.id = "other" if model == "mixed up" else request.id
            if any(tensor.name == "fail" for tensor in request.inputs):
                answer = messages.ModelStreamInferResponse(error_message="refused")
                answer.infer_response.id = "" if model == "old triton" else request.id
                if model == "ours":
                    answer.infer_response.parameters["grpc-status"].int64_param = 3
                    answer.infer_response.parameters["access-error"].string_param = "hook"
                    answer.infer_response.parameters["access-error-number"].int64_param = -7
            self.waiting.set()
            if model == "holds":
                self.go.wait(60)
            if model == "leaves":
                return
            if model == "mlserver":  # which has the first message's id in all answers
                first = first or request.id
                plain.id = first
            yield bytes((plain if model == "mlserver" else answer).SerializeToString())
            if model == "twice":
                yield bytes(answer.SerializeToString())

    def status(self, data: bytes, context: Any) -> bytes:
        answer: Any = messages.GetModelStatusResponse()
        answer.model_version_status.add(version=6, state=50)
        answer.model_version_status.add(version=7, state=30)
        return bytes(answer.SerializeToString())

    def signatures(self, data: bytes, context: Any) -> bytes:
        request: Any = messages.GetModelMetadataRequest.FromString(data)
        assert list(request.metadata_field) == ["signature_def"]
        found: Any = messages.SignatureDefMap()
        signature = found.signature_def["serving_default"]
        signature.method_name = "tensorflow/serving/predict"
        signature.inputs["x"].dtype = 1
        for size in (-1, 4):
            signature.inputs["x"].tensor_shape.dim.add(size=size)
        signature.outputs["t"].dtype = 7
        signature.outputs["t"].tensor_shape.unknown_rank = True
        answer: Any = messages.GetModelMetadataResponse(model_spec=request.model_spec)
        answer.metadata["signature_def"].Pack(found)
        return bytes(answer.SerializeToString())

    def metadata_oip(self, data: bytes, context: Any) -> bytes:
        request: Any = messages.ModelMetadataRequest.FromString(data)
        answer: Any = messages.ModelMetadataResponse(name=request.name, versions=["1", "3"], platform="test")
        answer.inputs.add(name="x", datatype="FP16", shape=[-1, 4])
        answer.outputs.add(name="t", datatype="BYTES", shape=[-1])
        return bytes(answer.SerializeToString())

    def ready_oip(self, data: bytes, context: Any) -> bytes:
        request: Any = messages.ModelReadyRequest.FromString(data)
        return bytes(messages.ModelReadyResponse(ready=request.version == "3").SerializeToString())


def start(handler: Echo, address: str = "127.0.0.1:0") -> tuple[grpc.Server, str]:
    """Start a server; return it and its address."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(12), handlers=(handler,), options=options)
    port = server.add_insecure_port(address)
    server.start()
    return server, f"127.0.0.1:{port}" if address.endswith(":0") else address


if __name__ == "__main__":
    running, at = start(Echo(), *sys.argv[1:])
    print("listening", at, flush=True)
    running.wait_for_termination()
