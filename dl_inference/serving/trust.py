"""Signed model folders: SHA256SUMS.sig must be the signature of SHA256SUMS by a key that the server trusts.

The signatures are OpenSSH's (``ssh-keygen -Y``), checked by that program: people have such keys, on hardware too, and
no package of Python's is needed. What is loaded is a private copy of the files that were checked, made in the same
reading, so that nobody can exchange a file between the check and the load.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from dl_inference.serving import manifest, room
from dl_inference.serving.load_error import LoadError
from dl_inference.serving.manifest import SIGNATURE, SUMS
from dl_inference.serving.report import Reporter

PROGRAM = "ssh-keygen"
NAMESPACE = "dl-inference"
"""What a signature is for: one of a mail or of a commit does not do."""

_LIMIT_S = 30.0


def check_keys(keys: Path) -> None:
    """Check that signatures can be checked at all.

    Raises:
        ValueError: says what is missing.
    """
    if shutil.which(PROGRAM) is None:
        raise ValueError(f"--trusted-keys needs {PROGRAM}, of the package openssh-client: install it")
    try:
        text = keys.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--trusted-keys {keys}: cannot be read: {error}") from error
    if not any(line.strip() and not line.startswith("#") for line in text.splitlines()):
        raise ValueError(f"--trusted-keys {keys}: holds no key; write lines such as: * ssh-ed25519 AAAAC3...")


def checked_copy(top: Path, place: Path, keys: Path, into: Path | None, reporter: Reporter) -> Path:
    """Return a private copy of a model folder with one of its versions, all of it signed.

    Args:
        top: the model folder; its name is what a key must be allowed for.
        place: the version's folder: the model folder itself, or one in it.
        keys: trusted public keys, a file in the form of ssh-keygen's ALLOWED SIGNERS.
        into: a folder to make, which its owner removes; None: a temporary one, removed when this process ends.
        reporter: told of the steps.

    Raises:
        LoadError: something is not signed, or not as it was signed; or the disk has no room for the copy.
        OSError: a file cannot be read.
    """
    with room.writing(into.parent if into is not None else Path(tempfile.gettempdir())):
        return _checked_copy(top, place, keys, into, reporter)


def _checked_copy(top: Path, place: Path, keys: Path, into: Path | None, reporter: Reporter) -> Path:
    if into is None:
        into = Path(tempfile.mkdtemp(prefix="dl-inference-signed-"))
        atexit.register(shutil.rmtree, into, ignore_errors=True)
    else:
        into.mkdir(mode=0o700)
    others = {each for each in top.iterdir() if each.name.isdecimal() and each != place} if place != top else set()
    signed = _Signed(top, keys, into / top.name, reporter)
    for folder in dict.fromkeys((place, top)):
        if (folder / SUMS).is_file():
            signed.copy(folder, others)
        elif folder == place != top and (top / SUMS).is_file():
            continue  # its files are listed there, or that is the error
        elif name := next(manifest.files(folder, others), None):
            reporter.at("signature")
            text = f"is not signed: {folder} has no {SUMS}, and this server takes signed folders only"
            raise LoadError(folder / name, text, f"write {SUMS} and sign it: docs/safe-releases.md")
    return signed.into


@dataclass(frozen=True)
class _Signed:
    """Where signed folders of one model are copied to, and who may have signed them."""

    top: Path
    keys: Path
    into: Path
    reporter: Reporter

    def copy(self, folder: Path, leave_out: Collection[Path]) -> None:
        """Check a folder that has a SHA256SUMS, and copy what that lists."""
        self.reporter.at("signature")
        content = (folder / SUMS).read_bytes()  # once: what is checked is what is parsed
        copy = self.into / folder.relative_to(self.top)
        copy.mkdir(parents=True, exist_ok=True)
        self._check_signature(folder, content, copy)
        self.reporter.at("manifest")
        sums = manifest.parse(folder, content)
        manifest.check_names(folder, sums, leave_out)
        for name, wanted in sums.items():
            manifest.take(folder, name, wanted, copy / name)

    def _check_signature(self, folder: Path, content: bytes, copy: Path) -> None:
        try:
            (copy / SIGNATURE).write_bytes((folder / SIGNATURE).read_bytes())
        except FileNotFoundError:
            remedy = f"sign {SUMS}: {PROGRAM} -Y sign -f KEY -n {NAMESPACE} {SUMS}"
            text = "is missing, and this server takes signed folders only"
            raise LoadError(folder / SIGNATURE, text, remedy) from None
        name = self.top.name
        command = [PROGRAM, "-Y", "verify", "-f", str(self.keys), "-I", name, "-n", NAMESPACE, "-s"]
        try:
            done = subprocess.run(
                [*command, str(copy / SIGNATURE)], input=content, capture_output=True, timeout=_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            text = f"cannot be checked: {PROGRAM} took more than {_LIMIT_S:g} s"
            raise LoadError(folder / SIGNATURE, text, "look at the machine's load") from None
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).decode(errors="replace").split())
            text = f"is no signature of {SUMS} by a key of {self.keys} that may sign {name}: {said}"
            raise LoadError(folder / SIGNATURE, text, f"sign {SUMS} again, or add the signer's key")
