"""The contract of a discovery source: read the whole of it; say what to watch, or call when there is something new.

A source module imports this module, the building blocks that tests/project/test_layout.py lists, and no other source.
Who calls `read`, how often, and what happens to a failure is the caller's business (`access.following`): the last good
state stays (`followed`), also over a restart (`saved_state`), and a list that turns empty at once is not believed at
once (`empty_grace`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from access.fields import (
    EndpointConfig,
    EndpointList,
    FrozenList,
    Name,
    Section,
)
from dl_inference.problem import Problem
from dl_inference.registry.schema import AccessDocument, Label, ReleaseDocument, Version
from dl_inference.registry.schema import Protocol as WireProtocol
from dl_inference.serving.limits import Milliseconds, MillisecondsOrOff


class SourceConfig(Section):
    """What every source's part of the configuration has; a source adds its own keys."""

    kind: str = Field(description="which source: one of the kinds described here")


class StaticEntry(Section):
    """The endpoints of one route key."""

    endpoints: EndpointList = Field(description="the endpoints")
    timeout_ms: Milliseconds | None = Field(None, description="time limit of a call, ms")


class LiveSourceConfig(SourceConfig):
    """What a source that is asked over the network has besides: what holds when it cannot be asked."""

    start_timeout_ms: Milliseconds = Field(
        10_000,
        description="how long to wait for its first state at the start, ms; then the saved one of `state_dir` holds",
    )
    empty_grace_ms: MillisecondsOrOff = Field(
        30_000,
        description="endpoints that disappear without `draining` while fewer than half of their model's stay count as "
        "gone only after this time, ms; 0: at once",
    )
    fallback: dict[Name, StaticEntry] = Field(
        {}, description="route key -> its endpoints, while the source has never been reached and nothing was saved"
    )


class Announced(EndpointConfig):
    """An endpoint whose source says more than its address."""

    version: Version | None = Field(None, description="the version that answers when none is asked for")
    versions: Annotated[tuple[Version, ...], FrozenList] = Field(
        (), description="other versions that answer when asked for"
    )
    labels: Annotated[tuple[Label, ...], FrozenList] = Field((), description="labels of versions that it knows itself")


ANY_MODEL = "*"
"""The key of the entry of a source that knows no route keys: it is for the model that has the source as its own."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source says about one route key.

    Attributes:
        endpoints: distinct addresses; may be empty.
        timeout_ms: most that a call may take; None when the source does not say.
        protocol: what the endpoints speak first of all; None when the source does not say.
        release: which version gets which share; None: every endpoint gets its own.
        leaving: addresses that said goodbye: they are missing in `endpoints` on purpose.
        is_release_unknown: there is a release that cannot be used, and none before it is known to the source.
    """

    endpoints: tuple[EndpointConfig, ...]
    timeout_ms: int | None = None
    protocol: WireProtocol | None = None
    release: ReleaseDocument | None = None
    leaving: frozenset[str] = frozenset()
    is_release_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a source says at one moment.

    Attributes:
        entries: route key, or ANY_MODEL, -> entry. A key that is missing is no longer announced.
        warnings: what was skipped or looked odd; it never hurts the other entries.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    warnings: Sequence[Problem] = ()


class Resolver(ABC):
    """One source of endpoints. Constructing starts nothing; those that read a file inherit what they need not do."""

    name: str
    """In logs, metrics and status; the same after a restart."""

    @classmethod
    @abstractmethod
    def create(cls, config: SourceConfig, folder: Path) -> Self:
        """Make the resolver; relative paths in `config` are relative to `folder`."""

    def start(self, changed: Callable[[], None]) -> None:  # noqa: B027  (a file needs none)
        """Begin to follow the source, without waiting for it.

        Args:
            changed: call it, in any thread, when `read` would give something new: a state, a failure, or an end of it.
        """

    @abstractmethod
    def read(self) -> Snapshot:
        """Return the source's whole present state; after `start`.

        A source that is asked over the network answers from memory; only the first time, it waits for its first
        state, for at most `start_timeout_ms`.

        Raises:
            DiscoveryError: it cannot be read as a whole; the caller keeps the last good snapshot.
        """

    def stop(self) -> None:  # noqa: B027
        """End what `start` began; nothing is called afterwards. Also without `start`, and twice."""

    def report(self, document: AccessDocument) -> None:  # noqa: B027
        """Tell the source what has been applied, without waiting for it; the last one said counts."""

    def release_history(self, models: Sequence[str], last: int) -> Mapping[str, Sequence[ReleaseDocument]] | None:
        """Return the last revisions of the models' release documents, the oldest first; None: none are kept.

        It may take seconds, with a limit; called in a thread of the caller's.

        Raises:
            DiscoveryError: they cannot be read now.
        """
        return None

    def watch_paths(self) -> Sequence[Path]:
        """Return the files whose change means that `read` should be called again."""
        return ()
