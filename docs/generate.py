"""Write the generated pages of docs/: ``make docs``. tests/project/test_docs.py fails while one of them is stale.

configuration.md comes from `access.config`; errors.md from the native error table, from torch_predict's, and from the
words below, one row for each kind; limits.md from `dl_inference.serving.limits`; registry-schema.md from
`dl_inference.registry.schema`.
"""

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from access.config import reference  # noqa: E402  (only importable from the checkout's root)
from dl_inference._native import ERROR_KINDS  # noqa: E402
from dl_inference.registry import schema  # noqa: E402
from dl_inference.serving.limits import CommonLimits, ServerLimits  # noqa: E402
from tf_predict.server import ALWAYS  # noqa: E402
from torch_predict import errors as model_errors  # noqa: E402

# How the access service itself retries; tests/project/test_docs.py compares with proxy/retry.rs.
RETRIES = {
    "always": "yes, on another endpoint, whatever the method; costs no budget",
    "idempotent": "idempotent methods, on another endpoint",
    "attempt": "idempotent methods, on another endpoint, when it was `attempt_timeout_ms` that ran out",
    "share": "at another share of the route's split; costs no budget. Without one nothing is left to try",
    "nothing_left": "no: there is nothing left to try",
    "never": "no",
}
# Whether it counts against the endpoint.
BLAME = {"yes": "yes", "no": "no", "time": "yes, if the endpoint held the call for its median latency and 10 ms"}


class Words(NamedTuple):
    """What the page says about one kind; code and order come from the native table."""

    meaning: str
    retry: str
    blame: str
    remedy: str


WORDS = {
    "unknown_method": Words(
        "The path called is no method of the four protocols.",
        "never",
        "no",
        "Call a method of [methods.toml](../protos/methods.toml); reflection lists them.",
    ),
    "bad_route_key": Words(
        "The call names no model and there is no `default_cluster`; or it names two different ones, or its message "
        "cannot be read as far as the name; or it asks for two versions, or for a label where none can be replaced.",
        "never",
        "no",
        "Send the model's name in the metadata `x-model`, which always works; the version as the text says "
        "([routing](routing.md)).",
    ),
    "bad_request": Words(
        "Not a well-formed gRPC request: framing, `grpc-timeout`, too many metadata fields, a message that ends early.",
        "never",
        "no",
        "Mend the caller. The text names what is wrong and the limit.",
    ),
    "no_route": Words(
        "No such model, or no such version of it. The text names the nearest known models, or the versions there are.",
        "never",
        "no",
        "`dl-inference status` lists what is routed.",
    ),
    "message_too_large": Words(
        "A message, either way, beyond `limits.max_message_bytes`.",
        "never",
        "no",
        "Send less at once, or raise the limit here and on the endpoint.",
    ),
    "shed": Words(
        "Too many calls in flight (`max_in_flight` of the cluster or of the process) or too many request bytes held "
        "(`limits.max_held_bytes`).",
        "never",
        "no",
        "Call again later, with back-off; add endpoints or raise the limit.",
    ),
    "denied": Words(
        "A method that changes the endpoint (load, unload, reload, settings), and `admin_methods` is off.",
        "never",
        "no",
        "Set `admin_methods: true`, and send `x-model` to say which endpoint's cluster is meant.",
    ),
    "no_endpoints": Words(
        "No endpoint of the cluster is live. While one has not been tried yet, the call waits up to "
        "`limits.connect_timeout_ms` first.",
        "share",
        "no",
        "`dl-inference status` shows which endpoints are down; the caller may call again.",
    ),
    "draining": Words(
        "The process is stopping.",
        "nothing_left",
        "no",
        "Call again: the connection has got a GOAWAY, and a new one goes elsewhere.",
    ),
    "deadline_exceeded": Words(
        "The caller's deadline, the cluster's `timeout_ms`, the last attempt's `attempt_timeout_ms`, a stream's "
        "`stream_idle_timeout_ms` or the request body's `limits.body_timeout_ms` ran out. The text says which.",
        "attempt",
        "time",
        "Find out why the model is slow, or give it more time.",
    ),
    "connect_failed": Words(
        "The connection could not be made: refused, timed out, a name that does not resolve.",
        "always",
        "yes",
        "Look at the endpoint; the text has its address and the system's reason.",
    ),
    "refused_stream": Words(
        "The endpoint refused the stream, or said GOAWAY before it: it never saw the call. Where no other endpoint is "
        "live, the call goes to the same one once more, on a new connection.",
        "always",
        "no",
        "None is needed, unless it is frequent: then look at the endpoint's limits on streams and connection age.",
    ),
    "connection_lost": Words(
        "The connection broke after the call was sent. The endpoint may have worked on it.",
        "idempotent",
        "yes",
        "Look at the endpoint's log: it crashed, was killed, or the network broke.",
    ),
    "stream_reset": Words(
        "The endpoint reset the stream after the call was sent.",
        "idempotent",
        "yes",
        "Look at the endpoint's log.",
    ),
    "bad_upstream_response": Words(
        "The endpoint's answer has no `grpc-status`, or broken framing.",
        "never",
        "yes",
        "Is it a gRPC server? Is something between that speaks HTTP only?",
    ),
    "cancelled": Words(
        "The caller cancelled. In the last 10 % of its deadline (or 5 ms) this is judged as deadline_exceeded for the "
        "endpoint.",
        "never",
        "no",
        "None.",
    ),
    "internal": Words(
        "A fault of this program. The text is fixed, with the request id.",
        "never",
        "no",
        "Report it, with the log's lines under that request id.",
    ),
}

_HEAD = """\
# Errors

Written by `make docs` from the error tables in the code; do not edit.

A failed call always has a gRPC status other than OK and a text that says what, where and, if known, what to do. Calls
that the access service or a model server answered itself have the trailer `access-error` with the kind below; so has
`dl_errors_total{kind}` of [/metrics](metrics.md), and the access log.

| trailer | on | holds |
|---|---|---|
| `access-error` | errors made here, and an endpoint's own, which passes on | the kind |
| `access-attempts` | every call, OK too | how many attempts there were |
| `access-endpoint` | forwarded calls where `expose_endpoints` is set | the endpoint of the last attempt |
| `x-request-id` | every call, OK too | the caller's, if it is 1 to 64 of `A-Z a-z 0-9 . _ -`, else a new one |

The endpoint gets the request id as well, so that one word finds a call in all logs.

## Kinds

*Retried* is what the access service does by itself before the caller hears of it: at most `max_attempts` attempts,
within the deadline, the retry budget and `limits.max_retry_bytes`, and never after the first byte of an answer was
passed on. All predict and metadata methods are idempotent but `SendFeedback` and streams; a cluster can say
`idempotent: false`. *Counts* is whether the endpoint's weight is halved ([balancing](balancing.md)).
"""

_PASSED_ON = """\
## Statuses of endpoints

What an endpoint answers itself passes through: code, text, details and trailers.

| status | retried | counts |
|---|---|---|
| a code of `retry_codes` (UNAVAILABLE unless configured) | idempotent methods, on another endpoint | as below |
| a code of `failure_codes` | as above | yes |
| RESOURCE_EXHAUSTED | as above | never: every gRPC server answers it to an oversized message |
| any status with the trailer `access-error: hook` | as above | no: the user's code failed, not the endpoint |
| DEADLINE_EXCEEDED or CANCELLED after 90 % of the attempt's time | as `deadline_exceeded` | as `deadline_exceeded` |
| no gRPC status, but an HTTP status | as its code | as its code |

HTTP statuses become codes as gRPC maps them: 400 INTERNAL, 401 UNAUTHENTICATED, 403 PERMISSION_DENIED, 404
UNIMPLEMENTED, 429, 502, 503 and 504 UNAVAILABLE, all others UNKNOWN. `failure_codes` are UNAVAILABLE, INTERNAL, UNKNOWN
and DATA_LOSS unless configured; for Seldon's methods UNAVAILABLE and DATA_LOSS, as seldon-core's wrapper answers
UNKNOWN to every exception in user code.
"""

_MODEL_SERVER = """\
## Kinds of the PyTorch server

It uses the kinds above for what its front finds (`bad_request`, `message_too_large`, `shed`, `deadline_exceeded`,
`draining`, `internal` ...), and these for what comes from the model. A hook may raise
`torch_predict.InvalidInput(text)` or `torch_predict.Error(code, text)`; of any other exception the caller sees a fixed
text with the request id, and the log has the traceback under that id.
"""


def errors_page() -> str:
    """Return docs/errors.md."""
    return "\n".join([_HEAD, *_kinds(), "", _PASSED_ON, _MODEL_SERVER, *_model_kinds(), ""])


def _kinds() -> Iterator[str]:
    yield "| kind | code | meaning | retried | counts | remedy |"
    yield "|---|---|---|---|---|---|"
    for kind, code in ERROR_KINDS:
        words = WORDS[kind]
        yield (
            f"| `{kind}` | {code} | {words.meaning} | {RETRIES[words.retry]} | {BLAME[words.blame]} | {words.remedy} |"
        )


def _model_kinds() -> Iterator[str]:
    yield "| raised | code | kind | meaning |"
    yield "|---|---|---|---|"
    for error in (model_errors.InvalidInput, model_errors.Error):
        code = "the hook's choice" if error is model_errors.Error else error.code.name
        yield f"| `{error.__name__}` | {code} | `{error.kind}` | {(error.__doc__ or '').splitlines()[0]} |"
    yield "| any other exception of a hook | INTERNAL | `hook` | Its text stays in the log. |"
    yield "| by the front | UNAVAILABLE | `model_not_ready` | The model is still loading. |"
    yield "| by the front | NOT_FOUND | `model_not_found` | An OIP request names another model or version. |"


_SCHEMA = """\
# What is in a registry

Written by `make docs` from `dl_inference/registry/schema.py`; do not edit. Who writes it and when:
[registry.md](registry.md).

Under the path that all programs of one fleet share, `/dl-inference` unless they say otherwise:

| path | holds | how long |
|---|---|---|
| `/models/<model>/endpoints/<address>` | an endpoint | as long as the server's session |
| `/models/<model>/release` | which versions get which share | until it is deleted |
| `/models/<model>/history/<revision>` | the release documents before it, and it | the same |
| `/access/<instance>` | what an access service has applied | as long as its session |

Every document is one JSON object in UTF-8, of at most {size} bytes. A key that a program does not know stays when
the program changes the document: a newer one wrote it. A document with a value that cannot be is skipped as a whole,
and named. Names of models and labels: letters, digits, `.`, `_` and `-`, at most 128, a letter or digit first; a
label is no number. A version is a number in quotation marks, as `"3"`. Without a value a key may be left out.
"""

_DOCUMENTS = {
    "Endpoint": schema.EndpointDocument,
    "Release document": schema.ReleaseDocument,
    "releases.VERSION": schema.Release,
    "Access service": schema.AccessDocument,
}


def schema_page() -> str:
    """Return docs/registry-schema.md."""
    return "\n".join([_SCHEMA.format(size=schema.MAX_DOCUMENT_BYTES), *_documents()])


def _documents() -> Iterator[str]:
    for title, document in _DOCUMENTS.items():
        yield f"## {title}\n"
        yield f"{inspect.cleandoc(document.__doc__ or '')}\n"
        yield "| key | type | default | meaning |"
        yield "|---|---|---|---|"
        keys = document.model_json_schema(by_alias=True, ref_template="{model}")["properties"]
        for name, field in document.model_fields.items():
            key = field.alias or name
            default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
            yield f"| `{key}` | {_type(keys[key])} | {default} | {field.description} |"
        yield ""


def _type(found: dict[str, Any]) -> str:
    """Return what a JSON schema allows, in words."""
    if "anyOf" in found:
        return _type(next(each for each in found["anyOf"] if each.get("type") != "null"))
    if "const" in found:
        return json.dumps(found["const"])
    kind = {"array": "list", "object": "mapping", "string": "text", "integer": "whole number"}[found["type"]]
    if "minimum" in found:
        kind += f", {found['minimum']} to {found['maximum']}"
    if "maxLength" in found:
        kind += f", at most {found['maxLength']}"
    return kind


_LIMITS = """\
# Limits of the model servers

Written by `make docs` from `dl_inference/serving/limits.py`; do not edit. Those of the access service, with other
defaults, are in [configuration.md](configuration.md#limits).

| | sets a limit |
|---|---|
| flag | `dl-inference predict MODEL_DIR --limit max_message_bytes=134217728`, repeatable |
| environment | `DL_INFERENCE_LIMITS__MAX_MESSAGE_BYTES=134217728`; the access service reads the same names |
| file | `limits: {max_message_bytes: 134217728}` in the folder's model.yaml |

A flag wins over the environment, that over model.yaml, that over the default. They hold until a restart;
`dl-inference serve` restarts a model whose model.yaml changes. An unknown name is an error with the nearest known one;
`dl-inference check MODEL_DIR` finds it, too. `--limit` also sets `max_queue`, `max_batch`, `timeout_ms` and
`stream_idle_timeout_ms` ([torch_predict.md](torch_predict.md#settings-of-the-process)).

A message passes the client, the access service and the model server: raise `max_message_bytes` on each, and
`max_held_bytes` where several such calls are in flight.

*TensorFlow*: whether the [TensorFlow server](tensorflow.md), which is grpcio's own, has it. "once set": without a value
grpcio's default holds.

| name | default | range | TensorFlow | meaning |
|---|---|---|---|---|
"""


def limits_page() -> str:
    """Return docs/limits.md."""
    properties = ServerLimits.model_json_schema()["properties"]
    rows = []
    for name, field in ServerLimits.model_fields.items():
        bounds = f"{properties[name]['minimum']}..{properties[name]['maximum']}"
        there = "no" if name not in CommonLimits.model_fields else "yes" if name in ALWAYS else "once set"
        rows.append(f"| `{name}` | {field.default} | {bounds} | {there} | {field.description} |\n")
    return _LIMITS + "".join(rows)


PAGES = {
    "configuration.md": reference.markdown,
    "errors.md": errors_page,
    "limits.md": limits_page,
    "registry-schema.md": schema_page,
}


def main() -> None:
    """Write every generated page."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
