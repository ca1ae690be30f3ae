"""An environment for a model's requirements.txt: `python -m dl_inference.local.environments REQUIREMENTS OPTIONS`.

A model process of `serve --make-environments`: it makes the environment, where there is none for these requirements,
and goes on as the model server in it. So what pip says is in the model's log, and a failure is the model's. What
requirements.txt does not bring is found in the server's own environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import site
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dl_inference.local import own_python
from dl_inference.serving import room
from dl_inference.serving.requirements import FILE

PROGRAM = (sys.executable, "-P", "-m", "dl_inference.local.environments")
MAKE_S = 540.0
"""How long pip may take; less than a process may take to be ready."""
UNUSED_S = 30 * 86_400.0
"""How long nothing has been started in an environment that is removed."""
_DONE = "complete"


class MakeError(Exception):
    """Why there is no environment."""


@dataclass(frozen=True)
class Environment:
    """One that stays as long as its lock is held.

    Attributes:
        python: its interpreter.
        lock: descriptor of the lock, which whoever runs in it holds.
    """

    python: Path
    lock: int


def requirements_of(*places: Path) -> Path | None:
    """Return the first requirements.txt in some folders."""
    return next((place / FILE for place in places if (place / FILE).is_file()), None)


def make(requirements: Path, cache: Path, limit_s: float = MAKE_S) -> Environment:
    """Return an environment with these requirements; make it where there is none.

    Args:
        requirements: the file; relative paths in it are relative to its folder.
        cache: where environments are kept, each under a name that tells what is in it.
        limit_s: how long each step may take.

    Raises:
        MakeError: it cannot be made.
        NoRoomError: the disk has no room for it.
        OSError: something else keeps it from being written.
    """
    told = "\0".join((requirements.read_text(encoding="utf-8"), str(requirements.parent), sys.version, sys.prefix))
    place = cache / f"venv-{hashlib.blake2b(told.encode(), digest_size=12).hexdigest()}"
    python = place / "bin" / "python"
    if (place / _DONE).exists() and not os.access(cache, os.W_OK):
        # On a disk that is read-only by now, where nothing is removed.
        return Environment(python, os.open(place, os.O_RDONLY | os.O_CLOEXEC))
    with room.writing(cache):
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock_of(place)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while not (place / _DONE).exists():
            fcntl.flock(lock, fcntl.LOCK_EX)  # another instance may be making it; it ends with that process
            if not (place / _DONE).exists():
                _fill(place, python, requirements, limit_s)
            fcntl.flock(lock, fcntl.LOCK_SH)
        os.utime(lock)
    except BaseException:
        os.close(lock)
        raise
    return Environment(python, lock)


def _lock_of(place: Path) -> int:
    # Not for writing: a process holds it as long as it runs, and its disk may become read-only meanwhile.
    return os.open(f"{place}.lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _fill(place: Path, python: Path, requirements: Path, limit_s: float) -> None:
    shutil.rmtree(place, ignore_errors=True)  # half-made by one that was killed
    print(f"making the environment {place} for {requirements}", flush=True)
    install = ["-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-r", requirements.name]
    try:
        _run([sys.executable, "-m", "venv", str(place)], requirements, limit_s)
        _run([str(python), *install], requirements, limit_s)
        (place / _DONE).touch()
    except (MakeError, OSError) as error:
        why = room.why_full(place.parent)  # while what there is of it lies there
        shutil.rmtree(place, ignore_errors=True)
        if why:
            raise room.NoRoomError(place, f"{why} (XDG_CACHE_HOME may name a folder on another one)") from error
        raise


def remove_unused(cache: Path, unused_s: float = UNUSED_S) -> list[Path]:
    """Remove the environments in which nothing runs and, for this time, nothing was started; return them."""
    removed = []
    for place in sorted(each for each in cache.glob("venv-*") if each.is_dir()):
        lock = _lock_of(place)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(lock).st_mtime > unused_s:
                (place / _DONE).unlink(missing_ok=True)  # first: what is left of it is then made anew
                shutil.rmtree(place)
                removed.append(place)
        except BlockingIOError:  # in use
            pass
        finally:
            os.close(lock)
    return removed


def without_ours(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables for another interpreter: without those that lead it to this one's packages."""
    return {name: text for name, text in variables.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def cache_folder() -> Path:
    """Return where this user's environments are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "dl-inference", "environments")


def main(requirements: str, options: str) -> int:
    """Become the model server in the environment; return an exit status where that fails."""
    try:
        made = make(Path(requirements), cache_folder())
    except (MakeError, room.NoRoomError, OSError, ValueError) as error:
        print(f"cannot serve the model in an environment of its own:\n{error}", flush=True)
        return 1
    os.set_inheritable(made.lock, True)
    python = str(made.python)
    beside = {own_python.BESIDE: os.pathsep.join(site.getsitepackages())}
    os.execve(python, [python, own_python.__file__, options], {**without_ours(os.environ), **beside})


def _run(command: Sequence[str], requirements: Path, limit_s: float) -> None:
    try:
        done = subprocess.run(command, cwd=requirements.parent, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise MakeError(f"{requirements}: not installed within {limit_s:g} s: {' '.join(command)}") from None
    if done.returncode:
        text = f"{requirements}: cannot be installed (exit status {done.returncode}; the lines above say why)"
        raise MakeError(f"{text}: correct it, or set python in model.yaml")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
