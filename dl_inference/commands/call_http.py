"""A client of HTTP and JSON for `dl-inference call --http`: what `Client` is over gRPC, as far as the command needs it.

One connection for each request: the command makes few. The standard library's client goes through no web proxy.
"""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import quote

from dl_inference import address, messages
from dl_inference.client.channel import is_key
from dl_inference.client.errors import BY_CODE, BadAnswer, CallError, DeadlineExceeded, Unavailable
from dl_inference.client.prediction import Answer
from dl_inference.codec import oip, seldon, tfs
from dl_inference.codec.errors import BadTensorError, InputError
from dl_inference.codec.oip import ModelMetadata
from dl_inference.codec.tfs import Signature, TensorSpec
from dl_inference.commands import call_http_json as form

# So much later than the server the client gives up by itself: the server's answer says more.
_GRACE_S = 1.0
_PIECE = 1 << 16
_LENGTH = "inference-header-content-length"
# For answers without a problem in them, which are not ours: gRPC's own mapping (doc/http-grpc-status-mapping.md).
_CODES = {400: "INTERNAL", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "UNIMPLEMENTED"}
_CODES |= dict.fromkeys((429, 502, 503, 504), "UNAVAILABLE")


class HttpClient:
    """Calls models at one address. Every method raises CallError as `Client` does."""

    def __init__(
        self, to: str, *, timeout_ms: float, api_key: str | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        """Connect to nothing yet."""
        if api_key is not None and not is_key(api_key):
            raise InputError("the key has no form of one: 1 to 4096 printable characters")
        self._to, self._timeout_ms, self._api_key, self._tls = to, timeout_ms, api_key, tls

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close nothing: no connection is kept."""

    def send(
        self, path: str, request: Any, answer: Any, *, model: str = "", metadata: Sequence[tuple[str, str]] = ()
    ) -> Answer[Any]:
        """Make the call of gRPC that `path` names, in its form of HTTP."""
        started = time.monotonic()
        headers = dict(metadata)
        if path == oip.INFER:
            body, length = form.from_infer(request)
            if length < len(body):
                headers[_LENGTH] = str(length)
            at = _v2(request.model_name, request.model_version, "/infer")
            told, data = self._ask(at, body, headers)
            stated = told.get(_LENGTH)
            found = _read(lambda: form.to_infer(data, None if stated is None else int(stated)))
        elif path == tfs.PREDICT:
            spec = request.model_spec
            told, data = self._ask(_v1(spec, ":predict"), form.from_predict(request), headers)
            outputs = self._outputs(spec)
            found = _read(lambda: form.to_predict(data, outputs))
        elif path == seldon.PREDICT:
            name = quote(request.meta.tags["model"].string_value, safe="")
            at = f"/seldon/call/{name}/api/v1.0/predictions"
            told, data = self._ask(at, form.from_seldon(request), headers)
            found = _read(lambda: form.to_message(data, answer()))
        else:
            raise BY_CODE["UNIMPLEMENTED"](f"{path} has no form of HTTP", address=self._to)
        trailers = {name: value for name, value in told.items() if name.startswith(("access-", "x-request-id"))}
        took_ms = (time.monotonic() - started) * 1000
        return Answer(message=found, took_ms=took_ms, request_id=told.get("x-request-id", ""), trailers=trailers)

    def metadata_oip(self, model: str, *, version: str | int = "") -> ModelMetadata:
        """Return what a server of the Open Inference Protocol says of a model."""
        _, data = self._ask(_v2(model, str(version), ""))
        message = messages.message_class("inference.ModelMetadataResponse")
        return oip.metadata_of(_read(lambda: form.to_message(data, message())))

    def signatures_tfs(self, model: str, *, version: int | None = None) -> dict[str, Signature]:
        """Return the signatures of a model of TF Serving's."""
        request = tfs.request(model, {}, version=version)
        _, data = self._ask(_v1(request.model_spec, "/metadata"))

        def read() -> Any:
            signatures = json.dumps(json.loads(data)["metadata"]["signature_def"]).encode()
            answer = messages.message_class("tensorflow.serving.GetModelMetadataResponse")()
            answer.metadata["signature_def"].Pack(form.to_message(signatures, messages.SignatureDefMap()))
            return answer

        return tfs.signatures_of(_read(read))

    def status_tfs(self, model: str) -> dict[int, str]:
        """Return the states of a model's versions."""
        _, data = self._ask(_v1(tfs.request(model, {}).model_spec, ""))
        message = messages.message_class("tensorflow.serving.GetModelStatusResponse")
        return tfs.states_of(_read(lambda: form.to_message(data, message())))

    def _outputs(self, spec: Any) -> dict[str, TensorSpec]:
        """Return names and types of the outputs, which TF Serving's JSON leaves out; empty where nobody says."""
        version = spec.version.value if spec.HasField("version") else None
        try:
            signatures = self.signatures_tfs(spec.name, version=version)
            return signatures[spec.signature_name or "serving_default"].outputs
        except (CallError, KeyError):
            pass
        try:
            return self.metadata_oip(spec.name, version="" if version is None else version).outputs
        except CallError:
            return {}

    def _ask(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[dict[str, str], bytes]:
        """Return headers, their names in lower case, and body of an answer of 200.

        Raises:
            CallError: any other answer, or none.
        """
        end = time.monotonic() + self._timeout_ms / 1000 + _GRACE_S
        connection = _connection(self._to, end - time.monotonic(), self._tls)
        sent = {"grpc-timeout": f"{int(self._timeout_ms)}m", "content-type": "application/json", **(headers or {})}
        if self._api_key is not None:
            sent["x-api-key"] = self._api_key
        started = time.monotonic()
        try:
            connection.request("GET" if body is None else "POST", path, body, sent)
            answer = connection.getresponse()
            data = b""
            while piece := answer.read1(_PIECE):
                data += piece
                if (left := end - time.monotonic()) <= 0:
                    raise TimeoutError
                if connection.sock is not None:
                    connection.sock.settimeout(left)
        except TimeoutError:
            raise DeadlineExceeded(f"no answer within {self._timeout_ms:g} ms", address=self._to) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{type(error).__name__}: {error}", address=self._to) from error
        finally:
            connection.close()
        told = {name.lower(): value for name, value in answer.getheaders()}
        if answer.status != http.client.OK:
            took_ms = (time.monotonic() - started) * 1000
            raise _failure(answer.status, told, data, self._to, took_ms)
        return told, data


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(to: str, timeout: float, tls: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if to.startswith("unix:"):
        return _UnixConnection(to.removeprefix("unix:"), timeout)
    host, port = address.split(to.rpartition("/")[2])  # gRPC's own dns:///name:port
    if tls is not None:
        return http.client.HTTPSConnection(host, int(port), timeout=timeout, context=tls)
    return http.client.HTTPConnection(host, int(port), timeout=timeout)


def _v2(model: str, version: str, call: str) -> str:
    return f"/v2/models/{quote(model, safe='')}{f'/versions/{version}' if version else ''}{call}"


def _v1(spec: Any, call: str) -> str:
    version = f"/versions/{spec.version.value}" if spec.HasField("version") else ""
    return f"/v1/models/{quote(spec.name, safe='')}{version}{call}"


def _read(read: Any) -> Any:
    """Return what `read` makes of an answer.

    Raises:
        BadAnswer: it is not of the form that it should have.
    """
    try:
        return read()
    except (ValueError, KeyError, TypeError, AttributeError, InputError, BadTensorError) as error:
        raise BadAnswer(f"the answer cannot be read: {error!r}") from error


def _failure(status: int, headers: Mapping[str, str], data: bytes, to: str, took_ms: float) -> CallError:
    """Return the error that an answer tells: a problem (RFC 9457), or another server's text."""
    try:
        problem = json.loads(data)
        code, text = problem["code"], str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        problem = {}
        shown = data[:200].decode(errors="backslashreplace").strip()
        code, text = _CODES.get(status, "UNKNOWN"), f"HTTP {status}: {shown}"
    trailers = {"x-request-id": str(problem.get("request_id", headers.get("x-request-id", "")))}
    trailers = {name: value for name, value in trailers.items() if value}
    if kind := problem.get("kind"):
        trailers["access-error"] = str(kind)
    return BY_CODE.get(code, CallError)(text, address=to, trailers=trailers, took_ms=took_ms)
