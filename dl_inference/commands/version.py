"""`dl-inference version`: what is installed."""

import importlib.metadata
import platform


def version() -> None:
    """Print the version."""
    try:
        ours = importlib.metadata.version("dl-inference")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        ours = "(not installed)"
    print(f"dl-inference {ours}, grpcio {importlib.metadata.version('grpcio')}, Python {platform.python_version()}")
