"""A model process in an interpreter of the model's own: `PYTHON own_python.py OPTIONS`.

Run as a file. Our packages are found here by their names, and nothing else of our environment is; all that they need is
in that interpreter's own. OPTIONS is a `ServeOptions` document. A Python that is too old must be able to read this
file, and to say so.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = ("dl_inference", "torch_predict")
NEEDED = {"numpy": "numpy", "pydantic": "pydantic", "yaml": "pyyaml", "google.protobuf": "protobuf", "torch": "torch"}
"""Module -> package: what a model process imports beside Python's own."""
OLDEST = (3, 11)
BESIDE = "DL_INFERENCE_PACKAGES_BESIDE"
"""Variable: folders of packages that are used where the interpreter has none of a name."""


class _Ours:
    """Finds our packages, and no others that lie beside them."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return where one of our packages is."""
        return PathFinder.find_spec(name, [ROOT], target) if name in OURS else None


def _fault() -> str | None:
    """Say why this interpreter cannot run a model server; None where it can."""
    if sys.version_info < OLDEST:
        found, oldest = ".".join(map(str, sys.version_info[:2])), ".".join(map(str, OLDEST))
        return f"{sys.executable} is Python {found}: use {oldest} or newer"
    missing = [package for module, package in NEEDED.items() if not _is_there(module)]
    if missing:
        words = " ".join(missing)
        return f"{sys.executable} has no {words}: {sys.executable} -m pip install {words}"
    return None


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # of the package around it
        return False


# Not only in the main program: a child that multiprocessing starts anew imports this file, too.
sys.meta_path.insert(0, _Ours)
if os.path.dirname(os.path.abspath(__file__)) in sys.path[:1]:
    del sys.path[0]  # modules beside this file
sys.path += [each for each in os.environ.get(BESIDE, "").split(os.pathsep) if each]

if __name__ == "__main__":
    fault = _fault()
    if fault is not None:
        print("cannot serve the model in an interpreter of its own:\n" + fault, flush=True)
        sys.exit(1)
    from dl_inference.local import model_server
    from dl_inference.serving import ending

    status = model_server.main(sys.argv[1], has_own_packages=True)
    ending.bound_exit(status)
    sys.exit(status)
