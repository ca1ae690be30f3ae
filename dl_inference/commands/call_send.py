"""What `dl-inference call` does: input -> request -> one call -> the answer, or why there is none."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.text import Text

from dl_inference import messages
from dl_inference.client import Client
from dl_inference.client.errors import CallError
from dl_inference.client.prediction import Answer
from dl_inference.codec import oip, seldon, tfs
from dl_inference.codec.errors import InputError
from dl_inference.codec.tfs import TensorSpec
from dl_inference.commands import call_input, call_output, model_facts
from dl_inference.commands.call_http import HttpClient
from dl_inference.commands.call_tls import CallTls
from dl_inference.commands.console import err, out

_METHODS: dict[str, tuple[str, Any]] = {
    "seldon": (seldon.PREDICT, messages.SeldonMessage),
    "tfs": (tfs.PREDICT, messages.PredictResponse),
    "oip": (oip.INFER, messages.ModelInferResponse),
}


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asks of a model.

    Attributes:
        protocol: seldon, tfs or oip; None: what the model answers.
        model: the route key.
        value: as `call_input.read` takes it.
        tags: ``KEY=VALUE`` texts, seldon only.
        version: of the model.
        signature: tfs only.
    """

    protocol: str | None
    model: str
    value: str | None
    tags: Sequence[str] = ()
    version: int | None = None
    signature: str | None = None

    def request(self, value: Any, inputs: Mapping[str, TensorSpec]) -> Any:
        """Return the message of the protocol.

        Args:
            value: as `call_input.read` gave it.
            inputs: what the model takes, as far as it is known.

        Raises:
            InputError: it has none for this.
        """
        if self.protocol == "seldon":
            return call_input.seldon(self.model, value, dict(map(_tag, self.tags)))
        if self.protocol == "tfs":
            return call_input.tfs(self.model, value, self.version, self.signature, inputs)
        if self.protocol == "oip":
            return call_input.oip(self.model, value, self.version, inputs)
        raise InputError(f"{self.protocol!r} is not a protocol: seldon, tfs or oip")

    def metadata(self) -> list[tuple[str, str]]:
        """Return what the message has no place for."""
        return (
            [("x-model-version", str(self.version))] if self.protocol == "seldon" and self.version is not None else []
        )


def send(  # noqa: PLR0913  (what the command was given)
    question: Question,
    to: str,
    *,
    timeout_ms: int,
    as_json: bool,
    http: bool = False,
    api_key: str | None = None,
    tls: CallTls | None = None,
) -> int:
    """Make one call and print how it went.

    Args:
        question: what is asked.
        to: address.
        timeout_ms: deadline of the call, ms.
        as_json: print JSON for programs.
        http: over HTTP and JSON.
        api_key: to call with.
        tls: how, where the port has TLS.

    Returns:
        The exit status: 0 answered, 1 failed, 2 nothing could be sent.
    """
    try:
        if http:
            with HttpClient(to, timeout_ms=timeout_ms, api_key=api_key, tls=tls.context() if tls else None) as asking:
                result = _answer_over_http(asking, question)
        else:
            credentials = tls.credentials() if tls else None
            with Client(
                to, timeout_ms=timeout_ms, max_message_bytes=2**31 - 1, api_key=api_key, credentials=credentials
            ) as client:
                result = _answer(client, question)
    except InputError as error:
        err.print(Text(str(error), style="red"), soft_wrap=True)
        return 2
    except CallError as error:
        show_failure(error, to, as_json)
        return 1
    if as_json:
        print(call_output.to_json(result))
    else:
        call_output.show(out, result)
    return 0


def _answer(client: Client, question: Question) -> Answer[Any]:
    """Make the call by the protocol that was asked for, or else by one that the server knows.

    Raises:
        InputError: nothing could be sent.
        CallError: the call failed.
    """
    value = call_input.read(question.value)  # once: standard input is there once
    if question.protocol is not None:
        return _send(client, question, value)
    first = "tfs" if question.signature else "seldon"
    try:
        # Most often right, and then no other call is needed.
        return _send(client, replace(question, protocol=first), value)
    except InputError as error:  # another protocol may have a place for it
        refused: Exception = error
    except CallError as error:
        if error.code != "UNIMPLEMENTED":
            raise
        refused = error
    try:
        facts = model_facts.ask(client, question.model, question.version, question.signature or "")
    except CallError:
        raise refused from None
    others = [protocol for protocol in facts.protocols if protocol != first]
    if not others:
        raise refused
    return _send(client, replace(question, protocol=others[0]), value, facts.inputs)


def _answer_over_http(client: HttpClient, question: Question) -> Answer[Any]:
    """Make the call by the protocol that was asked for, or else by the Open Inference Protocol, or one that fits.

    Raises:
        InputError: nothing could be sent.
        CallError: the call failed.
    """
    value = call_input.read(question.value)
    if question.protocol is not None:
        return _send(client, question, value)
    if question.tags or call_input.is_seldon(value):
        return _send(client, replace(question, protocol="seldon"), value)
    try:
        facts = model_facts.ask(client, question.model, question.version, question.signature or "")
    except CallError as error:
        if error.code != "UNIMPLEMENTED":
            raise
        # A server that says nothing of its models speaks Seldon's protocol.
        return _send(client, replace(question, protocol="seldon"), value)
    protocol = "oip" if "oip" in facts.protocols else facts.protocols[0]
    if "seldon" in facts.protocols and call_input.is_seldon(facts.inputs):
        protocol = "seldon"  # a model with hooks for bytes, texts or JSON
    try:
        return _send(client, replace(question, protocol=protocol), value, facts.inputs)
    except InputError:  # Seldon's has a place for what has no name
        if "seldon" not in facts.protocols:
            raise
        return _send(client, replace(question, protocol="seldon"), value)


def _send(
    client: Client | HttpClient, question: Question, value: Any, inputs: Mapping[str, TensorSpec] = call_input.UNKNOWN
) -> Answer[Any]:
    request = question.request(value, inputs)
    path, answer = _METHODS[str(question.protocol)]
    return client.send(path, request, answer, metadata=question.metadata())


def _tag(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--tag {text!r}: write KEY=VALUE")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def show_failure(error: CallError, address: str, as_json: bool) -> None:
    """Print why a call failed."""
    if as_json:
        fields = {
            "code": error.code,
            "kind": error.kind,
            "number": error.number,
            "details": error.message,
            "trailers": dict(error.trailers),
        }
        print(json.dumps({"error": fields}))
        return
    number = "" if error.number is None else f"number {error.number}"
    known = ", ".join(filter(None, (error.kind, number)))
    kind = f" ({known})" if known else ""
    err.print(Text.assemble((f"{error.code}{kind}", "bold red"), f" from {address}: {error.message}"), soft_wrap=True)
    for trailer in ("access-endpoint", "access-attempts", "x-request-id"):
        if trailer in error.trailers:
            err.print(Text(f"    {trailer}: {error.trailers[trailer]}"), soft_wrap=True)
    if error.remedy:
        err.print(Text(f"    {error.remedy}"), soft_wrap=True)
