"""Model folders for the tests of the PyTorch server."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_modules() -> Iterator[None]:
    """Give each test its own working directory, import path and modules of model folders."""
    directory, path, modules = os.getcwd(), list(sys.path), set(sys.modules)
    yield
    os.chdir(directory)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name in ("processor", "model", "sibling", "nets"):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write files (path -> source, dedented) into a fresh folder and return it."""

    def write(files: dict[str, str], folder: str = "m") -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for name, source in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(textwrap.dedent(source))
        return root

    return write
