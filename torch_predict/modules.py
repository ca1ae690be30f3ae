"""Import a model folder's own Python files the way its owner expects: by name, with siblings in reach.

One process serves one model version, so the folder may be the working directory and the first place of
``sys.path`` for good.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from torch_predict.errors import LoadError


def enter(folder: Path) -> None:
    """Make the folder the working directory and the first place that imports look in."""
    os.chdir(folder)
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))


def import_from(folder: Path, name: str) -> ModuleType:
    """Import ``<folder>/<name>.py`` once, under that plain name, so that its siblings and pickles find it.

    Raises:
        LoadError: running the file failed; names the line.
    """
    file = folder / f"{name}.py"
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(file):
        return loaded
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise LoadError(file, "is not a Python file", "rename it")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a file that calls exit() must not end the server without a word
        del sys.modules[name]
        raise LoadError(_place(file, error), f"{type(error).__name__}: {error}", "mend the file") from error
    return module


def _place(file: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)
