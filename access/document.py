"""YAML text -> plain data plus the line of every value. Knows YAML, nothing of the configuration's meaning."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from dl_inference.problem import Problem

Path = tuple[str | int, ...]
"""Keys and positions that lead to a value: ``("models", "digits", "endpoints", 0)``."""

# Aliases may repeat a value; these bound what a few bytes of them can become.
_MAX_VALUES = 1_000_000
_MAX_DEPTH = 64


@dataclass(slots=True)
class Document:
    """What a text says.

    Attributes:
        data: the values; every key is the text that was written (``69:`` is ``"69"``, ``on:`` is ``"on"``). A mapping,
            or a list where that is allowed; an empty mapping where the text cannot be read.
        lines: line of each value that the text holds, from 1.
        problems: what is wrong with the text itself.
    """

    data: Any = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def parse(text: str, name: str, *, may_be_list: bool = False) -> Document:
    """Return the content of a YAML text.

    Args:
        text: the content.
        name: its file's name in problems.
        may_be_list: whether the whole may be a list, too.
    """
    reader = _Reader(name, yaml.SafeLoader(""))
    try:
        root = _root(text)
        if isinstance(root, yaml.MappingNode) or (may_be_list and isinstance(root, yaml.SequenceNode)):
            reader.document.data = reader.value((), root)
        elif root is not None:
            reader.problem(root, "the file is not a mapping of keys to values", "begin with `listen: ...`")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        reader.document.problems.append(Problem(place, f"not YAML: {error.problem or error}", _yaml_remedy(error)))
    except yaml.YAMLError as error:  # characters that YAML does not allow
        reader.document.problems.append(Problem(name, f"not YAML: {' '.join(str(error).split())}"))
    return reader.document


def _root(text: str) -> yaml.Node | None:
    """Compose a text: by libyaml where PyYAML has it, ten times as fast; what that refuses, the other words better."""
    if hasattr(yaml, "CSafeLoader"):
        with contextlib.suppress(yaml.YAMLError, UnicodeEncodeError):
            return yaml.compose(text, yaml.CSafeLoader)
    return yaml.compose(text, yaml.SafeLoader)


def scalar(text: str) -> Any:
    """Return the value of a text from the environment, as the file would give it; itself where that is no YAML."""
    document = parse(f"value: {text}", "")
    if document.problems or "\n" in text or set(document.data) != {"value"}:
        return text
    return document.data["value"]


def place_of(path: Path) -> str:
    """Write a path as people do: ``models.digits.endpoints[0]``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _yaml_remedy(error: yaml.MarkedYAMLError) -> str:
    if "\\t" in str(error.problem):
        return "indent with spaces, not tabs"
    return "texts that begin with '[', '{', '*', '&', '!', '%', '@' or hold ': ' want quotes"


@dataclass(slots=True)
class _Reader:
    name: str
    loader: yaml.SafeLoader
    document: Document = field(default_factory=Document)
    count: int = 0

    def problem(self, node: yaml.Node, message: str, remedy: str = "", path: Path = ()) -> None:
        place = f"{self.name}:{node.start_mark.line + 1} {place_of(path)}".rstrip()
        self.document.problems.append(Problem(place, message, remedy))

    def value(self, path: Path, node: yaml.Node) -> Any:
        self.count += 1
        if self.count > _MAX_VALUES or len(path) > _MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="too many or too deep values", problem_mark=node.start_mark)
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(path, node)
        if isinstance(node, yaml.SequenceNode):
            return [self.value((*path, index), item) for index, item in enumerate(node.value)]
        try:
            return self.loader.construct_object(node)
        except ValueError as error:  # such as the timestamp 2026-13-45
            self.problem(node, f"{node.value!r}: {error}", "put it in quotes", path)
            return str(node.value)

    def mapping(self, path: Path, node: yaml.MappingNode) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(key_node, "a key is a plain text", "", path)
                continue
            key = str(key_node.value)
            if key in result:
                first = self.document.lines[(*path, key)]
                self.problem(key_node, f"the key is on line {first} already", "remove one", (*path, key))
                continue
            self.document.lines[(*path, key)] = key_node.start_mark.line + 1
            result[key] = self.value((*path, key), value_node)
        return result


def find(data: Mapping[str, Any], path: Path) -> Any:
    """Return the value at a path; None where there is none."""
    value: Any = data
    for step in path:
        if isinstance(value, Mapping) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
