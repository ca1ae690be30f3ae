"""The client for threads; aio.py has the one for asyncio."""
# ruff: noqa: PLR0913  (the fields of the protocols' requests)

import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import numpy.typing as npt

from dl_inference.client import calls
from dl_inference.client.calls import Call
from dl_inference.client.channel import MAX_MESSAGE_BYTES, Metadata, Settings
from dl_inference.client.prediction import Answer, Prediction
from dl_inference.client.retries import Retries
from dl_inference.codec.oip import ModelMetadata, Parameter
from dl_inference.codec.seldon import Kind
from dl_inference.codec.tfs import Signature

T = TypeVar("T")


class Client:
    """Calls models at one address.

    It may be used by any number of threads at once, over one connection. Making one opens nothing; the first call
    connects. A process that forks: clients that have made no call yet work in the child, others raise RuntimeError
    there (gRPC's threads do not come over), so make one in each process. `with` or `close` closes it.

    All methods raise InputError before anything is sent, when the input has no form in the protocol, and a
    subclass of CallError when the call fails (errors.py): DeadlineExceeded, NotFound, InvalidArgument, Unavailable,
    ResourceExhausted ... BadAnswer when what came back is no answer. `timeout_ms` covers a call with all its retries.
    `metadata` is sent as it is, keys in lower case; an `x-request-id` in it is the call's, else one is made.
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
    ) -> None:
        """Take the settings.

        Args:
            address: ``host:port``, ``[v6]:port``, ``unix:/path``, or gRPC's ``dns:///host:port``.
            timeout_ms: deadline of calls that bring none, ms, above 0 and up to a day.
            retries: None: each call is made once. See `Retries`.
            max_message_bytes: largest request and largest answer, bytes; by default what our model servers take.
                Servers have limits of their own; an access service takes 16 MiB unless configured.
            credentials: of `grpc.ssl_channel_credentials`, for what ends TLS in front of the service. None: no TLS.
            dl_inference_service: call dl_inference's own service (Predict, PytorchPredict, TisPredict), for access
                services that have no other. The first of them wants Seldon's tag ``{"taskId": 39}``.

        Raises:
            InputError: the address or a number is none.
        """
        self._settings = Settings(
            address,
            timeout_ms=timeout_ms,
            retries=retries,
            max_message_bytes=max_message_bytes,
            credentials=credentials,
            dl_inference_service=dl_inference_service,
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
        """Call PredictionService/Predict.

        Args:
            model: its name.
            inputs: arrays by name, of any shape, layout and byte order: bool, integers and floats of 8 to 64 bits,
                float16, bfloat16 (of ml_dtypes), complex, str or bytes. They are sent in their own type: what is no
                array becomes what `numpy.asarray` makes of it, so a list of floats float64.
            version: None: the server's choice, the latest.
            label: of a version, instead of its number.
            signature: empty: the server's default, serving_default.
            outputs: names of the outputs wanted; empty: all.
            timeout_ms: None: the client's.
            metadata: see the class.
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
        """Call Seldon/Predict.

        Args:
            model: its name, sent in the metadata ``x-model``; empty for a server that has one model only.
            value: an array or numpy scalar (``data``), bytes (``binData``: an image, say), str (``strData``), another
                of JSON's values, such as a dict or a list (``jsonData``), a google.protobuf.Any (``customData``), or a
                whole SeldonMessage; messages of any package.
            version: a number or a label, sent in the metadata ``x-model-version``; empty: the server's choice.
            kind: how an array is sent. tftensor keeps its type and is the quickest; tensor is float64 (hooks of
                dl_inference and seldon-core without TensorFlow want it); ndarray is a list, slow. None: tftensor, but
                ndarray for str.
            names: of the columns.
            tags: JSON's values, for ``meta.tags``.
            timeout_ms: None: the client's.
            metadata: see the class.
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
        """Call GRPCInferenceService/ModelInfer, with raw contents.

        Args:
            model: its name.
            inputs: as `predict_tfs` takes them, in the order that the server wants; no complex numbers.
            version: empty: the server's choice.
            outputs: names of the outputs wanted; empty: all.
            parameters: of the request.
            timeout_ms: None: the client's.
            metadata: see the class.
        """
        call = calls.predict_oip(model, inputs, version=version, outputs=outputs, parameters=parameters)
        return self._run(call, timeout_ms, metadata)

    def signatures_tfs(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout_ms: float | None = None
    ) -> dict[str, Signature]:
        """Return a SavedModel's signatures by name, with the types and shapes of their inputs and outputs."""
        return self._run(calls.signatures_tfs(model, version, label), timeout_ms)

    def status_tfs(self, model: str, *, version: int | None = None, timeout_ms: float | None = None) -> dict[int, str]:
        """Return the state of each version: UNKNOWN, START, LOADING, AVAILABLE, UNLOADING or END."""
        return self._run(calls.status_tfs(model, version), timeout_ms)

    def metadata_oip(self, model: str, *, version: str | int = "", timeout_ms: float | None = None) -> ModelMetadata:
        """Return the types and shapes of a model's inputs and outputs."""
        return self._run(calls.metadata_oip(model, version), timeout_ms)

    def ready_oip(self, model: str, *, version: str | int = "", timeout_ms: float | None = None) -> bool:
        """Return whether the server says that the model is ready."""
        return self._run(calls.ready_oip(model, version), timeout_ms)

    def is_serving(self, model: str = "", *, timeout_ms: float | None = None) -> bool:
        """Return what gRPC's health protocol says of a model, or of the whole server; NotFound for an unknown model.

        Our servers speak it whatever the model's protocol is.
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
        """Call any unary method with a message of your own. Retried only where it is a method of the other functions.

        Args:
            path: ``/package.Service/Method``.
            request: a message of any package: what has SerializeToString.
            answer: the class of the answer, of any package: what has FromString.
            model: for the metadata ``x-model``, where the message does not say it.
            timeout_ms: None: the client's.
            metadata: see the class.
        """
        return self._run(calls.send(path, request, answer, model), timeout_ms, metadata)

    def close(self) -> None:
        """Close the connection: calls in flight end as Cancelled. A closed client raises RuntimeError."""
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

    def _method(self, path: str) -> Any:
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this client is closed")
            if self._channel is None:
                self._channel, self._pid = self._open(), os.getpid()
            if self._pid != os.getpid():
                raise RuntimeError("this client made calls before the process was forked: make one in each process")
            # Without (de)serializers: bytes pass.
            return self._methods.get(path) or self._methods.setdefault(path, self._channel.unary_unary(path))

    def _open(self) -> grpc.Channel:
        settings = self._settings
        if settings.credentials is None:
            return grpc.insecure_channel(settings.address, settings.options)
        return grpc.secure_channel(settings.address, settings.credentials, settings.options)
