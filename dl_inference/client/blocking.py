"""The client for threads; aio.py has the one for asyncio."""
# ruff: noqa: PLR0913  (the fields of the protocols' requests)

import functools
import os
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import numpy.typing as npt

from dl_inference.client import calls, streams
from dl_inference.client.calls import Call
from dl_inference.client.channel import MAX_MESSAGE_BYTES, Metadata, Settings
from dl_inference.client.errors import CallError
from dl_inference.client.prediction import Answer, Prediction
from dl_inference.client.retries import Retries
from dl_inference.client.signing import Signer
from dl_inference.codec import oip
from dl_inference.codec.oip import ModelMetadata, Parameter
from dl_inference.codec.seldon import Kind
from dl_inference.codec.tfs import Signature

T = TypeVar("T")


class Client:
    """A client for the models behind one address.

    Any number of threads may share a client; their calls share one connection. The first call connects. Close the
    client with `close` or with a `with` block. After a fork, a client that has made calls raises RuntimeError in the
    child, because gRPC's threads do not survive a fork: make a client in each process.

    Every method raises InputError, before anything is sent, if the protocol cannot carry the input. It raises a
    subclass of CallError if the call fails, and BadAnswer if the server's answer is not valid.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_ms: float = 60_000,
        retries: Retries | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        credentials: grpc.ChannelCredentials | None = None,
        dl_inference_service: bool = False,
        api_key: str | None = None,
        signer: Signer | None = None,
    ) -> None:
        """Make a client; this does not connect yet.

        Args:
            address: ``host:port``, ``[v6]:port``, ``unix:/path``, or gRPC's ``dns:///host:port``.
            timeout_ms: deadline of calls that do not set their own, ms, above 0 and at most one day.
            retries: how calls are retried, see `Retries`; None: each call is made once.
            max_message_bytes: largest request and largest answer, bytes; the default is 64 MiB, as in our model
                servers. Servers have their own limits: an access service accepts 16 MiB unless configured.
            credentials: result of `grpc.ssl_channel_credentials`, if the port has TLS; None: no TLS.
            dl_inference_service: call dl_inference's own service (Predict, PytorchPredict, TisPredict), for access
                services that offer no other. The original dl_inference needs Seldon's tag ``{"taskId": 39}``.
            api_key: sent with each call as ``x-api-key``, unless its `metadata` have one; None:
                no key.
            signer: signs each request in place of a key, see `Signer`; None: nothing is signed. Not with `retries`.

        Raises:
            InputError: the address is not valid, or a number is out of its range.
        """
        self._settings = Settings(
            address,
            timeout_ms=timeout_ms,
            retries=retries,
            max_message_bytes=max_message_bytes,
            credentials=credentials,
            dl_inference_service=dl_inference_service,
            api_key=api_key,
            signer=signer,
        )
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._methods: dict[str, Any] = {}
        self._pid = 0
        self._is_closed = False

    def predict_tfs(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        outputs: Sequence[str] = (),
        timeout_ms: float | None = None,
        metadata: Metadata = (),
    ) -> Prediction:
        """Call a TF Serving model: PredictionService/Predict.

        Args:
            model: name of the model.
            inputs: arrays by name, of any shape, layout and byte order: bool, integers and floats of 8 to 64 bits,
                float16, bfloat16 (of ml_dtypes), complex, str or bytes. Each is sent in its own type. Other values go
                through `numpy.asarray`, so a list of floats is sent as float64.
            version: version to call; None: the server's default, which is the latest.
            label: label of a version, in place of `version`.
            signature: name of the signature; empty: the server's default, serving_default.
            outputs: names of the outputs to return; empty: all.
            timeout_ms: deadline of this call with its retries, ms; None: the client's.
            metadata: sent as it is, keys in lower case. A key ``x-request-id`` sets the call's id.
        """
        call = calls.predict_tfs(model, inputs, version=version, label=label, signature=signature, outputs=outputs)
        return self._run(call, timeout_ms, metadata)

    def predict_seldon(
        self,
        model: str,
        value: Any,
        *,
        version: str | int = "",
        kind: Kind | None = None,
        names: Sequence[str] = (),
        tags: Mapping[str, Any] | None = None,
        timeout_ms: float | None = None,
        metadata: Metadata = (),
    ) -> Prediction:
        """Call a Seldon model, such as our PyTorch server: Seldon/Predict.

        Args:
            model: name of the model, sent in the metadata ``x-model``; may be empty for a server with one model.
            value: an array or numpy scalar (sent as ``data``), bytes such as an image (``binData``), str (``strData``),
                a dict, list or other JSON value (``jsonData``), a google.protobuf.Any (``customData``), or a whole
                SeldonMessage of any package.
            version: a number or a label, sent in the metadata ``x-model-version``; empty: the server's default.
            kind: how an array is sent. tftensor keeps its type and is the fastest; tensor is float64, which
                dl_inference's hooks and seldon-core without TensorFlow need; ndarray is a JSON list, which is slow.
                None: tftensor, or ndarray for str.
            names: names of the columns.
            tags: JSON values for ``meta.tags``.
            timeout_ms: deadline of this call with its retries, ms; None: the client's.
            metadata: sent as it is, keys in lower case. A key ``x-request-id`` sets the call's id.
        """
        call = calls.predict_seldon(model, value, version=version, kind=kind, names=names, tags=tags)
        return self._run(call, timeout_ms, metadata)

    def predict_oip(
        self,
        model: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        version: str | int = "",
        outputs: Sequence[str] = (),
        parameters: Mapping[str, Parameter] | None = None,
        timeout_ms: float | None = None,
        metadata: Metadata = (),
    ) -> Prediction:
        """Call an Open Inference Protocol model: GRPCInferenceService/ModelInfer, with raw contents.

        Args:
            model: name of the model.
            inputs: as for `predict_tfs`, in the order that the server expects; no complex numbers.
            version: version to call; empty: the server's default.
            outputs: names of the outputs to return; empty: all.
            parameters: parameters of the request.
            timeout_ms: deadline of this call with its retries, ms; None: the client's.
            metadata: sent as it is, keys in lower case. A key ``x-request-id`` sets the call's id.
        """
        call = calls.predict_oip(model, inputs, version=version, outputs=outputs, parameters=parameters)
        return self._run(call, timeout_ms, metadata)

    def stream_oip(
        self,
        model: str,
        inputs: Iterable[Mapping[str, npt.ArrayLike]],
        *,
        version: str | int = "",
        outputs: Sequence[str] = (),
        parameters: Mapping[str, Parameter] | None = None,
        max_in_flight: int = 64,
        timeout_ms: float | None = None,
        metadata: Metadata = (),
    ) -> Generator[Prediction | CallError, None, None]:
        """Call a model once for each of many inputs, in one stream: GRPCInferenceService/ModelStreamInfer.

        Yields one result for each, in their order: a Prediction, or, where this message failed, the CallError, which
        ends nothing but that message. What ends the whole stream is raised. Nothing is sent before the first result is
        asked for. Closing the generator, or leaving a loop over it, cancels the stream.

        Args:
            model: name of the model. Through an access service the whole stream goes to one endpoint.
            inputs: the inputs of each message, as for `predict_oip`. They are taken in a thread of the stream's own,
                as results come, so that they may come slowly. What they raise is raised after the results of those
                before; so is the InputError of one that the protocol cannot carry.
            version: version to call; empty: the server's default.
            outputs: names of the outputs to return; empty: all.
            parameters: parameters of each message.
            max_in_flight: most messages without a result, from 1. No further input is taken meanwhile.
            timeout_ms: deadline of the whole stream, ms; None: the client's.
            metadata: sent as it is, keys in lower case. A key ``x-request-id`` sets the stream's id.
        """
        make = functools.partial(calls.streamed_oip, model, version=version, outputs=outputs, parameters=parameters)
        sent = self._settings.prepare(Call(oip.STREAM, b"", lambda data, reply: None), timeout_ms, metadata)
        window = streams.Window(self._settings, sent, make, max_in_flight)
        return streams.answers(window, inputs, lambda: self._method(sent.path, is_stream=True), lambda: self._is_closed)

    def signatures_tfs(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout_ms: float | None = None
    ) -> dict[str, Signature]:
        """Return a SavedModel's signatures by name, with the types and shapes of their inputs and outputs.

        Arguments as for `predict_tfs`.
        """
        return self._run(calls.signatures_tfs(model, version, label), timeout_ms)

    def status_tfs(self, model: str, *, version: int | None = None, timeout_ms: float | None = None) -> dict[int, str]:
        """Return the state of each version: UNKNOWN, START, LOADING, AVAILABLE, UNLOADING or END.

        Args:
            model: name of the model, on a TF Serving server.
            version: return this version only; None: all.
            timeout_ms: deadline of this call, ms; None: the client's.
        """
        return self._run(calls.status_tfs(model, version), timeout_ms)

    def metadata_oip(self, model: str, *, version: str | int = "", timeout_ms: float | None = None) -> ModelMetadata:
        """Return the types and shapes of a model's inputs and outputs, over the Open Inference Protocol.

        Arguments as for `predict_oip`.
        """
        return self._run(calls.metadata_oip(model, version), timeout_ms)

    def ready_oip(self, model: str, *, version: str | int = "", timeout_ms: float | None = None) -> bool:
        """Return whether the model is ready, over the Open Inference Protocol.

        Arguments as for `predict_oip`.
        """
        return self._run(calls.ready_oip(model, version), timeout_ms)

    def is_serving(self, model: str = "", *, timeout_ms: float | None = None) -> bool:
        """Return whether a model, or the whole server, is SERVING by gRPC's health protocol.

        Our servers answer it for models of every protocol. An unknown model raises NotFound.

        Args:
            model: name of the model; empty: the whole server.
            timeout_ms: deadline of this call, ms; None: the client's.
        """
        return self._run(calls.is_serving(model), timeout_ms)

    def send(
        self,
        path: str,
        request: Any,
        answer: Any,
        *,
        model: str | None = None,
        timeout_ms: float | None = None,
        metadata: Metadata = (),
    ) -> Answer[Any]:
        """Call any unary method with your own message.

        It is retried only if it is a method that another function of the client calls, too.

        Args:
            path: ``/package.Service/Method``.
            request: a message of any package; it must have SerializeToString.
            answer: the class of the answer, of any package; it must have FromString.
            model: name of the model for the metadata ``x-model``, where the message does not contain it.
            timeout_ms: deadline of this call with its retries, ms; None: the client's.
            metadata: sent as it is, keys in lower case. A key ``x-request-id`` sets the call's id.
        """
        return self._run(calls.send(path, request, answer, model), timeout_ms, metadata)

    def close(self) -> None:
        """Close the connection. Calls in flight raise Cancelled, later calls raise RuntimeError."""
        with self._lock:
            self._is_closed = True
            if self._channel is not None and self._pid == os.getpid():
                self._channel.close()

    def __enter__(self) -> Self:
        """Return the client; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _run(self, call: Call[T], timeout_ms: float | None, metadata: Metadata = ()) -> T:
        settings = self._settings
        sent = settings.prepare(call, timeout_ms, metadata)
        method = self._method(sent.path)
        try:
            data, rpc = method.with_call(call.request, timeout=sent.timeout_s, metadata=sent.metadata)
        except grpc.RpcError as error:
            raise settings.failure(error, sent) from error
        except ValueError as error:
            if not self._is_closed:
                raise
            raise settings.closed(sent) from error  # by another thread, since this one has the method
        return settings.read(call, sent, data, rpc.trailing_metadata())

    def _method(self, path: str, *, is_stream: bool = False) -> Any:
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this client is closed")
            if self._channel is None:
                self._channel, self._pid = self._open(), os.getpid()
            if self._pid != os.getpid():
                raise RuntimeError("this client made calls before the process was forked: make one in each process")
            # Without (de)serializers: bytes pass.
            make = self._channel.stream_stream if is_stream else self._channel.unary_unary
            return self._methods.get(path) or self._methods.setdefault(path, make(path))

    def _open(self) -> grpc.Channel:
        settings = self._settings
        if settings.credentials is None:
            return grpc.insecure_channel(settings.address, settings.options)
        return grpc.secure_channel(settings.address, settings.credentials, settings.options)
