"""docs/configuration.md, written from the models of `access.config.sections`: ``python -m access.config.reference``.

Nobody else knows a default; a test fails when the page is stale.
"""

import inspect
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from access.config.sections import (
    AccessConfig,
    CallLimits,
    ClusterConfig,
    ClusterSettings,
    HealthCheck,
    Limits,
    Metrics,
    ModelConfig,
    Route,
    SplitTarget,
    Uris,
)
from access.discovery import RESOLVERS
from access.fields import EndpointConfig, Section
from access.listening import ListenerTls
from access.sharing.config import SharedLimits
from access.upstream import UpstreamTls
from dl_inference.variables import PREFIX

_HEAD = f"""\
# Configuration

Written by `python -m access.config.reference` from `access/config/sections.py`; do not edit.

`dl-inference access --config access.yaml` reads this file. `dl-inference check access.yaml` reports every mistake in
it; if there is none, it prints the routes, and with `--all` the effective values and where each comes from. A flag
overrides the environment, the environment overrides the file, and the file overrides the default. The name of a
variable is `{PREFIX}` and the key in capitals, with `__` between the levels: `{PREFIX}LISTEN=0.0.0.0:8500`,
`{PREFIX}LIMITS__MAX_STREAMS=2000`. Write its value as in the file. Unknown keys are errors.

A change of the file is applied while the service runs, within about a second. If it has a mistake, the service logs it
and keeps the old state. Keys that need a restart say so.

Names of models, clusters, versions and labels: letters, digits, `.`, `_` and `-`, at most 128, a letter or digit first.
Addresses: `host:port`, `[v6]:port` or `unix:/path`.
"""


def markdown() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    yield from _section("access.yaml", AccessConfig)
    yield from _section("listen: tls", ListenerTls)
    yield from _section("limits", Limits)
    yield from _section("metrics", Metrics)
    yield from _section("uris", Uris)
    yield from _section("cluster_defaults", ClusterSettings)
    yield "The same keys are allowed in every cluster, and in every target with its own `endpoints` or `discovery`.\n"
    yield from _section("tls of a cluster", UpstreamTls)
    yield from _section("health_check", HealthCheck)
    yield from _section("model_limits", CallLimits)
    yield "The same keys are those of a model's `limits`.\n"
    yield from _section("shared_limits", SharedLimits)
    yield from _section("clusters.NAME", ClusterConfig, ClusterSettings)
    yield from _section("Endpoints", EndpointConfig)
    yield from _section("models.NAME", ModelConfig, ClusterSettings)
    yield from _section("models.NAME.versions.VERSION", Route, ClusterSettings)
    yield from _section("split[]", SplitTarget, ClusterSettings)
    yield "## Discovery sources\n"
    for kind, source in sorted(RESOLVERS.items()):
        yield from _section(f"kind: {kind}", source.config, level=3)


def _section(
    title: str, section: type[Section], without: type[BaseModel] | None = None, level: int = 2
) -> Iterator[str]:
    """Yield a heading, the model's docstring and a table of its keys but those of `without`."""
    yield f"{'#' * level} {title}\n"
    yield f"{inspect.cleandoc(section.__doc__ or '')}\n"
    rows = ["| key | default | meaning |", "|---|---|---|"]
    hidden = without.model_fields if without else {}
    for name, field in section.model_fields.items():
        if name not in hidden:
            rows.append(f"| `{name}` | {_default(field)} | {(field.description or '').replace('|', chr(92) + '|')} |")
    yield "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    return f"`{json.dumps(value)}`"


if __name__ == "__main__":
    print(markdown(), end="")
