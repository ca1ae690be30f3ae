"""What flags and the environment say in place of model.yaml: checked names, and where each value is from.

Settable are the limits, and those settings of model.yaml that are whole numbers (`max_queue`, `timeout_ms` ...).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import BaseModel

from dl_inference.problem import Problem
from dl_inference.serving.limits import OF_THE_ACCESS_SERVICE, ServerLimits
from dl_inference.variables import variable as variable_of

LIMITS_PREFIX = variable_of("limits__")
"""As the access service writes keys of its `limits`: two underscores between the levels."""


class Value(NamedTuple):
    """One value that replaces model.yaml's.

    Attributes:
        path: its keys in model.yaml.
        text: the value as it was given.
        origin: for people: ``DL_INFERENCE_MAX_QUEUE=5`` or ``--limit max_queue=5``.
    """

    path: tuple[str, ...]
    text: str
    origin: str


@dataclass(frozen=True)
class Given:
    """What was given beside model.yaml; a flag wins over a variable, that over the file.

    Attributes:
        environment: variables: ``DL_INFERENCE_LIMITS__MAX_STREAMS``, ``DL_INFERENCE_MAX_QUEUE``.
        flags: name -> value, of `predict --limit`.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)

    def values(self, settings: type[BaseModel], problems: list[Problem]) -> list[Value]:
        """Return what is given of these settings, the ones that win last; unknown names become problems."""
        return [*self._variables(settings, problems), *self._flags(settings, problems)]

    def _variables(self, settings: type[BaseModel], problems: list[Problem]) -> Iterator[Value]:
        limits, numbers = limits_of(settings), numbers_of(settings)
        for name in numbers:
            variable = variable_of(name)
            if variable in self.environment:
                yield Value((name,), self.environment[variable], f"{variable}={self.environment[variable]}")
        for variable, text in sorted(self.environment.items()):
            if not variable.startswith(LIMITS_PREFIX):
                continue
            name = variable.removeprefix(LIMITS_PREFIX).lower()
            if name in limits:
                yield Value(("limits", name), text, f"{variable}={text}")
            elif name not in OF_THE_ACCESS_SERVICE and name not in ServerLimits.model_fields:
                problems.append(unknown(f"environment {variable}", name, limits))

    def _flags(self, settings: type[BaseModel], problems: list[Problem]) -> Iterator[Value]:
        limits, numbers = limits_of(settings), numbers_of(settings)
        for name, text in self.flags.items():
            origin = f"--limit {name}={text}"
            if name in limits:
                yield Value(("limits", name), text, origin)
            elif name in numbers:
                yield Value((name,), text, origin)
            else:
                problems.append(unknown(origin, name, [*limits, *numbers]))


NOTHING = Given()


def limits_of(settings: type[BaseModel]) -> list[str]:
    """Return the names of the limits that a server has."""
    kind: Any = settings.model_fields["limits"].annotation
    return list(kind.model_fields)


def numbers_of(settings: type[BaseModel]) -> list[str]:
    """Return the keys of model.yaml that are whole numbers."""
    return [name for name, each in settings.model_fields.items() if each.annotation is int]


def unknown(place: str, name: str, known: Iterable[str]) -> Problem:
    """Return the problem of a name that nothing has, with the nearest known one."""
    names = list(known)
    if name in ServerLimits.model_fields:
        message = f"this server has no {name}"
    elif name in OF_THE_ACCESS_SERVICE:
        message = f"{name} is the access service's"
    else:
        message = "is not a known key"
    (near,) = difflib.get_close_matches(name, names, 1, 0)
    return Problem(place, message, f"did you mean {near!r}? known: {', '.join(names)}")
