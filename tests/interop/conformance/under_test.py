"""The access service as connectrpc's conformance suite tests it: with a native module that has the suite's service."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from fixtures.access_process import Access  # noqa: E402
from fixtures.processes import Process  # noqa: E402

PROGRAM = Path(__file__).with_name("program.py")


class UnderTest:
    """Processes of one run, and a folder for their files."""

    def __init__(self, native: str, folder: Path) -> None:
        """Start nothing yet.

        Args:
            native: path of the native module whose table of methods has the suite's service.
            folder: where files go.
        """
        self._native = native
        self._folder = folder
        self._processes: list[Process] = []

    def run(self, command: Sequence[str | Path]) -> Process:
        """Start a program."""
        self._processes.append(Process(command))
        return self._processes[-1]

    def access(self, endpoint: str, **config: Any) -> Access:
        """Start an access service before an endpoint, with more configuration."""

        def run(command: Sequence[str | Path]) -> Process:
            return self.run([sys.executable, PROGRAM, self._native, *command[1:]])

        folder = Path(tempfile.mkdtemp(dir=self._folder))
        cluster = {"endpoints": [endpoint], **config.pop("cluster", {})}
        fixed = {"clusters": {"conformance": cluster}, "default_cluster": "conformance"}
        return Access(run, folder, {**config, **fixed})

    def files(self, **contents: bytes) -> dict[str, str]:
        """Write files; return their paths by the same names."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return {name: str(folder / name) for name in contents}

    def end(self) -> None:
        """End all processes, and show what they printed."""
        for process in self._processes:
            process.kill()
            sys.stderr.write(process.log)


@contextlib.contextmanager
def under_test(native: str) -> Iterator[UnderTest]:
    """Have processes until the end, or the runner's SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory() as folder:
        held = UnderTest(native, Path(folder))
        try:
            yield held
        finally:
            held.end()
