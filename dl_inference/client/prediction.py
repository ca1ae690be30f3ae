"""What a call is answered with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dl_inference.client.errors import attempts_of
from dl_inference.codec.dtypes import Array

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How a call went; `Prediction` and `Answer` inherit from it.

    Attributes:
        took_ms: time from sending the request to the end of the answer, ms. A client's first call includes connecting.
        request_id: the call's id, which is also in the logs of the access service and of our model servers.
        trailers: the answer's trailing metadata; text values only.
    """

    took_ms: float
    request_id: str
    trailers: Mapping[str, str] = field(repr=False)

    @property
    def endpoint(self) -> str | None:
        """The endpoint that answered; None unless the access service sets ``expose_endpoints``."""
        return self.trailers.get("access-endpoint")

    @property
    def attempts(self) -> int | None:
        """How many attempts the access service made; None from any other server."""
        return attempts_of(self.trailers)


@dataclass(frozen=True, kw_only=True)
class Answer(Reply, Generic[T_co]):
    """What `Client.send` returns.

    Attributes:
        message: the answer, of the class that was passed as `answer`.
    """

    message: T_co


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction(Reply):
    """A model's answer.

    Attributes:
        outputs: the arrays by name. They are writable and own their memory. Texts are object arrays of bytes. The array
            of a Seldon answer has the name "data"; a Seldon answer without an array has no outputs.
        value: Seldon: the payload, whatever its kind. TFS and OIP: the array if there is one output, None if there
            are several.
        names: Seldon: names of the columns.
        tags: Seldon: the tags as JSON values; numbers are floats.
        meta: Seldon: the whole meta, as JSON with camelCase keys. OIP: the answer's parameters. TFS:
            ``signature_name``, where the server returns it.
        model: name of the model that answered, or the name asked for where the server does not return one.
        version: version that answered; None where the server does not return it.
    """

    outputs: dict[str, Array]
    value: Any
    names: tuple[str, ...] = ()
    tags: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    model: str
    version: str | None = None
