"""A model server as a process: `dl-inference predict`, and each of the model processes of `dl-inference serve`.

`python -m dl_inference.local.model_server OPTIONS` is for processes that are not forked: OPTIONS is a `ServeOptions`
document, JSON.
"""

from __future__ import annotations

import atexit
import os
import sys

from dl_inference.serving import descriptors, ending
from dl_inference.serving.folder import kind_of
from dl_inference.serving.options import ServeOptions

# -P: a file of the user's working directory must not be imported in place of a package.
PROGRAM = (sys.executable, "-P", "-m", "dl_inference.local.model_server")

_EXTRAS = {"torch": "torch", "safetensors": "torch", "tensorflow": "tensorflow"}


class NotInstalledError(Exception):
    """A framework that the model needs is not installed; the message names the extra that brings it."""


def run(options: ServeOptions, *, has_own_packages: bool = False) -> int:
    """Serve a model folder until SIGTERM or SIGINT, by the server that it is for.

    Args:
        options: what to serve.
        has_own_packages: this interpreter is the model's own, where dl-inference is not installed.

    Returns:
        The exit status: 0 after a clean drain, 1 when the start failed or calls were cut off.

    Raises:
        NotInstalledError: the framework is missing.
    """
    descriptors.raise_limit()
    atexit.register(ending.kill_children)  # the first one registered is the last one called
    # A model's code that asks the terminal something would wait for an answer in place of serving.
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    try:
        if kind_of(options.model_dir) == "TensorFlow":
            from tf_predict import server as tensorflow_server  # noqa: PLC0415  (grpcio and numpy: see below)

            return tensorflow_server.serve(options)
        from torch_predict import server as pytorch_server  # noqa: PLC0415  (they double the start of other commands)

        return pytorch_server.serve(options)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if extra is None:  # one that no extra brings is a fault of ours
            raise
        what = f"'dl-inference[{extra}]'" if not has_own_packages else str(error.name)
        raise NotInstalledError(f"{error.name} is not installed: pip install {what}") from error


def main(document: str, *, has_own_packages: bool = False) -> int:
    """Serve what a `ServeOptions` document says; return the exit status."""
    try:
        return run(ServeOptions.model_validate_json(document), has_own_packages=has_own_packages)
    except NotInstalledError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    exit_status = main(sys.argv[1])
    ending.bound_exit(exit_status)
    sys.exit(exit_status)
