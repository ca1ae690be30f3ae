"""Import a model folder's own Python files the way its owner expects: by name, with siblings in reach.

One process serves one model version, so the folder may be the working directory and the first place of
``sys.path`` for good.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

from dl_inference.serving.load_error import LoadError
from torch_predict.sources import install


class _Loader(SourceFileLoader):
    """Compiles a file whenever it is imported, and leaves nothing in the folder.

    Python takes a compiled module to be its file's by the second of the last change and the size. Where a file
    of a model is replaced within a second, or by a tool that gives all files one time, the old code would run.
    """

    def path_stats(self, path: str) -> Mapping[str, object]:
        """Tell that there is no such thing as a compiled module."""
        raise OSError(f"{path} is compiled anew")


def enter(folder: Path) -> None:
    """Make the folder the working directory and the first place that imports look in.

    The command line is hidden: argparse in processor.py would read ours.
    """
    os.chdir(folder)
    sys.argv = [str(folder / "processor.py")]
    sys.path_hooks.insert(0, _hook(folder))
    sys.path_importer_cache.pop(str(folder), None)
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
    spec = importlib.util.spec_from_file_location(name, file, loader=_Loader(name, str(file)))
    assert spec is not None  # a loader was given; mypy cannot see what follows from that
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # a file that calls exit() must not end the server without a word
        del sys.modules[name]
        raise LoadError(place_of(file, error), f"{type(error).__name__}: {error}", _remedy(error)) from error
    return module


def _hook(folder: Path) -> Callable[[str], FileFinder]:
    def find(path: str) -> FileFinder:
        if not Path(path).is_relative_to(folder):
            raise ImportError(f"{path} is not below {folder}")
        return FileFinder(path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, SOURCE_SUFFIXES))

    return find


def _remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return install(error.name.partition(".")[0])
    return "correct this line of the file"


def place_of(file: Path, error: BaseException) -> str:
    """Return the file, with the last line of it that an exception came through."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)
