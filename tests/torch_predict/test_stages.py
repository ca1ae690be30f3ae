"""What one process tells of samples that it runs stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torch_predict import hooks, stages
from torch_predict.predictor import Predictor
from torch_predict.samples import Sample


def run(predictor: Predictor, *samples: Sample) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    stages.run(predictor, list(samples), lambda line: told.append(dict(line)))
    return told


def test_every_stage_is_named_before_it_runs_and_told_with_its_time():
    predictor = Predictor(torch.nn.Linear(2, 1), hooks.Hooks(), torch.device("cpu"))
    told = run(predictor, Sample("tensor", np.ones((3, 2)), case=5))
    assert [line["at"] for line in told[:-1]] == [["5", "decode"], ["5", "model"], ["5", "encode"]]
    done = told[-1]
    assert {name for name in done} == {"case", "stages", "answer"}
    shapes = {each["name"]: each["what"] for each in done["stages"]}
    assert shapes["decode"] == "float64 [3, 2]"
    assert shapes["model"] == "float32 [3, 1]"
    assert all(each["ms"] > 0 for each in done["stages"])
    assert done["answer"] == {
        "kind": "tensor",
        "value": predictor.predict(Sample("tensor", np.ones((3, 2)))).value.tolist(),
    }


def test_a_hook_that_writes_into_its_input_gets_a_fresh_one_each_time(write: Callable[..., Path]):
    own = hooks.load(write({"processor.py": "def preprocess(x):\n    x += 1\n    return x\n"}))
    predictor = Predictor(torch.nn.Identity(), own, torch.device("cpu"))
    (*_, done) = run(predictor, Sample("tensor", np.zeros((1, 1))))
    assert done["answer"]["value"] == [[1.0]]
    assert "again" not in done


def test_an_answer_that_differs_each_time_is_told_twice(write: Callable[..., Path]):
    source = "seen = []\ndef postprocess(x):\n    seen.append(1)\n    return {'n': len(seen), 'b': None}\n"
    predictor = Predictor(torch.nn.Identity(), hooks.load(write({"processor.py": source})), torch.device("cpu"))
    (*_, done) = run(predictor, Sample("tensor", np.zeros((1, 1))))
    assert (done["answer"]["value"]["n"], done["again"]["value"]["n"]) == (1, stages.RUNS)


def test_a_stage_that_fails_is_told_and_the_next_sample_runs(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    source = "import sys\ndef preprocess(x):\n    if x == 'exit':\n        sys.exit('no')\n    return x\n"
    source += "def postprocess(x):\n    return b'ab'\n"
    folder = write({"processor.py": source})
    monkeypatch.chdir(folder)
    predictor = Predictor(lambda x: x, hooks.load(folder), torch.device("cpu"))
    told = [
        line for line in run(predictor, Sample("strData", "exit"), Sample("strData", "go", case=1)) if "case" in line
    ]
    error = told[0]["error"]
    assert (error["stage"], error["code"], error["what"]) == ("preprocess", 13, "SystemExit: no (processor.py:4)")
    assert error["is_hidden"]
    assert [each["name"] for each in told[0]["stages"]] == ["decode"]
    assert told[1]["answer"] == {"kind": "binData", "value": "YWI="}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros(2, 3, dtype=torch.bfloat16), "bfloat16 [2, 3]"),
        (np.zeros((), np.int8), "int8 []"),
        (b"abc", "bytes of 3"),
        (
            {"a": {"b": 1}, "c": [1, 2], "d": 1.5, "e": None, "f": 1},
            "{a: dict of 1, c: list of 2, d: float, e: NoneType, ...}",
        ),
        ([np.zeros(2), 1], "list of 2: float64 [2]"),
        ((), "tuple of 0"),
        (object(), "object"),
    ],
)
def test_a_value_is_described_by_its_type_and_shape(value: Any, words: str):
    assert stages.described(value) == words
