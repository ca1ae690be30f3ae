"""What `check --stages` says of samples: a real model whose hooks misbehave by the sample; stand-ins that crash."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from fixtures.access_process import wait_until
from fixtures.command_line import command

from dl_inference.local import running, staging
from dl_inference.local.difference import difference

LIMIT_S = 6.0  # long enough for Python to start on a busy machine
MODEL_PY = "import torch\nclass Model(torch.nn.Linear):\n    def __init__(self): super().__init__(1, 1, bias=False)\n"
# As safetensors writes one weight; torch itself would take seconds to import here.
HEADER = b'{"weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + b"\0\0\0\x40"
PROCESSOR_PY = """
import sys, time, torch, torch_predict

IS_OFFLINE = sys.modules["__main__"].__spec__.name == "torch_predict.stages"
calls = {}

def preprocess(x, **kwargs):
    if not isinstance(x, str):
        return x
    if x == "refuse":
        raise torch_predict.InvalidInput("not this")
    if x == "break":
        raise KeyError("secret")
    return torch.ones(2, 1)

def run_model(model, x, **kwargs):
    return model(x.float() if torch.is_tensor(x) else torch.from_numpy(x).float())

def postprocess(x, meta):
    what = meta.get("tags", {}).get("what", "")
    calls[what] = calls.get(what, 0) + 1
    if what == "served" and not IS_OFFLINE:
        x = x + 1
    if what == "shared" and not IS_OFFLINE and calls[what] > 6:  # the warm-up, and five alone
        x = x + 1e-3
    if what == "clock":
        x = x + time.time_ns() % 1000003
    return {"score": x.numpy(), "raw": [None, what]}
"""
CASES = [
    {"request": {"data": {"tensor": {"shape": [3, 1], "values": [1, 2, 3]}}}},
    {"request": {"strData": "text"}},
    {"request": {"strData": "refuse"}, "error": {"code": "INVALID_ARGUMENT", "text": "not"}},
    {"request": {"strData": "break"}},
    {"request": {"strData": "text", "meta": {"tags": {"what": "served"}}}},
    {"request": {"strData": "text", "meta": {"tags": {"what": "shared"}}}},
    {"request": {"strData": "text", "meta": {"tags": {"what": "clock"}}}},
    {"request": {"data": {"ndarray": [[1.0]]}}, "error": {"code": "INVALID_ARGUMENT", "text": "x"}},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "double"
    (found / "samples").mkdir(parents=True)
    (found / "model.py").write_text(MODEL_PY)
    (found / "processor.py").write_text(PROCESSOR_PY)
    (found / "model.safetensors").write_bytes(WEIGHTS)
    (found / "samples" / "expected.json").write_text(json.dumps(CASES))
    return found


def test_each_sample_is_run_stage_by_stage_and_compared_with_the_server(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DL_INFERENCE_TORCH_THREADS", "1")
    result = command("check", folder, "--stages", "--timeout-ms", 100_000)
    assert result.exit_code == 1, result.output
    file = f"{folder}/samples/expected.json"
    told = [line.removeprefix(f"{file}: ") for line in result.output.splitlines() if line.startswith(file)]
    assert told == [
        "case 3 of samples/expected.json failed at stage preprocess: KeyError: 'secret' (processor.py:13)",
        "case 4 is answered otherwise when it is served: 3 in place of 2 at ['score'] [0, 0]",
        "case 5 is answered otherwise among others at the same time: 2.00099993 in place of 2 at ['score'] [0, 0]",
        "case 7 of samples/expected.json should be refused, but all its stages answered",
    ]
    rows = {line.split()[0]: line for line in result.output.splitlines() if line[1:2].isdigit()}
    assert " ".join(rows["0"].split()) == (
        "0 float64 [3, 1] float64 [3, 1] float32 [3, 1] {score: float32 [3, 1], raw: list of 2} same"
    )
    assert " ".join(rows["2"].split()) == "2 str of 6 InvalidInput: not this (processor.py:11) refused alike"
    words = [rows[case].split()[-1] for case in "01234567"]
    assert words == ["same", "same", "alike", "differs", "differs", "differs", "varies", "differs"]
    times = [each for each in result.output.splitlines() if each.strip().endswith(" ms")]
    assert len(times) == len(CASES)
    assert "time: decode " in result.output


METHODS_PY = """
import numpy, torch, torch_predict

def preprocess(x, **kwargs):
    return x

@torch_predict.method
def embed(model, x):
    return 2 * x

@torch_predict.method("by-word")
def words(model, x, meta):
    return {"length": len(x), "tags": meta["tags"]}

@torch_predict.method
def broken(model, x):
    raise KeyError("never")
"""
ROWS = {"name": "x", "datatype": "FP32", "shape": [2, 1], "contents": {"fp32Contents": [1, 2]}}
METHOD_CASES = [
    {"request": {"data": {"tensor": {"shape": [3, 1], "values": [1, 2, 3]}}}},
    {"method": "/inference.GRPCInferenceService/ModelInfer", "request": {"inputs": [ROWS]}},
    {"request": {"strData": "text", "meta": {"tags": {"method": "by-word"}}}},
]


def test_methods_are_listed_and_tried_with_the_samples_of_both_protocols(folder: Path, monkeypatch):
    (folder / "processor.py").write_text(METHODS_PY)
    (folder / "samples" / "expected.json").write_text(json.dumps(METHOD_CASES))
    monkeypatch.setenv("DL_INFERENCE_TORCH_THREADS", "1")
    result = command("check", folder, "--stages", "--all", "--timeout-ms", 100_000)
    assert result.exit_code == 1, result.output
    assert re.search("methods +embed, by-word, broken ", result.output)
    file = f"{folder}/samples/expected.json"
    told = [line.removeprefix(f"{file}: ") for line in result.output.splitlines() if line.startswith(file)]
    assert told == [
        "no case shows what the method broken does: with case 0 it fails: KeyError: 'never' (processor.py:17)"
    ]
    rows = [" ".join(line.split()) for line in result.output.splitlines() if line[1:2].isdigit()]
    assert rows == [
        "0 float64 [3, 1] float64 [3, 1] float32 [3, 1] same",
        "1 float32 [2, 1] float32 [2, 1] float32 [2, 1] same",
        "2 str of 4 {length: int, tags: dict of 1} same",
        "0 embed float64 [3, 1] float64 [3, 1] same",
        "1 embed float32 [2, 1] {output: float32 [2, 1]} same",
        "0 broken float64 [3, 1] KeyError: 'never' (processor.py:17) not for this method",
        "1 broken float32 [2, 1] KeyError: 'never' (processor.py:17) not for this method",
    ]


def test_without_samples_it_says_where_to_write_some(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "samples" / "expected.json").unlink()
    monkeypatch.setattr(staging, "load", lambda layout, **options: ({"version 1": "ready"}, []))
    result = command("check", folder, "--stages")
    assert result.exit_code == 0, result.output
    assert re.search("stages +no samples to run: write some into samples/expected.json", result.output)


@pytest.mark.parametrize(
    ("does", "end"),
    [
        ("os._exit(3)", "ended with exit status 3"),
        ("print('bye', flush=True); os._exit(3)", "ended with exit status 3 (bye)"),
        ("os.kill(os.getpid(), 6)", "was killed by SIGABRT"),
        ("time.sleep(100)", "did not end within 6 s: it hangs, or needs a longer --timeout-ms,"),
    ],
)
def test_a_stage_that_ends_the_process_or_hangs_is_named(tmp_path: Path, does: str, end: str):
    child = tmp_path / "child"
    program = f"""
import os, subprocess, sys, time
with open(sys.argv[-1], "w") as lines:
    lines.write('{{"at": [4, "model"]}}\\n{{"ca')
open({str(child)!r}, "w").write(str(subprocess.Popen(["sleep", "99"]).pid))
{does}
"""
    told, found = running.run([sys.executable, "-c", program], LIMIT_S if "sleep" in does else 60)
    assert told == [{"at": [4, "model"]}]
    assert found.startswith(end)
    problem = staging._ended(tmp_path, told, found)
    assert problem.message.endswith("in case 4 of samples/expected.json at stage model")
    grandchild = int(child.read_text())
    wait_until(lambda: not is_running(grandchild), "what it started has ended", 20)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie that nobody has reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"a": [1.0, 2.0]}, {"a": [1, 2.000001]}, ""),
        ({"a": [1.0, 2.0]}, {"a": [1, 2.1]}, "2.1 in place of 2 at ['a'] [1]"),
        ({"a": 1}, {"b": 1}, "the keys ['b'] in place of ['a']"),
        ([[1.0, 2.0]], [[1.0], [2.0]], "the shape [2, 1] in place of [1, 2]"),
        ([float("nan"), float("inf")], [float("nan"), float("inf")], ""),
        ([float("nan")], [1.0], "1 in place of nan [0]"),
        ([1.0], [float("inf")], "inf in place of 1 [0]"),
        ([1e9], [1e9 + 100], ""),
        ([0.0], [2e-5], "2e-05 in place of 0 [0]"),
        (["a", 1, None], ["a", 1.0, None], ""),
        (["a", [1, 2]], ["a", [1, 3]], "3 in place of 2 at [1] [1]"),
        (["a"], ["a", "b"], "2 in place of 1 elements"),
        ("a" * 99, "b", "'b' in place of '" + "a" * 59 + "..."),
        (True, 1, ""),
        (None, 0, "0 in place of None"),
        ([], [], ""),
        (3, 3.5, "3.5 in place of 3"),
    ],
)
def test_a_difference_is_told_with_its_place(one, other, words: str):
    assert difference(one, other, 1e-5) == words
