"""Debian's buildah as the tests use it: no engine, no image registry, everything it keeps in .peers/images.

The stand-ins for the base images are made by stand_ins.py. An image is tagged with a digest of what it is built from,
so that one that is not stale is built once: by make's set-up, or by the first test that wants it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".peers" / "images"
ACCESS = ROOT / "docker" / "Dockerfile.access"

TOOLCHAIN = "/usr/local/rustup/toolchains/host"
"""Where a build sees this machine's Rust. It takes more than 1 GB: mounted, not copied into an image."""


class BuildahError(Exception):
    """buildah failed; with its last lines."""


def missing() -> str | None:
    """Say what this machine lacks to build images; None when it has everything."""
    if os.geteuid() != 0:
        return "building images without an engine needs root"
    for program, remedy in {
        "buildah": "apt-get install buildah",
        "debootstrap": "apt-get install debootstrap",
        "rustc": "install Rust with rustup (rustup.rs)",
    }.items():
        # Debian keeps debootstrap where a user's PATH does not look.
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            return f"{program} is not installed: {remedy}"
    return None


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of a buildah that keeps its images in .peers/images."""
    storage = ("--root", FOLDER / "storage", "--runroot", FOLDER / "run", "--storage-driver", "vfs")
    return [str(word) for word in ("buildah", *storage, *arguments)]


def environment() -> dict[str, str]:
    """Return the variables that :func:`command` wants; builds keep their cache mounts below TMPDIR."""
    folder = FOLDER / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(folder.resolve())}


def buildah(*arguments: str | Path) -> str:
    """Run buildah to its end; return what it printed.

    Raises:
        BuildahError: it failed.
    """
    words = command(*arguments)
    variables = {**os.environ, **environment()}
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildahError(f"{' '.join(words)}\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout.strip()


def has(image: str) -> bool:
    """Tell whether an image is there."""
    return bool(buildah("images", "--quiet", "--filter", f"reference={image}"))


def access_image() -> str:
    """Return the name of an image of docker/Dockerfile.access as it is now; build it where there is none.

    Raises:
        BuildahError: it cannot be built.
    """
    image = f"localhost/dl-inference-access:{_digest(ACCESS)}"
    if not has(image):
        for line in buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
            if line.startswith("localhost/"):  # older ones, of a tree that is no more
                buildah("rmi", line)
        build(ACCESS, image)
    return image


def build(dockerfile: Path, tag: str, *options: str) -> None:
    """Build an image as `make images` does, with this machine's Rust in the place of the Rust image's.

    Raises:
        BuildahError: it cannot be built.
    """
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True).stdout.strip()
    fixed = ("--pull-never", "--format", "docker", "--volume", f"{sysroot}:{TOOLCHAIN}:ro")
    buildah("bud", *fixed, "--file", dockerfile, "--tag", tag, *options, ROOT)


def base_image(name: str) -> str:
    """Return the default of an ARG that names a base image: ``base_image("RUST_IMAGE")``."""
    match = re.search(rf"^ARG {name}=(\S+)$", ACCESS.read_text(), re.MULTILINE)
    if match is None:
        raise LookupError(f"{ACCESS} has no default for {name}")
    return match[1]


def context() -> Iterator[Path]:
    """Yield the files that .dockerignore lets into a build."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept_out = [ROOT / line for line in lines if line[:1] not in ("!", "#", "*", "")]
    for line in lines:
        if line.startswith("!"):
            place = ROOT / line[1:]
            found = sorted(place.rglob("*")) if place.is_dir() else [place]
            let_in = (path for path in found if path.is_file() and not _is_made(path))
            yield from (path for path in let_in if not any(path.is_relative_to(folder) for folder in kept_out))


def _is_made(path: Path) -> bool:
    return "__pycache__" in path.parts or path.suffix == ".so"


def _digest(dockerfile: Path) -> str:
    digest = hashlib.sha256()
    for path in (dockerfile, ROOT / ".dockerignore", Path(__file__), *context()):
        digest.update(f"{path.relative_to(ROOT)} {path.stat().st_mode} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
