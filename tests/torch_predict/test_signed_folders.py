"""Signed model folders: what is refused before anything of it runs, and that what was checked is what is loaded."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from dl_inference.serving.load_error import LoadError
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.report import Reporter, read
from dl_inference.serving.trust import check_keys, checked_copy
from torch_predict import server

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")

LIST = "find . -type f ! -name 'SHA256SUMS*' | sort | xargs sha256sum > SHA256SUMS"
RAN = "import pathlib\npathlib.Path({!r}).write_text(__file__)\n"


class Signer:
    def __init__(self, folder: Path, name: str, principals: str = "*") -> None:
        self.key = folder / name
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True, stdin=subprocess.DEVNULL
        )
        self.public = f"{principals} {self.key.with_suffix('.pub').read_text()}"

    def sign(self, folder: Path, namespace: str = "dl-inference") -> None:
        subprocess.run(LIST, shell=True, check=True, cwd=folder)
        (folder / "SHA256SUMS.sig").unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-Y", "sign", "-f", self.key, "-n", namespace, "SHA256SUMS"]
        subprocess.run(command, check=True, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True)


@pytest.fixture(scope="module")
def signers(tmp_path_factory) -> tuple[Signer, Signer, Path]:
    """One who is trusted, one who is not, and the trusted keys."""
    folder = tmp_path_factory.mktemp("keys")
    owner, stranger, other = Signer(folder, "owner"), Signer(folder, "stranger"), Signer(folder, "other", "others")
    keys = folder / "trusted"
    keys.write_text(owner.public + other.public)
    return owner, stranger, keys


@pytest.fixture
def folder(write, tmp_path: Path) -> Path:
    """A version in a model folder whose processor.py says that it ran."""
    folder = write(
        {
            "2/processor.py": RAN.format(str(tmp_path / "ran")),
            "2/model.py": "import torch\ndef Model(): return torch.nn.Linear(1, 1)\n",
        }
    )
    torch.save({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}, folder / "2" / "model.pt")
    return folder


@pytest.fixture
def serve(tmp_path: Path, signers):
    """Serve the folder until it would listen; return what the process told, and whether code of the folder ran."""

    def stop(*_: Any) -> Any:
        raise ValueError("here it would listen")

    def serve(folder: Path, keys: Path | None = signers[2]) -> tuple[Any, bool]:
        (tmp_path / "ran").unlink(missing_ok=True)
        shutil.rmtree(tmp_path / "private", ignore_errors=True)
        options = ServeOptions(
            model_dir=folder,
            listen=(f"unix:{tmp_path / 'socket'}",),
            trusted_keys=keys,
            private=tmp_path / "private",
            report=tmp_path / "report",
        )
        assert server.serve(options, make_worker=stop) == 1
        return read(tmp_path / "report"), (tmp_path / "ran").exists()

    return serve


def test_a_signed_version_is_loaded_from_a_private_copy(serve, folder, signers, tmp_path):
    signers[0].sign(folder / "2")
    report, has_run = serve(folder)
    assert (report.reason, has_run) == ("here it would listen", True)
    copied = {str(each.relative_to(tmp_path / "private")) for each in (tmp_path / "private").rglob("*.p*")}
    assert (tmp_path / "ran").read_text() == str(tmp_path / "private" / "m" / "2" / "processor.py")
    assert copied == {"m/2/model.pt", "m/2/model.py", "m/2/processor.py"}
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o700


def change_after(folder: Path) -> None:
    (folder / "2" / "processor.py").write_text((folder / "2" / "processor.py").read_text() + "# changed\n")


def list_again(folder: Path) -> None:
    change_after(folder)
    subprocess.run(LIST, shell=True, check=True, cwd=folder / "2")


@pytest.mark.parametrize(
    ("change", "step", "words"),
    [
        (lambda folder: (folder / "2" / "SHA256SUMS").unlink(), "signature", "is not signed"),
        (lambda folder: (folder / "2" / "SHA256SUMS.sig").unlink(), "signature", "SHA256SUMS.sig: is missing"),
        (lambda folder: (folder / "2" / "SHA256SUMS.sig").write_text("x"), "signature", "is no signature"),
        (change_after, "manifest", "processor.py: has another SHA-256 sum"),
        (list_again, "signature", "is no signature of SHA256SUMS by a key"),
        (lambda folder: (folder / "2" / "torch.py").touch(), "manifest", "torch.py: is not listed"),
        (
            lambda folder: (folder / "model.yaml").write_text("allow_pickle: true"),
            "signature",
            "model.yaml: is not sig",
        ),
    ],
)
def test_what_is_not_as_it_was_signed_is_refused_before_any_of_its_code_runs(  # noqa: PLR0917  (fixtures)
    serve, folder, signers, change, step, words
):
    signers[0].sign(folder / "2")
    change(folder)
    report, has_run = serve(folder)
    assert (report.step, report.is_final, has_run) == (step, True, False)
    assert words in report.reason


def test_a_signature_of_a_stranger_of_another_purpose_or_for_another_model_does_not_do(serve, folder, signers):
    owner, stranger, keys = signers
    stranger.sign(folder / "2")
    assert "is no signature" in serve(folder)[0].reason
    owner.sign(folder / "2", namespace="file")
    assert "is no signature" in serve(folder)[0].reason
    Signer.sign(type("Other", (), {"key": keys.parent / "other"})(), folder / "2")  # type: ignore[arg-type]
    assert "that may sign m" in serve(folder)[0].reason


def test_what_lies_beside_the_versions_is_signed_too_and_other_versions_need_not_be(serve, folder, signers):
    owner, _, _ = signers
    shutil.copytree(folder / "2", folder / "1")
    (folder / "model.yaml").write_text("versions: [2]")
    owner.sign(folder / "2")
    (folder / "1").rename(folder.parent / "1")
    subprocess.run("sha256sum model.yaml > SHA256SUMS", shell=True, check=True, cwd=folder)
    (folder.parent / "1").rename(folder / "1")
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", owner.key, "-n", "dl-inference", "SHA256SUMS"]
    subprocess.run(command, check=True, cwd=folder, capture_output=True)
    report, has_run = serve(folder)
    assert (report.reason, has_run) == ("here it would listen", True)


def test_what_is_loaded_is_what_was_checked_though_the_folder_changes_meanwhile(folder, signers, tmp_path, monkeypatch):
    owner, _, keys = signers
    owner.sign(folder / "2")
    from dl_inference.serving import manifest

    original = manifest.check_names

    def then_exchanged(place: Path, *more: Any) -> None:  # after the signature and the names were checked
        original(place, *more)
        (place / "processor.py").write_text("raise SystemExit('evil')\n")

    monkeypatch.setattr(manifest, "check_names", then_exchanged)
    with pytest.raises(LoadError, match=r"processor\.py: has another SHA-256 sum"):
        checked_copy(folder, folder / "2", keys, tmp_path / "private", Reporter())


def test_a_list_without_keys_is_checked_before_any_code_runs(serve, folder, signers):
    signers[0].sign(folder / "2")
    assert serve(folder, None)[1]
    change_after(folder)
    report, has_run = serve(folder, None)
    assert (report.step, has_run) == ("manifest", False)


def test_keys_that_cannot_be_used_are_told_at_the_start(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="cannot be read"):
        check_keys(tmp_path / "none")
    (tmp_path / "keys").write_text("# nobody\n")
    with pytest.raises(ValueError, match="holds no key"):
        check_keys(tmp_path / "keys")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="openssh-client"):
        check_keys(tmp_path / "keys")
