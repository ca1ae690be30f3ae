"""The building blocks of the configuration: the base of every section, and the types of single values."""

import hmac
import os
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, SecretStr
from pydantic_core import PydanticCustomError

from dl_inference import address
from dl_inference.code import Code as GrpcCode
from dl_inference.names import NAME_RULE, is_name
from dl_inference.registry.schema import MAX_WEIGHT

_CODES = tuple(code.name for code in GrpcCode if code is not GrpcCode.OK)


class Section(BaseModel):
    """A mapping of the configuration: unknown keys are errors, values keep their type, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)


def problem(message: str, remedy: str = "") -> PydanticCustomError:
    """Make a validation error that carries its remedy."""
    return PydanticCustomError("access", "{message}", {"message": message, "remedy": remedy})


def _checked_address(text: str, *, port_zero: bool = False) -> str:
    if reason := address.fault(text, port_zero=port_zero):
        raise problem(f"{text!r}: {reason}", "write host:port, [v6]:port or unix:/path")
    return text


def _checked_name(name: str) -> str:
    if not is_name(name):
        raise problem(f"{name!r} is not a name", NAME_RULE)
    return name


def _checked_code(code: str) -> str:
    if code not in _CODES:
        raise problem(f"{code!r} is not a gRPC code", f"use one of {', '.join(_CODES)}")
    return code


def _frozen_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _secret(value: Any) -> Any:
    if not isinstance(value, str | SecretStr | None):
        raise problem("a password is a text", "put it in quotes")  # without the value, as pydantic would say
    return value


def _hidden(secret: SecretStr | None) -> str | None:
    """Return what the configuration shows: another text for another password, from which nobody can learn it."""
    if secret is None:
        return None
    return f"hidden {hmac.digest(_SALT, secret.get_secret_value().encode(), 'sha256').hex()[:8]}"


# Drawn by each process, so that what is shown cannot be tried out elsewhere.
_SALT = os.urandom(16)

Secret = Annotated[SecretStr, BeforeValidator(_secret), PlainSerializer(_hidden)]
EndpointAddress = Annotated[str, AfterValidator(_checked_address)]
ListenAddress = Annotated[str, AfterValidator(partial(_checked_address, port_zero=True))]
Name = Annotated[str, AfterValidator(_checked_name)]
Code = Annotated[str, AfterValidator(_checked_code)]
Codes = Annotated[tuple[Code, ...], BeforeValidator(_frozen_list)]
Weight = Annotated[int, Field(ge=1, le=MAX_WEIGHT)]
FrozenList = BeforeValidator(_frozen_list)


class EndpointConfig(Section):
    """One endpoint; a plain text is its address with weight 1."""

    address: EndpointAddress = Field(description="`host:port`, `[v6]:port` or `unix:/path`; the endpoint's identity")
    weight: Weight = Field(1, description=f"share of the calls among the cluster's endpoints, 1..{MAX_WEIGHT}")


def _address_alone(value: Any) -> Any:
    return {"address": value} if isinstance(value, str) else value


def _distinct(endpoints: tuple[EndpointConfig, ...]) -> tuple[EndpointConfig, ...]:
    seen: dict[str, str] = {}
    for endpoint in endpoints:
        key = address.normal(endpoint.address)
        if key in seen:
            other = f", as {seen[key]} too" if seen[key] != endpoint.address else ""
            raise problem(
                f"endpoint {endpoint.address} appears twice{other}", "name it once, with the sum of the weights"
            )
        seen[key] = endpoint.address
    return endpoints


EndpointList = Annotated[
    tuple[Annotated[EndpointConfig, BeforeValidator(_address_alone)], ...],
    FrozenList,
    Field(min_length=1),
    AfterValidator(_distinct),
]
