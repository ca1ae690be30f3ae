"""Write the generated pages of docs/: ``make docs``. tests/project/test_docs.py fails while one of them is stale.

configuration.md comes from `access.config`; errors.md from the native error table and torch_predict's exceptions;
limits.md from `dl_inference.serving.limits`; model.schema.json from `torch_predict.config`; registry-schema.md from
`dl_inference.registry.schema`; api.md from the docstrings of the client and of the hooks (`generate_api.py`).
"""

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

from generate_api import api_page  # noqa: E402  (these are only importable from the checkout's root)

from access.config import reference  # noqa: E402
from dl_inference._native import ERROR_KINDS  # noqa: E402
from dl_inference.registry import schema  # noqa: E402
from dl_inference.serving.limits import CommonLimits, ServerLimits  # noqa: E402
from tf_predict.server import ALWAYS  # noqa: E402
from torch_predict import errors as model_errors  # noqa: E402
from torch_predict.config import ModelSettings  # noqa: E402

_HEAD = """\
# Errors

Written by `make docs` from the error table in the code; do not edit.

A failed call always has a gRPC status other than OK, and a text that says what happened, where and, if known, what to
do. If the access service or a model server caused the error, the trailer `access-error` has its kind.
`dl_errors_total{kind}` of [/metrics](metrics.md) and the access log have it, too.
[troubleshooting.md](troubleshooting.md) begins with the symptoms.

| trailer | on | contains |
|---|---|---|
| `access-error` | errors of the access service, and of endpoints that send it | the kind |
| `access-error-number` | errors to which a hook gave a number; a parameter in streams | the number, an int32 |
| `access-attempts` | every call, OK or not | the number of attempts |
| `access-endpoint` | forwarded calls, if `expose_endpoints` is set | the endpoint of the last attempt |
| `x-request-id` | every call, OK or not | the caller's, if it is 1 to 64 of `A-Z a-z 0-9 . _ -`, else a new one |

The endpoint gets the request id, too, so that you can find a call in all logs.

## Kinds

*Retried* says whether the access service tries the call again before the caller sees the error: at most `max_attempts`
attempts, within the deadline, the retry budget and `limits.max_retry_bytes`, and never after the first byte of an
answer was passed on. All predict and metadata methods are idempotent, except `SendFeedback` and streams; a cluster can
set `idempotent: false`. *Counts* says whether the endpoint's weight is halved ([balancing](balancing.md)).
"""

_PASSED_ON = """\
## Statuses of endpoints

The status of an endpoint is passed on unchanged: code, text, details and trailers.

| status | retried | counts |
|---|---|---|
| a code of `retry_codes` (UNAVAILABLE unless configured) | idempotent methods, on another endpoint | as below |
| a code of `failure_codes` | by `retry_codes` | yes |
| RESOURCE_EXHAUSTED, unless it is about the message's size | once, idempotent methods, on another endpoint | never |
| RESOURCE_EXHAUSTED about the size: `message_too_large`, or a text of gRPC's libraries | by `retry_codes` | never |
| NOT_FOUND, FAILED_PRECONDITION, if another endpoint has answered for the model lately | once, as above | never |
| any status with `grpc-retry-pushback-ms` | after that time, if the deadline leaves it; negative: never | as its code |
| any status with the trailer `access-error: hook` | by `retry_codes` | no: the user's code failed, not the endpoint |
| DEADLINE_EXCEEDED or CANCELLED after 90 % of the attempt's time | as `deadline_exceeded` | as `deadline_exceeded` |
| no gRPC status, but an HTTP status | as its code | as its code |

HTTP statuses become codes as gRPC maps them: 400 INTERNAL, 401 UNAUTHENTICATED, 403 PERMISSION_DENIED, 404
UNIMPLEMENTED, 429, 502, 503 and 504 UNAVAILABLE, all others UNKNOWN. `failure_codes` are UNAVAILABLE, INTERNAL, UNKNOWN
and DATA_LOSS unless configured; for Seldon's methods UNAVAILABLE and DATA_LOSS, as seldon-core's wrapper answers
UNKNOWN to every exception in user code.
"""

_MODEL_SERVER = """\
## What a hook raises

A hook of the PyTorch server may raise `torch_predict.InvalidInput(text)` or `torch_predict.Error(code, text, number)`.
For any other exception, the caller gets a fixed text with the request id, and the log has the traceback under that id.
"""


def errors_page() -> str:
    """Return docs/errors.md."""
    return "\n".join([_HEAD, *_kinds(), "", _PASSED_ON, _MODEL_SERVER, *_model_kinds(), ""])


def _kinds() -> Iterator[str]:
    yield "| kind | code | meaning | retried | counts | remedy |"
    yield "|---|---|---|---|---|---|"
    for kind in ERROR_KINDS:
        meaning, remedy = _sentence(kind.meaning), _sentence(kind.remedy)
        yield f"| `{kind.name}` | {kind.code} | {meaning} | {kind.retried} | {kind.counts} | {remedy} |"


def _sentence(text: str) -> str:
    """Return a text of the table, which has neither a capital letter nor a full stop, as a sentence."""
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")


def _model_kinds() -> Iterator[str]:
    yield "| raised | code | kind | meaning |"
    yield "|---|---|---|---|"
    for error in (model_errors.InvalidInput, model_errors.Error):
        code = "the hook's choice" if error is model_errors.Error else error.code.name
        yield f"| `{error.__name__}` | {code} | `{error.kind}` | {(error.__doc__ or '').splitlines()[0]} |"
    yield "| any other exception of a hook | INTERNAL | `hook` | Its text stays in the log. |"


_SCHEMA = """\
# What is in a registry

Written by `make docs` from `dl_inference/registry/schema.py`; do not edit. [registry.md](registry.md) says who writes
what, and when.

Under the common path of a fleet, by default `/dl-inference`:

| path | holds | how long |
|---|---|---|
| `/models/<model>/endpoints/<address>` | an endpoint | as long as the server's session |
| `/models/<model>/release` | which versions get which share | until it is deleted |
| `/models/<model>/history/<revision>` | the release documents before it, and it | the same |
| `/access/<instance>` | what an access service has applied | as long as its session |

Every document is one JSON object in UTF-8 of at most {size} bytes. When a program changes a document, it keeps keys
that it does not know, because a newer program may have written them. A document with a wrong value is skipped as a
whole, and logged. Names of models and labels: letters, digits, `.`, `_` and `-`, at most 128, a letter or digit first;
a label cannot be a number. A version is a number in quotation marks, such as `"3"`. Keys without a value may be left
out.
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

| | how to set a limit |
|---|---|
| flag | `dl-inference predict MODEL_DIR --limit max_message_bytes=134217728`, repeatable |
| environment | `DL_INFERENCE_LIMITS__MAX_MESSAGE_BYTES=134217728`; the access service reads the same names, and \
`DL_INFERENCE_LIMITS={max_streams: 100}`, which reaches no model server |
| file | `limits: {max_message_bytes: 134217728}` in the folder's model.yaml |

A flag overrides the environment, the environment overrides model.yaml, and model.yaml overrides the default. A change
needs a restart; `dl-inference serve` restarts a model when its model.yaml changes. An unknown name is an error, which
names the nearest known one; `dl-inference check MODEL_DIR` finds it, too. `--limit` also sets `max_queue`, `max_batch`,
`timeout_ms` and `stream_idle_timeout_ms` ([torch_predict.md](torch_predict.md#settings-of-the-process)).

A message passes the client, the access service and the model server: raise `max_message_bytes` on each, and
`max_held_bytes` if several large calls are in flight ([tuning](tuning.md#message-size)).

*TensorFlow* says whether the limit applies to the [TensorFlow server](tensorflow.md), which uses grpcio's server. "once
set" means that grpcio's default applies unless you set a value.

| name | default | range | TensorFlow | meaning |
|---|---|---|---|---|
"""


def limits_page() -> str:
    """Return docs/limits.md."""
    properties = ServerLimits.model_json_schema()["properties"]
    rows = []
    for name, field in ServerLimits.model_fields.items():
        numbers = properties[name]
        bounds = f"{numbers['minimum']}..{numbers['maximum']}" if "minimum" in numbers else "a list"
        there = "no" if name not in CommonLimits.model_fields else "yes" if name in ALWAYS else "once set"
        default = "none" if field.default == () else field.default
        rows.append(f"| `{name}` | {default} | {bounds} | {there} | {field.description} |\n")
    return _LIMITS + "".join(rows)


def model_schema() -> str:
    """Return docs/model.schema.json: what model.yaml may say, for editors and for checks elsewhere."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **ModelSettings.model_json_schema()}
    schema |= {"title": "model.yaml", "description": "Settings of a dl-inference model folder: docs/torch_predict.md."}
    return json.dumps(schema, indent=1) + "\n"


PAGES = {
    "api.md": api_page,
    "configuration.md": reference.markdown,
    "errors.md": errors_page,
    "limits.md": limits_page,
    "model.schema.json": model_schema,
    "registry-schema.md": schema_page,
}


def main() -> None:
    """Write every generated page."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
