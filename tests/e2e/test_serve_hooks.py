"""What hooks say reaches callers and operators through the access service; `serve` as people run it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.access_process import wait_until
from fixtures.processes import Process
from fixtures.serve_process import Serve, kill
from prometheus_client.parser import text_string_to_metric_families

from dl_inference import Client
from dl_inference.client.errors import FailedPrecondition

pytestmark = pytest.mark.timeout(400)

SWAP_S = 60
PROCESSOR = """
import torch_predict
WORDS = torch_predict.counter("words", "Words.", ["word"])
def preprocess(x, **kwargs):
    if x == "number": raise torch_predict.Error("FAILED_PRECONDITION", "not now", number=1234)
    WORDS.inc(word=x)
    return x
def run_model(model, x): return torch_predict.settings()["answer"]
@torch_predict.method
def double(model, x): return 2 * x
"""


def fill(folder: Path, answer: str) -> None:
    (folder / "model.yaml").write_text(json.dumps({"settings": {"answer": answer}}))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve_hooks") / "models" / "m"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text("import torch\nModel = lambda: torch.nn.Linear(2, 1)\n")
    torch.save({"weight": torch.zeros(1, 2), "bias": torch.zeros(1)}, folder / "model.pt")
    (folder / "processor.py").write_text(PROCESSOR)
    fill(folder, "first")
    return folder.parent


@pytest.fixture(scope="module")
def served(models: Path) -> Iterator[Serve]:
    """Start `serve` once: two processes that import torch."""
    served = Serve(Process, models, "--replicas", "2", real=True, env={"TMPDIR": str(models.parent)})
    yield served
    served.process.kill()


@pytest.fixture
def client(served: Serve) -> Iterator[Client]:
    with Client(served.address) as client:
        yield client


def counts(served: Serve) -> dict[tuple[str, str, str, str], float]:
    """Return the counts of words in the access service's page, as another program reads them."""
    with urllib.request.urlopen(f"http://{served.admin}/metrics", timeout=10) as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    assert any(each.name == "dl_requests" for each in families)
    found = {}
    for each in (sample for family in families for sample in family.samples if sample.name == "model_words_total"):
        labels = each.labels
        found[labels["model"], labels["version"], labels["instance"], labels["word"]] = each.value
    return found


def test_metrics_of_all_processes_are_in_the_access_services_page(served, client):
    for _ in range(20):
        client.predict_seldon("m", "cat", timeout_ms=20_000)
    instances = [("m", "1", str(index), "cat") for index in range(2)]
    wait_until(lambda: sum(counts(served).get(each, 0) for each in instances) == 20, "20 words are counted", 30)
    assert set(counts(served)) <= set(instances)


def test_an_errors_number_passes_the_access_service_and_is_shown_by_the_command(served, client):
    with pytest.raises(FailedPrecondition) as caught:
        client.predict_seldon("m", "number", timeout_ms=20_000)
    assert (caught.value.number, caught.value.kind) == (1234, "hook")
    (streamed,) = client.stream_oip("m", [{"strData": np.array([b"number"], object)}], timeout_ms=20_000)
    assert isinstance(streamed, FailedPrecondition), streamed
    assert (streamed.number, streamed.kind) == (1234, "hook")
    call = [sys.executable, "-m", "dl_inference.cli", "call", "m", '"number"', "--to", served.address]
    shown = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    assert (shown.returncode, "FAILED_PRECONDITION (hook, number 1234) from" in shown.stderr) == (1, True), shown
    as_json = subprocess.run([*call, "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(as_json.stdout)["error"]["number"] == 1234


def test_a_method_is_addressed_through_the_access_service(client):
    answer = client.predict_seldon("m", np.ones((1, 2)), tags={"method": "double"}, kind="ndarray", timeout_ms=20_000)
    assert answer.value.tolist() == [[2.0, 2.0]]


def test_settings_that_change_restart_the_model_and_no_call_fails(models, client):
    def answer() -> object:
        return client.predict_seldon("m", "x", timeout_ms=20_000).value

    assert answer() == "first"
    fill(models / "m", "second")
    wait_until(lambda: answer() == "second", "the new settings are in force", SWAP_S)


def test_a_models_sums_never_fall_while_its_processes_are_killed_and_replaced(served, models, client):
    seen: list[dict[tuple[str, str, str, str], float]] = []

    def look() -> float:
        seen.append({key: value for key, value in counts(served).items() if key[3] == "dog"})
        return sum(seen[-1].values())

    def ask() -> None:
        for _ in range(10):
            client.predict_seldon("m", "dog", timeout_ms=20_000)

    ask()
    wait_until(lambda: look() == 10, "10 words are counted", 30)
    killed = served.pids("m")[0]
    kill(killed)
    wait_until(lambda: (look(), len(set(served.pids("m")) - {killed}) == 2)[1], "another one is there", SWAP_S)
    ask()
    wait_until(lambda: look() == 20, f"20 words are counted: {seen[-1]}", 30)
    before = set(served.pids("m"))
    fill(models / "m", "third")
    wait_until(lambda: (look(), not before & set(served.pids("m")))[1], "all are replaced", SWAP_S)
    ask()
    wait_until(lambda: look() == 30, f"30 words are counted: {seen[-1]}", 30)
    for earlier, later in itertools.pairwise(seen):
        assert all(later.get(key, 0) >= value for key, value in earlier.items()), (earlier, later)
