"""Endpoints written into the configuration itself, in the form that every source gives them."""

from pathlib import Path
from typing import Self

from pydantic import Field

from access.discovery.base import Entry, Resolver, Snapshot, SourceConfig, StaticEntry
from access.fields import Name


class StaticConfig(SourceConfig):
    """A table of route keys with their `endpoints` and, if wanted, their `timeout_ms`."""

    entries: dict[Name, StaticEntry] = Field(description="route key -> its endpoints")


class StaticResolver(Resolver):
    """Says always the same: what the configuration holds."""

    name = "static"

    def __init__(self, config: StaticConfig) -> None:
        self._config = config

    @classmethod
    def create(cls, config: SourceConfig, folder: Path) -> Self:
        """Make the resolver; there are no paths in the configuration."""
        return cls(StaticConfig.model_validate(config))

    def read(self) -> Snapshot:
        """Return the configured entries."""
        return Snapshot({key: Entry(entry.endpoints, entry.timeout_ms) for key, entry in self._config.entries.items()})
