"""What is in the registry: paths, endpoint documents, release documents. No network, no clock.

Under the chroot that all programs of one fleet share::

    /models/<model>/endpoints/<address>   ephemeral; an `EndpointDocument`
    /models/<model>/release               a `ReleaseDocument`: which versions get which share
    /models/<model>/history/<revision>    the release documents before it, and it
    /access/<instance>                    ephemeral; an `AccessDocument`: what an access service has applied

Every document is a JSON object. A key that a reader does not know is kept when it writes the document back: a newer
program wrote it.
"""

import re
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from dl_inference import address
from dl_inference.names import NAME_RULE, is_name
from dl_inference.serving.limits import Priority

MODELS = "/models"
ACCESS = "/access"

MAX_DOCUMENT_BYTES = 64 * 1024
"""An endpoint's document has a few hundred bytes; ZooKeeper itself takes 1 MiB, and 10,000 of those are too many."""

# As TF Serving's int64 is written: two spellings of one number would be two versions.
VERSION = re.compile(r"0|[1-9][0-9]{0,18}")
MAX_VERSION = 2**63 - 1

MAX_WEIGHT = 65_535
"""The largest share of an endpoint or a version, wherever it is written."""

Phase = Literal["staging", "canary", "production"]
Protocol = Literal["tfs", "seldon", "oip"]


class SchemaError(ValueError):
    """A document that cannot be used; the message says which key, its value and what it should be."""


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(NAME_RULE)
    return text


def _version(text: str) -> str:
    if not VERSION.fullmatch(text) or int(text) > MAX_VERSION:
        raise ValueError('a version is a number of at most 63 bits in quotation marks, like "3"')
    return text


def _label(text: str) -> str:
    if text.isdecimal():
        raise ValueError("a label cannot be a number: that would be a version")
    return _name(text)


def _callable(text: str) -> str:
    if reason := address.fault(text):
        raise ValueError(reason)
    if text.startswith("unix:"):
        raise ValueError("a unix socket cannot be called from another machine")
    host, _ = address.split(text)
    if host == "::" or re.fullmatch(r"0+(\.0+)*", host):
        raise ValueError("0.0.0.0 and [::] are not addresses that others can call: announce another one")
    return text


ModelName = Annotated[str, AfterValidator(_name)]
Version = Annotated[str, AfterValidator(_version)]
Label = Annotated[str, AfterValidator(_label)]
Milliseconds = Annotated[int, Field(ge=1, le=86_400_000)]
EndpointAddress = Annotated[str, AfterValidator(_callable)]
EndpointWeight = Annotated[int, Field(ge=1, le=MAX_WEIGHT)]
EndpointCapacity = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Document(BaseModel):
    """A document of the registry: values keep their type, nothing changes later, unknown keys stay."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    max_bytes: ClassVar[int] = MAX_DOCUMENT_BYTES

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a document.

        Raises:
            SchemaError: too large, no JSON object, or a value that cannot be.
        """
        if len(data) > cls.max_bytes:
            raise SchemaError(f"{len(data)} bytes; a document has at most {cls.max_bytes}")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the document"
            message = first["msg"].removeprefix("Value error, ")
            raise SchemaError(f"{place}: {repr(first['input'])[:82]}: {message}") from None

    def dump(self) -> bytes:
        """Return the document as it is written: without those keys of ours that have no value."""
        return self.model_dump_json(by_alias=True).encode()

    @model_serializer(mode="wrap")
    def _without_the_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unknown = self.model_extra or {}
        return {key: value for key, value in serialize(self).items() if value is not None or key in unknown}


class EndpointDocument(Document):
    """One address that answers for one model."""

    schema_: Literal[1] = Field(1, alias="schema", description="1; a reader skips other numbers")
    address: EndpointAddress = Field(description="`host:port` or `[v6]:port`, as others call it")
    protocol: Protocol = Field(description="`tfs`, `seldon` or `oip`: whose messages it answers first of all")
    model: ModelName = Field(description="the route key")
    version: Version | None = Field(None, description="the version that answers when none is asked for")
    versions: tuple[Version, ...] = Field((), description="other versions that answer when asked for")
    labels: tuple[Label, ...] = Field((), description="labels that it knows itself")
    weight: EndpointWeight = Field(1, description="share of the calls among its siblings")
    capacity: EndpointCapacity | None = Field(None, description="calls at once that it can take")
    state: Literal["ready", "draining"] = Field(
        "ready", description="`draining`: the server is about to stop and gets no more calls"
    )
    program: str = Field("", max_length=200, description="name and version of the program")
    instance: str = Field(
        "", max_length=64, description="drawn by each process: tells a restart from a second announcer"
    )
    since: str = Field("", max_length=40, description="when it announced itself, UTC, ISO 8601")


class Release(Document):
    """What one version of a model gets."""

    phase: Phase = Field(description="`staging`: only for calls that ask for it; `canary`, `production`: a share too")
    weight: Annotated[int, Field(ge=0, le=MAX_WEIGHT)] | None = Field(
        None, description="share of the calls that ask for no version; none: the model's"
    )
    timeout_ms: Milliseconds | None = Field(None, description="time limit of a call, ms; none: the model's")
    attempt_timeout_ms: Milliseconds | None = Field(
        None, description="after this time a call is tried on another endpoint, ms; none: the model's"
    )
    priority: Priority | None = Field(
        None, description="`high`, `normal` or `low`: how much its calls matter at most; none: the model's"
    )


class ReleaseDocument(Document):
    """Which versions of a model get which share: versioned, and taken over as a whole."""

    schema_: Literal[1] = Field(1, alias="schema", description="1; a reader keeps its last one at other numbers")
    model: ModelName = Field(description="the route key")
    revision: Annotated[int, Field(ge=1, le=2**53)] = Field(description="1 more with every change")
    author: str = Field("", max_length=200, description="who changed it")
    time: str = Field("", max_length=40, description="when, UTC, ISO 8601")
    reason: str = Field("", max_length=1000, description="reason of the change")
    weight: Annotated[int, Field(ge=0, le=MAX_WEIGHT)] | None = Field(
        None, description="of releases that name none; none: 100"
    )
    timeout_ms: Milliseconds | None = Field(None, description="none: the access service's")
    attempt_timeout_ms: Milliseconds | None = Field(None, description="none: the access service's")
    priority: Priority | None = Field(None, description="none: the access service's")
    releases: dict[Version, Release] = Field(description="version -> what it gets", min_length=1, max_length=1000)
    labels: dict[Label, Version] = Field({}, description="label -> version; both can be asked for", max_length=1000)

    def shares(self) -> dict[str, int]:
        """Return version -> share of the calls that ask for no version; those without a share are left out."""
        default = 100 if self.weight is None else self.weight
        weights = {
            version: default if release.weight is None else release.weight
            for version, release in self.releases.items()
            if release.phase != "staging"
        }
        return {version: weight for version, weight in weights.items() if weight}

    def says_the_same(self, other: "ReleaseDocument") -> bool:
        """Whether both say the same, whoever wrote them and when."""
        about_it = {"revision", "author", "time", "reason"}
        return self.model_dump(exclude=about_it) == other.model_dump(exclude=about_it)

    def faults(self) -> list[str]:
        """Return what makes no sense in it although every value may be; empty when it can be routed."""
        found = [
            f"label {label!r} is of version {version}, which is not released"
            for label, version in self.labels.items()
            if version not in self.releases
        ]
        if not self.shares():
            found.append(
                "no release in production or canary has a weight above 0: calls without a version had nowhere to go"
            )
        return found


class AccessDocument(Document):
    """What one access service has applied, for `dl-inference release show`."""

    max_bytes: ClassVar[int] = 1024 * 1024  # a line for each of thousands of models

    schema_: Literal[1] = Field(1, alias="schema", description="1")
    listen: tuple[str, ...] = Field((), description="the addresses that it listens on")
    host: str = Field("", max_length=253, description="the machine's name")
    program: str = Field("", max_length=200, description="name and version of the program")
    applied: dict[str, tuple[int, str]] = Field(
        {}, description="model -> [revision of its release document, since when]"
    )


def endpoints_path(model: str) -> str:
    """Return the parent of a model's endpoints.

    Raises:
        ValueError: not a model's name.
    """
    return f"{MODELS}/{_name(model)}/endpoints"


def endpoint_path(model: str, address: str) -> str:
    """Return the place of an endpoint's document: its name is the address, so that one address is there once."""
    return f"{endpoints_path(model)}/{quote(address, safe=':[]')}"


def release_path(model: str) -> str:
    """Return the place of a model's release document."""
    return f"{MODELS}/{_name(model)}/release"


def history_path(model: str, revision: int | None = None) -> str:
    """Return the parent of a model's release documents, or the place of one of them."""
    return f"{MODELS}/{_name(model)}/history" + ("" if revision is None else f"/{revision:010d}")
