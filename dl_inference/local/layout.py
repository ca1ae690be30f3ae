"""What a model folder asks for: which server, which versions, under which names; or why it cannot be served.

Reads; starts nothing and imports neither torch nor tensorflow.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dl_inference.local.look import Look
from dl_inference.local.upkeep import NO_LIMITS, Limits
from dl_inference.names import NAME_RULE, is_name
from dl_inference.problem import Problem
from dl_inference.serving.folder import PYTORCH_FILES, Kind, chosen_numbers, kind_of, version_folders
from dl_inference.serving.given import Given
from dl_inference.serving.limits import Priority
from dl_inference.serving.settings import FILE, ModelFolderError
from tf_predict import repository as saved_models
from torch_predict import repository


class FolderError(Exception):
    """Why a folder cannot be served as it is; every problem on a line of its own.

    Args:
        reason: why.
        remedy: what to do about it.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason, self.remedy = reason, remedy


@dataclass(frozen=True)
class Layout:
    """What a model folder asks for.

    Attributes:
        name: of the model: the folder's.
        path: where it really is, links followed.
        kind: which server.
        places: every version there is -> its folder.
        keys: every version there is -> a text that changes with anything its process is made from.
        served: the versions to serve, ascending; never empty.
        default: the one of them that calls without a version get.
        labels: label -> version, one of `served`.
        aliases: further names of the model.
        timeout_ms: most that a call may take.
        priority: of its calls at most; None: as callers say.
        instances: processes of each version; None: as many as the command line says.
        upkeep: when a process is replaced.
        python: interpreter of its processes; None: the server's own.
        limits: numbers that win over those of model.yaml and of the environment.
        load_timeout_ms: how long a process may take to be ready.
        max_load_memory_bytes: most resident memory that it may have until then.
        allow_signature_change: whether a version may take over whose inputs or outputs differ.
        faults: those of the versions that cannot be started as their files are -> why.
        on_demand: whether the first call that needs it loads it; None: as the command line says.
        idle_unload_s: when it is unloaded that is loaded on demand; None: as the command line says.
        has_fallback: where the default has never served, the latest of the lower versions that does may stand in.
    """

    name: str
    path: Path
    kind: Kind
    places: Mapping[int, Path]
    keys: Mapping[int, str]
    served: tuple[int, ...]
    default: int
    labels: Mapping[str, int]
    aliases: tuple[str, ...]
    timeout_ms: int
    instances: int | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    priority: Priority | None = None
    upkeep: Limits = NO_LIMITS
    python: Path | None = None
    load_timeout_ms: int = 600_000
    max_load_memory_bytes: int | None = None
    allow_signature_change: bool = False
    faults: Mapping[int, tuple[Problem, ...]] = field(default_factory=dict)
    on_demand: bool | None = None
    idle_unload_s: int | None = None
    has_fallback: bool = False


def inspect(folder: Path, seen: Look) -> Layout:
    """Return what a folder asks for.

    Args:
        folder: its name is the model's.
        seen: what it looked like.

    Raises:
        ModelFolderError: it cannot be served, with every problem.
    """
    if len(seen.identity) == 1:  # `look` says why
        raise ModelFolderError([Problem(str(folder), str(seen.identity[0]))])
    name, path = folder.name, folder.resolve()
    problems: list[Problem] = []
    if not is_name(name):
        problems.append(Problem(str(folder), "its name cannot be a model's", f"rename the folder: {NAME_RULE}"))
    found: repository.ModelFolder | saved_models.ModelFolder
    given = Given(os.environ)
    kind = kind_of(path)
    try:
        found = saved_models.find(path, given) if kind == "TensorFlow" else repository.find(path, given)
    except ModelFolderError as error:
        raise ModelFolderError(problems + error.problems) from None
    settings = found.settings
    places = {each.number: each.path for each in found.versions}
    places |= {number: version_folders(path, [])[number] for number in found.faults}
    served = chosen_numbers(settings, sorted(places))
    if kind == "TensorFlow":
        problems += _pytorch_models([path, *places.values()])
    problems += _wrong_names(folder, settings.labels, settings.aliases)
    if problems:
        raise ModelFolderError(problems)
    # What a process reads of model.yaml; a label of PyTorch's concerns the routes only, so that one that moves starts
    # nothing.
    read = settings.model_dump(exclude=_NOT_READ | ({"labels"} if kind == "PyTorch" else set()))
    return Layout(
        name=name,
        path=path,
        kind=kind,
        places=places,
        keys=_keys(path, places, seen, read),
        served=tuple(sorted({*served, *settings.labels.values()})),
        default=max(served),
        labels=settings.labels,
        aliases=tuple(settings.aliases),
        timeout_ms=settings.timeout_ms,
        priority=settings.priority,
        load_timeout_ms=settings.load_timeout_ms,
        max_load_memory_bytes=settings.max_load_memory_bytes,
        allow_signature_change=settings.allow_signature_change,
        faults=found.faults,
        on_demand=None if settings.load is None else settings.load == "on_demand",
        idle_unload_s=settings.idle_unload_s,
        has_fallback=settings.named_versions is None,
        **_of_processes(found),
    )


def _of_processes(found: repository.ModelFolder | saved_models.ModelFolder) -> dict[str, Any]:
    """Return what a PyTorch model's folder says of its processes."""
    if not isinstance(found, repository.ModelFolder):
        return {}
    settings = found.settings
    return {
        "instances": settings.instances,
        "upkeep": Limits(settings.max_memory, settings.max_age_s),
        "python": repository.interpreter(found.path, settings),
    }


_NOT_READ = {
    *("versions", "version_policy", "load_timeout_ms", "max_load_memory_bytes", "allow_signature_change", "golden"),
    *("load", "idle_unload_s", "priority"),
}
"""Settings that concern `serve`, or the first moments of a process: where they change, what serves stays."""


def _pytorch_models(places: Iterable[Path]) -> list[Problem]:
    """Return the PyTorch models that lie beside a SavedModel: nothing says which one is meant."""
    files = (place / name for place in places for name in PYTORCH_FILES)
    return [
        Problem(str(file), "is a PyTorch model beside a SavedModel", "keep one of the two")
        for file in files
        if file.exists()
    ]


def _wrong_names(folder: Path, labels: Iterable[str], aliases: Iterable[str]) -> list[Problem]:
    """Return labels and aliases that no call could ask for, or that would be taken for something else."""
    of_labels = f"{NAME_RULE}; a label cannot be a number"
    wrong = [(f"alias {each!r}", NAME_RULE) for each in aliases if not is_name(each)]
    wrong += [(f"label {each!r}", of_labels) for each in labels if not is_name(each) or each.isdecimal()]
    return [Problem(str(folder / FILE), f"{what} cannot be a name", rule) for what, rule in wrong]


def _keys(path: Path, places: Mapping[int, Path], seen: Look, settings: Mapping[str, object]) -> dict[int, str]:
    """Return each version's key: a version's own files, those that it shares with others, and what concerns both.

    model.yaml is not among them but for the settings that a process reads: a label that moves starts nothing.
    """
    inside = {number: "" if place == path else f"{place.name}/" for number, place in places.items()}
    others = tuple(prefix for prefix in inside.values() if prefix)
    shared = {name: each for name, each in seen.files.items() if not name.startswith(others)}
    shared.pop(FILE, None)
    keys = {}
    for number, prefix in inside.items():
        own = {name: each for name, each in seen.files.items() if prefix and name.startswith(prefix)}
        text = json.dumps(
            [seen.identity, number, sorted(settings.items()), sorted(shared.items()), sorted(own.items())]
        )
        keys[number] = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    return keys
