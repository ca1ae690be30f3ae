"""Whether a program tells a collector what its calls did, and of how many: DL_INFERENCE_TRACING__ENDPOINT ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dl_inference.variables import variable

PREFIX = variable("tracing__")

Endpoint = Annotated[str, StringConstraints(pattern=r"^http://[^/@?#]+(/[^?#]*)?$")]
Service = Annotated[str, Field(min_length=1, max_length=255)]


class Tracing(BaseModel):
    """Traces of calls, sent by OTLP. All of it holds until a restart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: Endpoint | None = Field(
        None,
        description="collector that spans go to by OTLP over HTTP: `http://HOST:4318`, with `/v1/traces` where it has "
        "no path; null: off",
    )
    sample: float = Field(
        0.01,
        ge=0,
        le=1,
        description="share of the calls that are traced, of those without a `traceparent`; one that has it decides "
        "itself",
    )
    service: Service = Field("dl-inference", description="`service.name` of the spans")

    def document(self) -> dict[str, Any] | None:
        """Return what the data plane is told; None: nothing is traced."""
        return self.model_dump() if self.endpoint is not None else None


def from_environment(environment: Mapping[str, str], service: str) -> Tracing:
    """Read what the environment says.

    Args:
        environment: variables; ``DL_INFERENCE_TRACING__SAMPLE=1``.
        service: the name where none is given.

    Raises:
        ValueError: a value does not fit, or a variable names nothing; names the variable.
    """
    given = {name.removeprefix(PREFIX).lower(): text for name, text in environment.items() if name.startswith(PREFIX)}
    try:
        return Tracing.model_validate({"service": service, **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{PREFIX}{str(first['loc'][0]).upper()}"
        raise ValueError(f"{name}={environment[name]}: {first['msg']}") from None
