"""Every remedy leads somewhere: what a text of a program tells people to use is there, in the program that says it."""

from __future__ import annotations

import ast
import dataclasses
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main
from fixtures.processes import ROOT
from pydantic import BaseModel

from access.config.sections import AccessConfig, ClusterSettings
from access.discovery import RESOLVERS
from dl_inference import _native, cli
from dl_inference.registry.announcing.registration import Registration
from dl_inference.registry.zookeeper import Zookeeper
from dl_inference.serving.limits import ServerLimits
from tf_predict.config import ServerSettings as TensorFlowSettings
from torch_predict.config import ModelSettings, ServerSettings

COMMANDS: dict[str, Any] = {}
"""Words of a command -> it; of `release MODEL` it is `release deploy`."""
for _name, _command in typer.main.get_command(cli.app).commands.items():  # type: ignore[attr-defined]
    COMMANDS |= {f"{_name} {inner}": each for inner, each in getattr(_command, "commands", {}).items()} or {
        _name: _command
    }

ROOMS = {
    "access/": ("access",),
    "dl_inference/client/": ("call",),
    "dl_inference/codec/": ("call",),
    "dl_inference/commands/": tuple(COMMANDS),
    "dl_inference/local/drafting.py": ("new",),
    "dl_inference/local/loading.py": ("check",),
    "dl_inference/local/running.py": ("check", "new"),
    "dl_inference/local/staging.py": ("check",),
    "dl_inference/local/": ("serve",),
    "dl_inference/registry/announcing/": ("predict", "serve"),
    "dl_inference/registry/": tuple(name for name in COMMANDS if name.startswith(("release", "registry"))),
    "dl_inference/serving/": ("predict",),
    "dl_inference/": tuple(COMMANDS),
    "tf_predict/": ("predict", "serve"),
    "torch_predict/draft.py": ("new",),
    "torch_predict/draft_text.py": ("check", "predict"),
    "torch_predict/": ("predict", "serve", "check"),
}
"""Beginning of a path -> the commands that say what is written there."""

MAY_DIFFER = ("dl_inference/commands/", "dl_inference/registry/", "dl_inference/cli.py", "torch_predict/draft_text.py")
"""Where a text is said by one of the commands, not by all of them."""


class Saying(NamedTuple):
    """A text that a program may say."""

    file: str
    line: int
    text: str


def of_python() -> Iterator[Saying]:
    for package in ("access", "dl_inference", "torch_predict", "tf_predict"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
                    yield Saying(str(path.relative_to(ROOT)), node.lineno, node.value)


def of_rust() -> Iterator[Saying]:
    core = ROOT / "dataplane" / "crates" / "core" / "src"
    for path in sorted(core.rglob("*.rs")):
        text = path.read_text().partition("#[cfg(test)]")[0]
        for match in re.finditer(r'"((?:[^"\\]|\\.)*)"', text):
            yield Saying(
                str(path.relative_to(core)), text.count("\n", 0, match.start()) + 1, re.sub(r"{.*?}", "", match[1])
            )


PYTHON, RUST = list(of_python()), list(of_rust())


def options_of(command: str) -> set[str]:
    return {name for each in COMMANDS[command].params for name in (*each.opts, *each.secondary_opts)} | {"--help"}


def commands_in(text: str) -> list[str]:
    """Return the commands that a text names, as `dl-inference registry ls`; `?` for those that are not there."""
    found = []
    for first, second in re.findall(r"\bdl-inference ([a-z]+)(?: ([a-z]+))?", text):
        names = [name for name in (f"{first} {second}", first, f"{first} deploy") if name in COMMANDS]
        group = any(name.startswith(f"{first} ") for name in COMMANDS)
        found.append(names[0] if names else f"{first} deploy" if group else f"? {first}")
    return found


def key_names(model: type[BaseModel]) -> set[str]:
    """Return the names of the keys of a section and of those inside it."""
    names = set()
    for name, each in model.model_fields.items():
        names.add(name)
        names |= (
            key_names(each.annotation)
            if isinstance(each.annotation, type) and issubclass(each.annotation, BaseModel)
            else set()
        )
    return names


ACCESS_KEYS = key_names(AccessConfig) | set(ClusterSettings.model_fields)
MODEL_KEYS = key_names(ModelSettings)


def test_there_are_texts_to_look_at():
    assert len(PYTHON) > 1000
    assert any("--allow-pickle" in each.text for each in PYTHON)
    assert any("max_queue" in each.text for each in RUST)
    assert {"release deploy", "registry ls", "check"} <= set(COMMANDS)


def test_every_command_that_a_text_names_is_there():
    wrong = [(each, name) for each in (*PYTHON, *RUST) for name in commands_in(each.text) if name.startswith("?")]
    assert wrong == []


def test_every_option_that_a_text_names_is_one_of_the_command_that_says_it():
    wrong = []
    for each in PYTHON:
        # A page, whose shell blocks test_docs.py checks; and pip's options.
        if each.file in ("access/config/reference.py", "dl_inference/local/environments.py"):
            continue
        room = next(ROOMS[room] for room in ROOMS if each.file.startswith(room))
        if each.file.startswith(MAY_DIFFER):
            known = set().union(*map(options_of, room))
        else:
            known = set.intersection(*map(options_of, commands_in(each.text) or room))
        wrong += [
            (each.file, each.line, option)
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", each.text)
            if option not in known | {"--version"}
        ]
    assert wrong == []


def test_every_variable_that_a_text_names_is_read():
    names = {f"REGISTRY_{field.name}" for field in dataclasses.fields(Zookeeper)}
    names |= {"REGISTER", *Registration.model_fields, *ACCESS_KEYS, *MODEL_KEYS}
    names |= {*ServerSettings.model_fields, *TensorFlowSettings.model_fields}
    names |= {f"LIMITS__{name}" for name in (*ServerLimits.model_fields, "NAME")}
    # What a process of ours sets for another: `serve`, and an access service that is replaced.
    known = {name.upper() for name in names} | {"PACKAGES_BESIDE", "LISTEN_DESCRIPTORS", "READY_DESCRIPTOR"}
    texts = [
        (each.file, each.line, name)
        for each in (*PYTHON, *RUST)
        for name in re.findall(r"\bDL_INFERENCE_(\w+?)_?\b", each.text)
        if name not in known
    ]
    assert texts == []


@pytest.mark.parametrize("side", ["proxy/", "worker/", "call/", "grpc/"])
def test_every_key_that_a_text_of_the_data_plane_names_is_one_of_the_program_that_says_it(side):
    keys = {"proxy/": ACCESS_KEYS, "worker/": MODEL_KEYS}.get(side, ACCESS_KEYS & MODEL_KEYS)
    named = [
        (each.file, each.line, name)
        for each in RUST
        if each.file.startswith(side) and " " in each.text
        for name in re.findall(
            r"\b(?:limits\.)?((?:max|timeout|admin|attempt|body|stream|header)_[a-z_]+)\b", each.text
        )
    ]
    assert named
    assert [each for each in named if each[2] not in keys] == []


def test_every_key_that_the_configurations_checks_name_is_there():
    sections = [AccessConfig, *(resolver.config for resolver in RESOLVERS.values())]
    keys = ACCESS_KEYS | {name for section in sections for name in key_names(section)}
    keys |= {"cluster", "endpoints", "split", "discovery", "versions", "address", "weight"}
    wrong = [
        (each.line, name)
        for each in PYTHON
        if each.file == "access/config/crosscheck.py"
        for name in re.findall(r"`([a-z_]+)`", each.text)
        if name not in keys
    ]
    assert wrong == []


def test_every_extra_and_every_file_of_ours_that_a_text_names_is_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wrong = []
    for each in (*PYTHON, *RUST):
        wrong += [(each, name) for name in re.findall(r"dl-inference\[([\w-]+)\]", each.text) if name not in extras]
        files = re.findall(r"\b(?:docs|models|deploy)/[\w/.-]+\.(?:md|yaml)", each.text)
        wrong += [(each, name) for name in files if not (ROOT / Path(name)).is_file()]
    assert wrong == []


def test_every_remedy_of_the_error_table_names_what_is_there():
    keys = (
        ACCESS_KEYS | MODEL_KEYS | set(COMMANDS) | {"x-model", "grpc-encoding", "grpc-retry-pushback-ms", "Retry-After"}
    )
    keys |= {"x-api-key", "authorization"}
    wrong = []
    for kind in _native.ERROR_KINDS:
        for name in re.findall(r"`([^`]+)`", kind.remedy):
            key = name.removeprefix("limits.").partition(":")[0]
            if key not in keys and not (name.startswith("dl-inference ") and "?" not in str(commands_in(name))):
                wrong.append((kind, name))
    assert wrong == []
