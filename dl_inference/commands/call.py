"""What `dl-inference call` does: input -> request -> one call -> the answer, or why there is none."""

import json
from typing import Any

from rich.console import Console
from rich.text import Text

from dl_inference import messages
from dl_inference.client import Client
from dl_inference.client.errors import CallError
from dl_inference.codec import oip, seldon, tfs
from dl_inference.codec.errors import InputError
from dl_inference.commands import call_input, call_output

_METHODS: dict[str, tuple[str, Any]] = {
    "seldon": (seldon.PREDICT, messages.SeldonMessage),
    "tfs": (tfs.PREDICT, messages.PredictResponse),
    "oip": (oip.INFER, messages.ModelInferResponse),
}


def run(  # noqa: PLR0913  (the options of the command)
    consoles: tuple[Console, Console],
    model: str,
    value: str | None,
    *,
    to: str,
    protocol: str,
    tags: list[str],
    version: int | None,
    signature: str | None,
    timeout_ms: int,
    as_json: bool,
) -> int:
    """Make one call and print how it went.

    Args:
        consoles: for the answer, and for what went wrong.
        model: the route key.
        value: as `payload.read` takes it.
        to: address.
        protocol: seldon, tfs or oip.
        tags: ``KEY=VALUE`` texts, seldon only.
        version: tfs and oip only.
        signature: tfs only.
        timeout_ms: deadline of the call, ms.
        as_json: print JSON for programs.

    Returns:
        The exit status: 0 answered, 1 failed, 2 nothing could be sent.
    """
    out, err = consoles
    try:
        request = _request(protocol, model, call_input.read(value), tags=tags, version=version, signature=signature)
        with Client(to, timeout_ms=timeout_ms, max_message_bytes=2**31 - 1) as client:
            result = client.send(_METHODS[protocol][0], request, _METHODS[protocol][1])
    except InputError as error:
        err.print(Text(str(error), style="red"), soft_wrap=True)
        return 2
    except CallError as error:
        _show_failure(err, error, to, as_json)
        return 1
    if as_json:
        print(call_output.to_json(result))
    else:
        call_output.show(out, result)
    return 0


def _request(  # noqa: PLR0913  (the options of the command)
    protocol: str, model: str, value: Any, *, tags: list[str], version: int | None, signature: str | None
) -> Any:
    if protocol == "seldon":
        return call_input.seldon(model, value, dict(map(_tag, tags)))
    if protocol == "tfs":
        return call_input.tfs(model, value, version, signature)
    if protocol == "oip":
        return call_input.oip(model, value, version)
    raise InputError(f"{protocol!r} is no protocol: seldon, tfs or oip")


def _tag(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--tag {text!r}: write KEY=VALUE")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _show_failure(err: Console, error: CallError, address: str, as_json: bool) -> None:
    if as_json:
        fields = {"code": error.code, "kind": error.kind, "details": error.message, "trailers": dict(error.trailers)}
        print(json.dumps({"error": fields}))
        return
    kind = f" ({error.kind})" if error.kind else ""
    err.print(Text.assemble((f"{error.code}{kind}", "bold red"), f" from {address}: {error.message}"), soft_wrap=True)
    for trailer in ("access-endpoint", "access-attempts", "x-request-id"):
        if trailer in error.trailers:
            err.print(Text(f"    {trailer}: {error.trailers[trailer]}"), soft_wrap=True)
    if error.remedy:
        err.print(Text(f"    {error.remedy}"), soft_wrap=True)
