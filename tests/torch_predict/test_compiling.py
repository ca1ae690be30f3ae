"""`compile: true`: everything is compiled before the model is ready, or the model is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dl_inference.serving.load_error import LoadError
from torch_predict import compiling, repository
from torch_predict.config import ServerSettings
from torch_predict.loading import load_predictor

MODEL_PY = """
import torch
class Model(torch.nn.Linear):
    def __init__(self): super().__init__(2, 1)
"""


@pytest.fixture
def folder(write) -> Path:
    folder = write({"model.py": MODEL_PY, "model.yaml": "compile: true", "samples/x.bin": "1"})
    torch.save({"weight": torch.tensor([[1.0, 10.0]]), "bias": torch.zeros(1)}, folder / "model.pt")
    case = {"request": {"data": {"tensor": {"shape": [3, 2], "values": [1, 2, 3, 4, 5, 6]}}}}
    (folder / "samples" / "expected.json").write_text(json.dumps([case]))
    torch._dynamo.reset()
    return folder


@pytest.fixture
def graphs(monkeypatch) -> list[torch.fx.GraphModule]:
    """Take the graphs that are compiled; they run as they are, without the minutes of a compiler."""
    taken: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, examples: list[object]) -> object:
        taken.append(graph)
        return graph.forward

    monkeypatch.setattr(compiling, "inductor", lambda: backend)
    return taken


def load(folder: Path):
    found = repository.find(folder)
    settings = ServerSettings(torch_threads=1, torch_device="cpu")
    return load_predictor(found, found.chosen()[-1], allow_pickle=False, settings=settings)


def test_a_model_is_compiled_by_its_samples_and_not_by_callers(folder, graphs):
    predictor = load(folder)
    assert len(graphs) == 1
    for rows in (3, 4, 7):
        answer = predictor.run(torch.ones(rows, 2).double().numpy(), {}, "tensor")
        assert answer.tolist() == [[11.0]] * rows
    assert len(graphs) == 1


def test_a_model_that_nobody_asks_to_compile_is_not(folder, graphs):
    (folder / "model.yaml").unlink()
    load(folder)
    assert graphs == []


def test_a_compiler_that_fails_keeps_the_model_from_being_served(folder, monkeypatch):
    def fail(graph: object, examples: object) -> object:
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr(compiling, "inductor", lambda: fail)
    with pytest.raises(LoadError, match=r"torch.compile failed: .*no C\+\+ compiler.*take 'compile"):
        load(folder)


def test_without_samples_nothing_could_be_compiled_in_time(folder, graphs):
    (folder / "samples" / "expected.json").unlink()
    with pytest.raises(LoadError, match=r"no sample has run.*add a request to samples/expected\.json"):
        load(folder)


def test_the_default_is_torchs_own_compiler():
    assert compiling.Compilation()._backend is torch._dynamo.lookup_backend("inductor")
