"""Stand-ins for the base images, made of Debian's packages: for where no image registry can be reached.

``python tests/images/stand_ins.py``, which make calls, makes them with debootstrap and commits them under the base
images' own names, once; then it builds the access image where that is stale. Whatever this machine needs to reach its
packages (apt's, pip's and cargo's configuration, certificates) is copied into the stand-ins: the Dockerfiles need not
know of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from buildah import FOLDER, TOOLCHAIN, BuildahError, access_image, base_image, buildah, missing

CONFIGURATION = (
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/apt/apt.conf.d",
    "/etc/pip.conf",
    "/etc/ssl/certs",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
)
PASSED_ON = re.compile(
    r"PIP_\w+|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|CARGO_(HTTP|NET|REGISTR|SOURCE)\w+|(https?|no)_proxy", re.IGNORECASE
)
# Like rust's image, and a wheel compiled in a fraction of the time: the tests are of the image, not of the compiler.
RUST_ENVIRONMENT = {
    "RUSTUP_HOME": "/usr/local/rustup",
    "CARGO_HOME": "/usr/local/cargo",
    "PATH": f"/usr/local/cargo/bin:{TOOLCHAIN}/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin",
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "256",
    "CARGO_PROFILE_RELEASE_DEBUG": "false",
}
# What is in an image is copied for every container that is made of it.
UNUSED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man")


def main() -> None:
    """Make the stand-ins, if they are not there as this file makes them, and the access image, if it is stale."""
    if reason := missing():
        print(f"make: tests of the images will skip: {reason}", file=sys.stderr)
        return
    stamp = FOLDER / ".stand-ins"
    python, rust = base_image("PYTHON_IMAGE"), base_image("RUST_IMAGE")
    made_of = hashlib.sha256(f"{python} {rust}".encode() + Path(__file__).read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != made_of:
        _remove()
        _make_python(python)
        _make_rust(rust, python)
        stamp.write_text(made_of)
    buildah("rm", "--all")  # of tests that were killed
    access_image()


def _remove() -> None:
    if FOLDER.exists():
        buildah("rm", "--all")  # lets go of what is mounted
        shutil.rmtree(FOLDER)
    FOLDER.mkdir(parents=True)


def _make_python(tag: str) -> None:
    container = buildah("from", "scratch")
    root = Path(buildah("mount", container))
    _debootstrap(root)
    for place in CONFIGURATION:
        _copy(Path(place), root / place[1:])
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    for name in ("config", "config.toml"):
        _copy(cargo / name, root / RUST_ENVIRONMENT["CARGO_HOME"][1:] / name)
    for folder in UNUSED:
        shutil.rmtree(root / folder)
        (root / folder).mkdir()
    # As in python's image, pip installs where it is told to.
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    _commit(container, tag, {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)})


def _make_rust(tag: str, python: str) -> None:
    container = buildah("from", "--pull-never", python)
    # python3-venv is what the Dockerfile installs: there already, it costs the builds nothing.
    packages = "gcc libc6-dev python3-venv"
    script = (
        f"apt-get -qq update && apt-get -qq install --yes --no-install-recommends {packages} && "
        "apt-get clean && rm -rf /var/lib/apt/lists/*"
    )
    buildah("run", container, "--", "sh", "-c", script)
    _commit(container, tag, RUST_ENVIRONMENT)


def _debootstrap(root: Path) -> None:
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    include = "--include=ca-certificates,python3-pip"
    command = ["debootstrap", "--variant=minbase", include, release["VERSION_CODENAME"], root, _debian_archive()]
    log = FOLDER / "debootstrap.log"
    with log.open("w") as out:
        if subprocess.run(command, stdout=out, stderr=out, check=False).returncode:
            raise BuildahError(f"debootstrap failed; the end of {log}:\n{log.read_text()[-2000:]}")


def _debian_archive() -> str:
    """Return where this machine gets Debian's packages from: the first of apt's sources."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if not found:
        raise BuildahError("apt has no source of packages: see /etc/apt/sources.list.d")
    return found[0]


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--remove-destination", "--no-target-directory", source, target], check=True)


def _commit(container: str, tag: str, environment: Mapping[str, str]) -> None:
    variables = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    buildah("config", *variables, container)
    buildah("commit", "--rm", container, tag)


if __name__ == "__main__":
    try:
        main()
    except BuildahError as error:
        sys.exit(f"make: {error}")
