"""Make a model folder for a model file: hooks, settings and samples to start from. Nothing of the file runs here."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dl_inference.local.running import run
from dl_inference.names import NAME_RULE, is_name
from dl_inference.problem import Problem
from dl_inference.serving.folder import PYTORCH_FILES
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.settings import FILE
from torch_predict import draft_text, repository
from torch_predict.errors import PickleNotAllowed

PROGRAM = (sys.executable, "-P", "-m", "torch_predict.draft")
_BY_HAND = "export the model (torch.export.save, model.pt2), or make the folder by hand, with a model.py"
_INPUT = re.compile(r"([^=\s]+)=([a-z]+\d*)\[([-\d, ]*)\]")
_DTYPES = (
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64"),
)


class DraftError(Exception):
    """Why a folder was not made."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = [*problems]


@dataclass(frozen=True)
class Drafted:
    """What was made.

    Attributes:
        files: their names in the folder.
        inputs: of the model, for people.
        outputs: the same.
        why: why there are no samples; empty where there are.
    """

    files: tuple[str, ...]
    inputs: str
    outputs: str
    why: str


def draft(folder: Path, source: Path, inputs: Sequence[str], *, timeout_s: float) -> Drafted:
    """Make a model folder; either all of it is there in the end, or nothing.

    Args:
        folder: which to make; it is missing or empty. Its name is the model's.
        source: the model file.
        inputs: ``NAME=DTYPE[SIZE,...]`` of each input, for a model that does not tell them.
        timeout_s: most time that the model may take to be loaded and called.

    Raises:
        DraftError: the folder is not empty, the file is no program, or it cannot be loaded.
    """
    _check(folder, source)
    specs = [_spec(text) for text in inputs]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as place:
        made = Path(place, folder.name)
        made.mkdir()
        file = made / f"model{source.suffix}"
        shutil.copyfile(source, file)
        problems = repository.check(made)
        if problems:
            raise DraftError([_of_source(each, file, source) for each in problems])
        (made / FILE).write_text(draft_text.MODEL_YAML, encoding="utf-8")
        told, end = run([*PROGRAM, ServeOptions(model_dir=made).model_dump_json(), json.dumps(specs)], timeout_s)
        found = told[-1] if told else {}
        if end:
            text = found.get("error") or f"the process that loads it {end}"
            raise DraftError([_of_source(Problem(str(file), text.removeprefix(f"{file}: ")), file, source)])
        text = draft_text.readme(folder.name, source.name, file.name, has_samples=bool(found["samples"]))
        (made / "README.md").write_text(text, encoding="utf-8")
        os.rename(made, folder)  # over an empty one, too
    return _drafted(folder, found)


def _drafted(folder: Path, found: Mapping[str, Any]) -> Drafted:
    files = sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())
    return Drafted(tuple(files), found["inputs"], found["outputs"], found["why"])


def _check(folder: Path, source: Path) -> None:
    if not is_name(folder.name):
        raise DraftError([Problem(str(folder), f"{folder.name!r} cannot be a model's name", NAME_RULE)])
    if folder.exists() and not folder.is_dir():
        raise DraftError([Problem(str(folder), "is a file", "name a new folder")])
    first = min((each.name for each in folder.iterdir()), default=None) if folder.exists() else None
    if first is not None:
        raise DraftError(
            [Problem(str(folder), f"is not empty: it holds {first}", "name a folder that is not there yet")]
        )
    if not source.is_file():
        raise DraftError([Problem(str(source), "is not a file", "name a model file: model.pt2 of torch.export.save")])
    suffixes = sorted({Path(name).suffix for name in PYTORCH_FILES})
    if source.suffix not in suffixes:
        text = f"has the suffix {source.suffix!r}, and not one of {', '.join(suffixes)}"
        raise DraftError([Problem(str(source), text, "save the model with torch.export.save, as model.pt2")])


def _of_source(problem: Problem, file: Path, source: Path) -> Problem:
    """Return a problem with the file that the user named in place of the copy."""
    texts = [text.replace(str(file), str(source)) for text in (problem.place, problem.message, problem.remedy)]
    if Path(problem.place).name == "model.py":  # which is not there: the file holds no program
        text = "holds weights, and no program that could be run: class Model() is missing"
        return Problem(str(source), text, _BY_HAND)
    if problem.message == PickleNotAllowed(file).problem.message:
        return Problem(str(source), problem.message, _BY_HAND)
    return replace(problem, place=texts[0], message=texts[1], remedy=texts[2])


def _spec(text: str) -> tuple[str, str, list[int]]:
    match = _INPUT.fullmatch(text)
    if match is None or match[2] not in _DTYPES:
        types = ", ".join(_DTYPES)
        raise DraftError(
            [Problem("--input", f"{text!r} is no NAME=DTYPE[SIZE,...]", f"as x=float32[-1,4]; types: {types}")]
        )
    try:
        sizes = [int(size) for size in match[3].split(",") if size.strip()]
    except ValueError:
        sizes = [-2]
    if any(size < -1 for size in sizes):
        raise DraftError(
            [Problem("--input", f"{text!r}: a size is none", "give numbers from 0, or -1 where it varies")]
        )
    return match[1], match[2], sizes
