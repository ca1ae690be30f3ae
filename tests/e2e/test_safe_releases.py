"""Model folders that go wrong in every way while calls go on: what is wrong is named, and no call fails."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from fixtures.access_process import wait_until
from fixtures.command_line import command
from fixtures.serve_process import START_S, Serve, Traffic, is_running, write_model

pytestmark = pytest.mark.timeout(400)

LOAD_S = 120


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def quarantined(serve: Serve, name: str) -> dict[int | None, dict[str, Any]]:
    """Return what /status says of versions that are kept from calls, by number."""
    found = serve.folder(name)
    return {each["version"]: each for each in found["quarantined"]} if found else {}


def wait_quarantined(serve: Serve, name: str, version: int | None, step: str, words: str) -> None:
    """Wait until a version is kept from calls for a reason."""

    def is_there() -> bool:
        found = quarantined(serve, name).get(version)
        return found is not None and found["step"] == step and words in f"{found['reason']}; {found['remedy']}"

    wait_until(is_there, f"{name}@{version}: {step}: {words}; {quarantined(serve, name)}\n{serve.process.log}", LOAD_S)


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every entry with its inode and the time of its last change."""
    return {str(each): (each.lstat().st_ino, each.lstat().st_ctime_ns) for each in [folder, *folder.rglob("*")]}


def test_versions_that_fail_in_every_way_are_named_and_no_call_fails(run, models, tmp_path: Path):
    write_model(models / "m" / "1", "A")
    settings = models / "m" / "model.yaml"
    serve = Serve(run, models, env={"TMPDIR": str(tmp_path)})
    bad = models / "m" / "2"
    with Traffic(serve.address, "m") as traffic:
        traffic.wait_for("A")
        # half-copied: another file first, then the model without content, then half of it, then all of it
        bad.mkdir()
        (bad / "notes.txt").write_text("a model will follow")
        wait_quarantined(serve, "m", 2, "find", "holds no model")
        (bad / "model.pt2").touch()
        wait_quarantined(serve, "m", 2, "find", "is damaged, or no aotinductor or exported model (0 bytes)")
        whole = write_model(tmp_path / "whole", "B") / "model.pt2"
        (bad / "model.pt2").write_bytes(whole.read_bytes()[:100])
        wait_quarantined(serve, "m", 2, "find", "(100 bytes)")
        shutil.copy(whole, bad / "model.pt2")
        traffic.wait_for("B")
        assert quarantined(serve, "m") == {}
        assert traffic.failures == {}
        shutil.rmtree(bad)
        traffic.wait_for("A")
        # what its process does wrong
        for answer, step, words, more in (
            ("broken", "load", "holds no weights; save it again", {}),
            ("exit", "load", "ended with exit status 3", {}),
            ("differs", "golden", "case 0: answer is 1, not 2; correct the model", {}),
            ("greedy", "load", "needs more than 400000000 bytes", {"max_load_memory_bytes": 400_000_000}),
            ("never", "load", "not ready within 4 s", {"load_timeout_ms": 4000}),
        ):
            settings.write_text(json.dumps(more))
            write_model(bad, answer)
            wait_quarantined(serve, "m", 2, step, words)
            before = traffic.calls
            wait_until(lambda before=before: traffic.calls > before, "calls go on", START_S)
        settings.unlink()
        # everything that tells of it
        write_model(bad, "differs")
        wait_quarantined(serve, "m", 2, "golden", "case 0")
        with urllib.request.urlopen(f"http://{serve.admin}/metrics", timeout=10) as answer:
            assert 'dl_model_quarantined{model="m",version="2",step="golden"} 1' in answer.read().decode()
        said = command("status", "--admin", serve.admin).stdout
        assert "version 2 quarantined since" in " ".join(said.split())
        assert "step golden" in " ".join(said.split())
        assert "m: version 2 is quarantined at the step golden: " in serve.process.log
        # removed, and replaced, while it loads
        write_model(bad, "never")
        wait_until(lambda: serve.folder("m")["state"] == "replacing", "it loads", START_S)
        (loading,) = set(serve.pids("m")) - {serve.folder("m")["versions"][0]["pids"][0]}
        shutil.rmtree(bad)
        wait_until(lambda: not is_running(loading), "what loaded is gone", START_S)
        wait_until(lambda: quarantined(serve, "m") == {}, "nothing is said of it", START_S)
        write_model(bad, "never")
        wait_until(lambda: serve.folder("m")["state"] == "replacing", "it loads", START_S)
        write_model(bad, "C")
        traffic.wait_for("C")
    assert traffic.failures == {}
    assert set(traffic.answers) == {"A", "B", "C"}
    assert "Traceback" not in serve.process.log


def test_links_that_are_swapped_as_kubernetes_does_are_followed_and_nothing_is_written_there(run, models, tmp_path):
    folder = models / "m"
    write_model(folder / "..1", "A")
    (folder / "..data").symlink_to("..1")
    (folder / "model.pt2").symlink_to("..data/model.pt2")
    before = files_in(models)
    serve = Serve(run, models, env={"TMPDIR": str(tmp_path)})
    with Traffic(serve.address, "m") as traffic:
        traffic.wait_for("A")
        assert files_in(models) == before  # a read-only volume does as well
        write_model(folder / "..2", "B")
        (folder / "..new").symlink_to("..2")
        (folder / "..new").rename(folder / "..data")
        shutil.rmtree(folder / "..1")
        traffic.wait_for("B")
        write_model(folder / "..3", "broken")
        (folder / "..new").symlink_to("..3")
        (folder / "..new").rename(folder / "..data")
        wait_quarantined(serve, "m", 1, "load", "holds no weights")
        traffic.wait_for("B")
    assert traffic.failures == {}
    assert set(traffic.answers) == {"A", "B"}


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_with_trusted_keys_only_signed_versions_go_live_and_their_copies_go_with_them(run, models, tmp_path: Path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, capture_output=True)
    (tmp_path / "trusted").write_text(f"m {key.with_suffix('.pub').read_text()}")

    def sign(folder: Path) -> None:
        subprocess.run("sha256sum model.pt2 > SHA256SUMS", shell=True, check=True, cwd=folder)
        command = ["ssh-keygen", "-Y", "sign", "-f", key, "-n", "dl-inference", folder / "SHA256SUMS"]
        subprocess.run(command, check=True, capture_output=True)

    sign(write_model(models / "m" / "1", "A"))
    (tmp_path / "t").mkdir()
    serve = Serve(run, models, "--trusted-keys", str(tmp_path / "trusted"), env={"TMPDIR": str(tmp_path / "t")})
    with Traffic(serve.address, "m") as traffic:
        traffic.wait_for("A")
        write_model(models / "m" / "2", "B")
        wait_quarantined(serve, "m", 2, "signature", "this server takes signed folders only")
        sign(models / "m" / "2")
        traffic.wait_for("B")
        sockets = Path(re.search(r"serving m version 2 on unix:(\S+)", serve.process.log)[1]).parent
        wait_until(lambda: len([*sockets.glob("*.files")]) == 1, f"one copy is left: {[*sockets.iterdir()]}", START_S)
    assert traffic.failures == {}


MODEL = "import torch\ndef Model(): return torch.nn.Linear(1, 1)\n"
HOOKS = """
def run_model(model, x): return x
def postprocess(x): return "one"
"""
SLEEP = "import time\ntime.sleep(3600)\n"
MEMORY_BYTES = 1_500_000_000
# What processor.py does -> the step, and words of the reason and the remedy.
FAULTS = {
    2: ("import no_such_package_at_all\n", "load", "pip install no_such_package_at_all"),
    3: ("def postprocess(x) return x\n", "load", "processor.py:1: SyntaxError"),
    4: ("import sys\nsys.exit(3)\n", "load", "processor.py:2: SystemExit: 3"),
    5: ("import os\nos._exit(4)\n", "load", "ended with exit status 4"),
    6: (f"import time\nx = b'x' * {2 * MEMORY_BYTES}\ntime.sleep(3600)\n", "load", f"more than {MEMORY_BYTES} bytes"),
    7: (f"{HOOKS}def preprocess(x):\n  import ctypes\n  ctypes.string_at(0)\n", "warm-up", "killed by SIGSEGV"),
    8: (HOOKS.replace("one", "two"), "golden", "case 0: answer.strData is 'two', not 'one'"),
    9: (SLEEP, "load", "not ready within"),
    10: (f"{HOOKS}def preprocess(x):\n  import time\n  time.sleep(3600)\n", "warm-up", "not ready within"),
}


def write_pytorch(folder: Path, processor: str) -> Path:
    import torch

    folder.mkdir(parents=True)
    (folder / "processor.py").write_text(processor)
    (folder / "model.py").write_text(MODEL)
    torch.save({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}, folder / "model.pt")
    return folder


def write_samples(model: Path, *cases: Any) -> None:
    (model / "samples").mkdir(parents=True)
    (model / "samples" / "expected.json").write_text(json.dumps(cases))


ROWS = "def run_model(model, x): return x\ndef postprocess(x): return {}\n"
ARRAY = {"data": {"tensor": {"shape": [1, 2], "values": [1.0, 2.0]}}}


def test_real_models_that_fail_in_every_way_are_named_and_no_call_fails(run, models, tmp_path: Path):
    write_pytorch(models / "m" / "1", HOOKS)
    write_samples(models / "m", {"request": {"strData": "a"}, "expect": {"strData": "one"}})
    given = {"version_policy": "all", "load_timeout_ms": 8000, "max_load_memory_bytes": MEMORY_BYTES}
    write_pytorch(models / "n" / "1", ROWS.format("x"))
    write_samples(models / "n", {"request": ARRAY})
    serve = Serve(run, models, real=True, env={"TMPDIR": str(tmp_path)})
    with Traffic(serve.address, "m") as traffic:
        traffic.wait_for("one")
        (models / "m" / "model.yaml").write_text(json.dumps(given))
        for version, (processor, _, _) in FAULTS.items():
            write_pytorch(tmp_path / "made" / str(version), processor).rename(models / "m" / str(version))
        broken = write_pytorch(models / "m" / "11", HOOKS) / "model.pt"
        broken.write_bytes(b"\x80\x02}q\x00X\xff")
        # meanwhile: what callers of another model would notice
        serve.wait_state("n", "serving", LOAD_S)
        write_pytorch(models / "n" / "2", ROWS.format("x * float('nan')"))
        wait_quarantined(serve, "n", 2, "compare", "answers NaN or infinity")
        shutil.rmtree(models / "n" / "2")
        write_pytorch(models / "n" / "3", ROWS.format("[[1.0, 2.0, 3.0]]"))
        wait_quarantined(serve, "n", 3, "compare", "output output has the size 3 on axis 1, and had 2")
        (models / "n" / "model.yaml").write_text("allow_signature_change: true")
        wait_until(lambda: serve.folder("n")["state"] == "serving", "n is let through", LOAD_S)
        assert [each["version"] for each in serve.folder("n")["versions"] if each["serves"]] == [3]
        for version, (_, step, words) in FAULTS.items():
            wait_quarantined(serve, "m", version, step, words)
        wait_quarantined(serve, "m", 11, "find", "model.pt")
        traffic.wait_for("one")
    assert traffic.failures == {}
    assert set(traffic.answers) == {"one"}
