"""What a call is answered with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dl_inference.client.errors import attempts_of
from dl_inference.codec.dtypes import Array

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How a call went.

    Attributes:
        took_ms: from sending to the whole answer, ms; of a client's first call, the connection included.
        request_id: the call's, which the logs of the access service and of our model servers have, too.
        trailers: the answer's trailing metadata, texts only.
    """

    took_ms: float
    request_id: str
    trailers: Mapping[str, str] = field(repr=False)

    @property
    def endpoint(self) -> str | None:
        """Return the endpoint that answered, where the access service exposes it (``expose_endpoints``)."""
        return self.trailers.get("access-endpoint")

    @property
    def attempts(self) -> int | None:
        """Return how many attempts the access service made; None from any other server."""
        return attempts_of(self.trailers)


@dataclass(frozen=True, kw_only=True)
class Answer(Reply, Generic[T_co]):
    """What `Client.send` gives: a message as it came.

    Attributes:
        message: of the class that was asked for.
    """

    message: T_co


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction(Reply):
    """What a model answered.

    Attributes:
        outputs: arrays by name, writable and owning their memory. Texts are object arrays of bytes. Seldon's ``data``
            is the output "data"; a Seldon answer without an array has none.
        value: Seldon: what the message holds (docs/client.md). TFS and OIP: the only array; None where there are
            several outputs.
        names: Seldon's names of the columns.
        tags: Seldon's tags, JSON's values; numbers are floats.
        meta: Seldon: the whole meta, as JSON with camelCase keys. OIP: the answer's parameters. TFS:
            ``signature_name``, where the server says it.
        model: the name of the model that answered; as asked for, where the server does not say.
        version: its version, where the server says it.
    """

    outputs: dict[str, Array]
    value: Any
    names: tuple[str, ...] = ()
    tags: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    model: str
    version: str | None = None
