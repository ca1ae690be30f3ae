"""Stand-ins for the base images, made of Debian's packages: where no registry can be reached and no engine runs.

``python tests/images/stand_ins.py`` (called by make) makes them with debootstrap and commits them, by buildah, under
the base images' own names into .peers/images; then it builds the wheel's stage once, which fills the caches of the
compiler. Whatever this machine needs to reach its packages (apt, pip and cargo configuration, certificates) is copied
into the stand-ins, so that the Dockerfiles need not know of it. tests/images/test_images.py uses :func:`buildah`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".peers" / "images"
ACCESS = ROOT / "docker" / "Dockerfile.access"

# Where this machine's Rust is seen in the build. Its libraries are 1 GB: mounted, not copied into an image.
TOOLCHAIN = "/usr/local/rustup/toolchains/host"
# What says how packages are reached; the same paths in the stand-in, but for cargo's.
CONFIGURATION = (
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/apt/apt.conf.d",
    "/etc/pip.conf",
    "/etc/ssl/certs",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
)
PASSED_ON = re.compile(r"PIP_\w+|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|CARGO_(HTTP|NET|REGISTR|SOURCE)\w+|(https?|no)_proxy", re.I)
# Like rust's image; and a wheel that is compiled in a fifth of the time: the test is of the image, not of the compiler.
RUST_ENVIRONMENT = {
    "RUSTUP_HOME": "/usr/local/rustup",
    "CARGO_HOME": "/usr/local/cargo",
    "PATH": f"/usr/local/cargo/bin:{TOOLCHAIN}/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin",
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    "CARGO_PROFILE_RELEASE_DEBUG": "false",
}


def buildah_command(*arguments: str | Path) -> list[str]:
    """Return the command line of a buildah that keeps everything in .peers/images."""
    storage = ("--root", FOLDER / "storage", "--runroot", FOLDER / "run", "--storage-driver", "vfs")
    return [str(word) for word in ("buildah", *storage, *arguments)]


def buildah_environment() -> dict[str, str]:
    """Return the variables that :func:`buildah_command` runs with; TMPDIR holds the cache mounts of builds."""
    (FOLDER / "tmp").mkdir(parents=True, exist_ok=True)
    return {**os.environ, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(FOLDER / "tmp")}


def buildah(*arguments: str | Path) -> str:
    """Run buildah to its end; return what it printed.

    Raises:
        RuntimeError: it failed; with its last lines.
    """
    command = buildah_command(*arguments)
    done = subprocess.run(command, env=buildah_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout.strip()


def build(dockerfile: Path, tag: str, *options: str) -> None:
    """Build an image as `make images` does, with this machine's Rust in the place of the Rust image's."""
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True).stdout.strip()
    mounts = ("--volume", f"{sysroot}:{TOOLCHAIN}:ro")
    buildah("bud", "--pull-never", "--format", "docker", *mounts, "--file", dockerfile, "--tag", tag, *options, ROOT)


def base_image(name: str) -> str:
    """Return the default of a Dockerfile's ARG, which names a base image."""
    match = re.search(rf"^ARG {name}=(\S+)$", ACCESS.read_text(), re.MULTILINE)
    if match is None:
        raise LookupError(f"{ACCESS} has no default for {name}")
    return match[1]


def main() -> None:
    """Make both stand-ins anew."""
    if FOLDER.exists():
        remove()
    FOLDER.mkdir(parents=True)
    python, rust = base_image("PYTHON_IMAGE"), base_image("RUST_IMAGE")
    _make_python(python)
    _make_rust(rust, python)
    build(ACCESS, "wheel", "--target", "wheel")
    buildah("rmi", "wheel")


def remove() -> None:
    """Delete the storage; what buildah has mounted there is let go first."""
    buildah("rm", "--all")
    shutil.rmtree(FOLDER)


def _make_python(tag: str) -> None:
    container = buildah("from", "scratch")
    root = Path(buildah("mount", container))
    _debootstrap(root)
    _configure(root)
    passed_on = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    _commit(container, tag, passed_on)


def _debootstrap(root: Path) -> None:
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    include = "--include=ca-certificates,python3-pip"
    command = ["debootstrap", "--variant=minbase", include, release["VERSION_CODENAME"], root, _debian_archive()]
    log = FOLDER / "debootstrap.log"
    with log.open("w") as out:
        if subprocess.run(command, stdout=out, stderr=out, check=False).returncode:
            raise RuntimeError(f"debootstrap failed; the end of {log}:\n{log.read_text()[-2000:]}")


def _configure(root: Path) -> None:
    for place in CONFIGURATION:
        _copy(Path(place), root / place[1:])
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    for name in ("config", "config.toml"):
        _copy(home / name, root / RUST_ENVIRONMENT["CARGO_HOME"][1:] / name)
    # As in python's image, pip installs where it is told to.
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()


def _make_rust(tag: str, python: str) -> None:
    container = buildah("from", "--pull-never", python)
    buildah("run", container, "--", "apt-get", "-qq", "update")
    # python3-venv is what the Dockerfile installs: there already, it costs the tests nothing.
    packages = ("gcc", "libc6-dev", "python3-venv")
    buildah("run", container, "--", "apt-get", "-qq", "install", "--yes", "--no-install-recommends", *packages)
    buildah("run", container, "--", "apt-get", "clean")
    _commit(container, tag, RUST_ENVIRONMENT)


def _commit(container: str, tag: str, environment: Mapping[str, str]) -> None:
    variables = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    buildah("config", *variables, container)
    buildah("commit", "--rm", container, tag)


def _debian_archive() -> str:
    """Return where this machine gets Debian's packages from: the first of apt's sources."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if not found:
        raise RuntimeError("apt has no source of packages: apt-get update?")
    return found[0]


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--remove-destination", "--no-target-directory", source, target], check=True)


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(str(error))
