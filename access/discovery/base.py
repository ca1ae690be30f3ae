"""The contract of a discovery source: read the whole of it, say which files to watch.

A source module imports this module and nothing else of the package. It starts nothing and keeps no
state: who calls `read`, how often, and what happens to a failure is `access.sources`' business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from pydantic import Field

from access.address import fault
from access.errors import DiscoveryError, Problem
from access.fields import (
    EndpointConfig,
    EndpointList,
    Milliseconds,
    Name,
    Section,
    is_model_name,
)
from access.files import FileError, read_text

__all__ = [
    "DiscoveryError",
    "EndpointConfig",
    "EndpointList",
    "Entry",
    "Field",
    "FileError",
    "Milliseconds",
    "Name",
    "Problem",
    "Resolver",
    "Section",
    "Snapshot",
    "SourceConfig",
    "fault",
    "is_model_name",
    "read_text",
]


class SourceConfig(Section):
    """What every source's part of the configuration has; a source adds its own keys."""

    kind: str = Field(description="which source: one of the kinds described here")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source says about one route key.

    Attributes:
        endpoints: distinct addresses; may be empty.
        timeout_ms: most that a call may take; None when the source does not say.
    """

    endpoints: tuple[EndpointConfig, ...]
    timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a source says at one moment.

    Attributes:
        entries: route key -> entry. A key that is missing is no longer announced.
        warnings: what was skipped or looked odd; it never hurts the other entries.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    warnings: Sequence[Problem] = ()


class Resolver(Protocol):
    """One source of endpoints. Constructing starts nothing."""

    @property
    def name(self) -> str:
        """Return the name in logs, metrics and status; the same after a restart."""
        ...

    @classmethod
    def create(cls, config: SourceConfig, folder: Path) -> Self:
        """Make the resolver; relative paths in `config` are relative to `folder`."""
        ...

    def read(self) -> Snapshot:
        """Return the source's whole present state.

        Raises:
            DiscoveryError: it cannot be read as a whole; the caller keeps the last good snapshot.
        """
        ...

    def watch_paths(self) -> Sequence[Path]:
        """Return the files whose change means that `read` should be called again."""
        ...
