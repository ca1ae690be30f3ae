"""Flags over environment over file: the plain data of a configuration, and where each of its values came from."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from access import document
from access.config import key_types
from access.config.sections import AccessConfig
from dl_inference.problem import Problem
from dl_inference.registry.variables import is_about_registry
from dl_inference.serving import log
from dl_inference.variables import PREFIX

# Kubernetes puts DL_INFERENCE_PORT, DL_INFERENCE_SERVICE_HOST and more into every container beside a Service that
# is called dl-inference; none of ours ends like that.
_OF_THE_LOG = (log.VARIABLE, log.FORMAT_VARIABLE)
_KUBERNETES = re.compile(r"(.+_)?(SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_.+)?)?)")


class Layers:
    """The file's data with environment and flags laid over it.

    Attributes:
        data: the values, as the file gives them.
        origins: where each came from: ``access.yaml:3``, ``environment X`` or ``flag --x``.
        problems: variables that name nothing.
    """

    def __init__(self, data: dict[str, Any], origins: dict[document.Path, str]) -> None:
        self.data = data
        self.origins = origins
        self.problems: list[Problem] = []

    def add_environment(self, environment: Mapping[str, str], is_foreign: Callable[[str], bool]) -> None:
        """Lay the environment over what there is.

        Args:
            environment: variables.
            is_foreign: tells whether another program reads a variable that is none of ours.
        """
        for variable, text in sorted(environment.items()):
            name = variable.removeprefix(PREFIX)
            words = name.lower().split("__")
            if (
                name == variable
                or _KUBERNETES.fullmatch(name)
                or is_about_registry(variable)
                or variable in _OF_THE_LOG
            ):
                continue
            if words[0] not in AccessConfig.model_fields and is_foreign(variable):
                continue
            path = self._path(variable, words)
            if path is not None:
                self._set(path, _value(text, path), f"environment {variable}")

    def add_flags(self, flags: Mapping[str, Any]) -> None:
        """Lay top-level keys of the command line over what there is."""
        for key, value in flags.items():
            self._set((key,), value, f"flag --{key.replace('_', '-')}")

    def place(self, path: document.Path) -> str:
        """Say where a path is, or where it would have to be: the origin of the nearest value around it."""
        for length in range(len(path), -1, -1):
            if origin := self.origins.get(path[:length]):
                return f"{origin} {document.place_of(path)}".rstrip()
        return document.place_of(path)

    def _path(self, variable: str, words: Sequence[str]) -> document.Path | None:
        """Return the path that a variable names: keys of sections, then names of models or clusters in the file."""
        path: document.Path = ()
        for word in words:
            found = key_types.section(key_types.type_at(path))
            known = list(found.model_fields) if found else list(document.find(self.data, path) or ())
            keys = [key for key in known if re.sub(r"[^a-z0-9]", "_", str(key).lower()) == word]
            if len(keys) != 1 or key_types.type_at((*path, keys[0])) is None:
                place = f"environment {variable}"
                reason = f"{word!r} fits {' and '.join(keys)}" if keys else f"there is no {word!r} {_inside(path)}"
                self.problems.append(Problem(place, reason, key_types.nearest(word, map(str, known))))
                return None
            path = (*path, keys[0])
        return path

    def _set(self, path: document.Path, value: Any, origin: str) -> None:
        target: Any = self.data
        for step in path[:-1]:
            if not isinstance(target.get(step), dict):
                target[step] = {}
            target = target[step]
        target[path[-1]] = value
        for place in [each for each in self.origins if each[: len(path)] == path]:
            del self.origins[place]
        self.origins.update(dict.fromkeys(_nested(value, path), origin))


def _inside(path: document.Path) -> str:
    return f"in {document.place_of(path)}" if path else "in the configuration"


def _value(text: str, path: document.Path) -> Any:
    """Return what a variable's text means where it goes: 69 is a number, unless a name is wanted."""
    value = document.scalar(text)
    is_text = key_types.plain(key_types.type_at(path)) is str
    return text if is_text and value is not None and not isinstance(value, str) else value


def _nested(value: Any, path: document.Path) -> Iterator[document.Path]:
    yield path
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _nested(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _nested(item, (*path, index))
