"""access.yaml, environment and flags -> one validated configuration, or every problem at once, each with its place."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from access import document
from access.config import problems
from access.config.layers import Layers
from access.config.sections import AccessConfig
from access.errors import ConfigError
from access.files import FileError, read_text
from dl_inference.problem import Problem

MAX_FILE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that holds together.

    Attributes:
        config: the effective values.
        path: the file; the working folder where there is none.
        origins: where each given value came from: ``access.yaml:3``, ``environment X`` or ``flag --x``; what is
            not here has its default.
    """

    config: AccessConfig
    path: Path
    origins: Mapping[document.Path, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Return the folder that relative paths start at."""
        return self.path.parent

    def origin(self, path: document.Path) -> str:
        """Say where the value at a path came from."""
        return self.origins.get(path, "default")


def load(
    path: Path,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    is_foreign: Callable[[str], bool] = lambda variable: False,
) -> Loaded:
    """Read the configuration.

    Args:
        path: access.yaml.
        flags: top-level keys given on the command line; they win over everything.
        environment: variables; ``os.environ`` when not given. ``DL_INFERENCE_LIMITS__MAX_STREAMS`` is
            ``limits.max_streams``; values are written as in the file.
        is_foreign: tells whether another program on this machine reads a variable that is none of the configuration's;
            any other one is a problem.

    Raises:
        ConfigError: holds every problem found.
    """
    try:
        text = read_text(path, MAX_FILE_BYTES)
    except FileError as error:
        remedy = "name the configuration, a file such as access.yaml"
        raise ConfigError([Problem(str(path), str(error).removeprefix(f"{path}: "), remedy)]) from error
    parsed = document.parse(text, path.name)
    layers = Layers(parsed.data, {place: f"{path.name}:{line}" for place, line in parsed.lines.items()})
    layers.add_environment(os.environ if environment is None else environment, is_foreign)
    layers.add_flags(flags or {})
    found = [*parsed.problems, *layers.problems]
    if not parsed.data and parsed.problems:
        # The text could not be read: whatever it leaves out is no problem of its own.
        raise ConfigError(found)
    config = _validated(layers, found)
    found += problems.of_agreement(layers, path.name)
    if config is None or found:
        raise ConfigError(sorted(dict.fromkeys(found), key=problems.by_line))
    return Loaded(config, path, layers.origins)


def load_without_file(
    defaults: Mapping[str, Any],
    *,
    flags: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    is_foreign: Callable[[str], bool] = lambda variable: False,
) -> Loaded:
    """Return a configuration without a file, for who brings the routes himself.

    Args:
        defaults: top-level keys in place of the configuration's own defaults.
        flags: as in `load`.
        environment: as in `load`.
        is_foreign: as in `load`.

    Raises:
        ConfigError: holds every problem found.
    """
    layers = Layers(dict(defaults), {})
    layers.add_environment(os.environ if environment is None else environment, is_foreign)
    layers.add_flags(flags)
    found = layers.problems
    config = _validated(layers, found)
    if config is None or found:
        raise ConfigError(found)
    return Loaded(config, Path(), layers.origins)


def _validated(layers: Layers, found: list[Problem]) -> AccessConfig | None:
    """Return the configuration; None, and its problems added to `found`, where values do not fit."""
    try:
        return AccessConfig.model_validate(layers.data)
    except ValidationError as error:
        found += problems.of_values(error, layers)
        return None
