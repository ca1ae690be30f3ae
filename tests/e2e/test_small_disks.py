"""Disks that are full or read-only while `serve` runs: it says so, the live version answers, and it goes on by itself.

The disks are real ones (fixtures/small_disk.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.access_process import wait_until
from fixtures.serve_process import START_S, WITH_STAND_INS, Serve, Traffic, write_model
from fixtures.small_disk import SmallDisk

pytestmark = pytest.mark.timeout(400)

LOAD_S = 120
MIB = 1 << 20
FULL = "no space is left on its disk"
REMEDY = "free space on that disk"


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder with a path short enough for sockets."""
    made = Path(tempfile.mkdtemp(prefix="disk-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def wait_quarantined(serve: Serve, version: int, step: str, words: str) -> None:
    def is_there() -> bool:
        found = [each for each in serve.folder("m")["quarantined"] if each["version"] == version]
        return bool(found) and found[0]["step"] == step and words in f"{found[0]['reason']}; {found[0]['remedy']}"

    wait_until(is_there, f"{version}: {step}: {words}; {serve.folder('m')}\n{serve.process.log}", LOAD_S)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_a_signed_version_waits_for_room_for_its_copy_and_the_live_one_answers(run, place: Path, tmp_path: Path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, capture_output=True)
    (tmp_path / "trusted").write_text(f"m {key.with_suffix('.pub').read_text()}")
    models, disk = tmp_path / "models", SmallDisk(place, 8)

    def put(version: int, answer: str) -> None:
        made = write_model(tmp_path / answer, answer)
        with zipfile.ZipFile(made / "model.pt2", "a") as archive:
            archive.writestr("weights", os.urandom(2 * MIB))
        subprocess.run("sha256sum model.pt2 > SHA256SUMS", shell=True, check=True, cwd=made)
        sign = ["ssh-keygen", "-Y", "sign", "-f", key, "-n", "dl-inference", made / "SHA256SUMS"]
        subprocess.run(sign, check=True, capture_output=True)
        (models / "m").mkdir(parents=True, exist_ok=True)
        made.rename(models / "m" / str(version))

    put(1, "A")
    access_log = place / "access.log"
    env = {"TMPDIR": str(place), "DL_INFERENCE_ACCESS_LOG": str(access_log)}
    serve = Serve(disk.run(run), models, "--trusted-keys", str(tmp_path / "trusted"), env=env)
    with Traffic(serve.address, "m") as traffic:
        traffic.wait_for("A")
        disk.fill()
        put(2, "B")
        wait_quarantined(serve, 2, "load", f"{FULL}; {REMEDY}")
        traffic.wait_for("A")
        disk.empty()
        traffic.wait_for("B")
        logged = (disk.seen / "access.log").read_text().splitlines()
    assert traffic.failures == {}
    assert set(traffic.answers) == {"A", "B"}
    assert json.loads(logged[-1])["cluster"] == "m@2", "the access log goes on"
    assert f"WARNING serve: the access log {access_log} cannot be written" in serve.process.log
    assert f"INFO serve: the access log {access_log} is written again" in serve.process.log
    assert "Traceback" not in serve.process.log
    assert [*place.iterdir()] == []  # all of it was on the disk


PROCESSOR = """
import torch_predict
CALLS = torch_predict.counter("calls", "Calls.")
def run_model(model, x): return x
def postprocess(x):
    CALLS.inc()
    return {}
"""


def write_pytorch(folder: Path, answer: str) -> Path:
    import torch

    folder.mkdir(parents=True)
    (folder / "processor.py").write_text(PROCESSOR.format(answer))
    (folder / "model.py").write_text("import torch\ndef Model(): return torch.nn.Linear(1, 1)\n")
    torch.save({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}, folder / "model.pt")
    return folder


def test_what_a_full_disk_keeps_from_being_told_is_not_taken_for_right(run, place: Path, tmp_path: Path):
    models, disk = tmp_path / "models", SmallDisk(place, 2)
    write_pytorch(models / "m" / "1", "x")
    (models / "m" / "samples").mkdir()
    case = {"request": {"data": {"tensor": {"shape": [1, 2], "values": [1.0, 2.0]}}}}
    (models / "m" / "samples" / "expected.json").write_text(json.dumps([case]))
    serve = Serve(disk.run(run), models, real=True, env={"TMPDIR": str(place)})

    def metric(name: str) -> list[str]:
        with urllib.request.urlopen(f"http://{serve.admin}/metrics", timeout=10) as answer:
            return [line for line in answer.read().decode().splitlines() if line.startswith(name)]

    with Traffic(serve.address, "m") as traffic:
        # Texts are not what the samples show, and answered as they are.
        wait_until(lambda: traffic.calls > 5, "m answers", LOAD_S)
        disk.fill()
        counted = metric("model_calls_total")
        write_pytorch(tmp_path / "2", "[[1.0, 2.0, 3.0]]").rename(models / "m" / "2")
        wait_quarantined(serve, 2, "compare", f"what it takes and gives could not be written down; {REMEDY}")
        disk.empty()
        wait_quarantined(serve, 2, "compare", "output output has the size 3 on axis 1, and had 2")
        wait_until(lambda: metric("model_calls_total") != counted, "the model's own counters go on", START_S)
        disk.fill()
        write_pytorch(tmp_path / "3", "x").rename(models / "m" / "3")
        wait_quarantined(serve, 3, "compare", "could not be written down")
        disk.empty()
        versions = lambda: serve.folder("m")["versions"]  # noqa: E731
        wait_until(lambda: any(each["version"] == 3 and each["serves"] for each in versions()), "3 serves", LOAD_S)
    assert traffic.failures == {}
    assert "Traceback" not in serve.process.log


def test_an_environment_waits_for_room_and_leaves_none_taken(run, place: Path, tmp_path: Path):
    disk = SmallDisk(place, 4)  # an environment takes more than 10
    model = write_pytorch(tmp_path / "models" / "m", "x")
    (model / "requirements.txt").write_text("--no-index\n")
    env = {"TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(place)}
    serve = Serve(disk.run(run), tmp_path / "models", "--make-environments", real=True, env=env)
    wait_quarantined(serve, 1, "load", f"{FULL} (XDG_CACHE_HOME may name a folder on another one); {REMEDY}")
    serve.process.wait_line("m@1/0: .*starts again in", timeout_s=LOAD_S)
    disk.resize(200)
    serve.wait_state("m", "serving", LOAD_S)
    disk.make_read_only()  # of what is there already nothing is written
    (model / "processor.py").touch()
    before = serve.pids("m")
    wait_until(lambda: not set(before) & set(serve.pids("m")), "the model is loaded again", LOAD_S)
    serve.wait_state("m", "serving", LOAD_S)


def test_models_on_a_disk_that_is_read_only_are_served(run, place: Path, tmp_path: Path):
    disk = SmallDisk(place, 4)
    serve = Serve(disk.run(run), place, env={"TMPDIR": str(tmp_path)})
    write_model(disk.seen / "m" / "1", "A")
    disk.make_read_only()
    serve.wait_state("m", "serving")
    with Traffic(serve.address, "m") as traffic:
        traffic.wait_for("A")
        disk.make_read_only(is_read_only=False)
        write_model(tmp_path / "2", "B")
        shutil.copytree(tmp_path / "2", disk.seen / "m" / "2")
        disk.make_read_only()
        traffic.wait_for("B")
    assert traffic.failures == {}
    assert "rror" not in serve.process.log


def test_a_log_on_a_full_disk_loses_lines_and_nothing_else(run, place: Path, tmp_path: Path):
    models, disk = tmp_path / "models", SmallDisk(place, 1)
    write_model(models / "m" / "1", "A")
    listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    command = [sys.executable, "-c", WITH_STAND_INS, models, *listen]
    process = disk.run(run, has_log=True)(command, env={"TMPDIR": str(tmp_path), "DL_INFERENCE_TORCH_THREADS": "1"})
    log = disk.seen / "log"

    def ready() -> re.Match[str] | None:
        assert not process.has_ended, process.log
        return re.search(r"ready on (\S+), ", log.read_text()) if log.exists() else None

    address = wait_until(ready, "it is ready", START_S)[1]
    with Traffic(address, "m") as traffic:
        traffic.wait_for("A")
        disk.fill("log")
        full = log.stat().st_size
        write_model(models / "m" / "2", "B")
        traffic.wait_for("B")
        assert log.stat().st_size == full
        os.truncate(log, 0)
        write_model(models / "m" / "3", "C")
        traffic.wait_for("C")
    assert traffic.failures == {}
    assert "version 3 serves" in log.read_text()
