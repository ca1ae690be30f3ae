"""`dl-inference new`: what it makes of models of each kind, that it works as it is, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.command_line import command
from fixtures.processes import Process
from fixtures.serve_process import Serve

from dl_inference import Client, InvalidArgument
from dl_inference.local import drafting
from torch_predict import draft, draft_text, repository
from torch_predict.errors import InvalidInput
from torch_predict.samples import read
from torch_predict.signature import TensorSpec

AUTO = torch.export.Dim.AUTO


class Two(torch.nn.Module):
    def forward(self, ids, mask):
        return {"sum": (ids * mask).sum(1), "ids": ids}


class Large(torch.nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


class Halves(torch.nn.Module):
    def forward(self, x):
        return torch.cat([x, x], 1)


class Not(torch.nn.Module):
    def forward(self, x):
        return ~x


class Fails(torch.nn.Module):
    def forward(self, x):
        return x @ torch.ones(5, 2)


def export(file: Path, model: torch.nn.Module, example: tuple[torch.Tensor, ...], dynamic: Any = None) -> Path:
    torch.export.save(torch.export.export(model.eval(), example, dynamic_shapes=dynamic), file)
    return file


def script(file: Path, model: torch.nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it deprecated
        torch.jit.save(torch.jit.script(model), file)


@pytest.fixture
def drafted(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Draft a folder in this process: what `new` does in another one."""

    def drafted(save: Callable[[Path], object], name: str, inputs: Any = ()) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path / "m"
        folder.mkdir()
        save(folder / name)
        return folder, draft.draft(repository.find(folder), inputs, "cpu")

    return drafted


def processor(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("drafted_processor", folder / "processor.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(400)  # torch is loaded three times
def test_a_new_folder_passes_check_and_is_served(tmp_path: Path, run: Callable[..., Process]):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(1))
    batch = torch.export.Dim("batch", min=1)
    source = export(tmp_path / "anything.pt2", model, (torch.ones(2, 4),), {"input": {0: batch}})
    models = tmp_path / "models"
    result = command("new", models / "iris", "--from", source, "--timeout-ms", 120_000)
    assert result.exit_code == 0, result.output
    assert "inputs   input float32 [-1, 4]" in result.output
    assert "outputs  output float32 [-1, 3]" in result.output
    made = sorted(str(each.relative_to(models)) for each in models.rglob("*") if each.is_file())
    files = ["README.md", "model.pt2", "model.yaml", "processor.py", "samples/expected.json"]
    assert made == [f"iris/{each}" for each in files]
    readme = (models / "iris" / "README.md").read_text()
    assert "from `anything.pt2`" in readme
    assert "{" not in readme
    cases = json.loads((models / "iris" / "samples" / "expected.json").read_text())
    assert [case["request"]["data"]["tensor"]["shape"] for case in cases] == [[2, 4], [1, 4]]
    result = command("check", models / "iris", "--load", "--timeout-ms", 120_000)
    assert result.exit_code == 0, result.output
    assert "answered 2 samples" in result.output
    assert "requests are joined, " in " ".join(result.output.split())
    served = Serve(run, models, real=True)
    with Client(served.address, timeout_ms=60_000) as client:
        served.wait_state("iris", "serving")
        for case in cases:
            tensor, expected = case["request"]["data"]["tensor"], case["expect"]["data"]["tensor"]
            x = np.reshape(tensor["values"], tensor["shape"])
            for answer in (client.predict_seldon("iris", x), client.predict_oip("iris", {"input": np.float32(x)})):
                np.testing.assert_allclose(answer.value.reshape(-1), expected["values"], atol=case["tolerance"])
        with pytest.raises(InvalidArgument, match=r"send numbers of shape \[-1, 4\]"):
            client.predict_seldon("iris", np.ones((2, 5)))


def test_several_inputs_are_samples_by_name_with_sizes_that_fit_together(drafted):
    dynamic = {"ids": {0: AUTO, 1: AUTO}, "mask": {0: AUTO, 1: AUTO}}
    example = (torch.ones(2, 6, dtype=torch.int64), torch.ones(2, 6))
    folder, found = drafted(lambda file: export(file, Two(), example, dynamic), "model.pt2")
    assert (found["samples"], found["why"]) == (2, "")
    assert found["inputs"] == "ids int64 [-1, -1]; mask float32 [-1, -1]"
    case = json.loads((folder / "samples" / "expected.json").read_text())[0]
    inputs = case["request"]["jsonData"]
    assert np.shape(inputs["ids"]) == np.shape(inputs["mask"]) == (2, 8)
    assert np.allclose(np.multiply(inputs["ids"], inputs["mask"]).sum(1), case["expect"]["jsonData"]["sum"])
    source = (folder / "processor.py").read_text()
    assert "ids: int64 [-1, -1]\n    mask: float32 [-1, -1]\n" in source
    assert not any(hasattr(processor(folder), name) for name in ("preprocess", "run_model", "postprocess"))


def test_a_large_input_is_a_file_beside_the_samples(drafted):
    folder, found = drafted(lambda file: export(file, Large(), (torch.ones(1, 3, 16, 16),)), "model.pt2")
    assert found["samples"] == 2
    assert [sample.value.shape for sample in read(folder)[0]] == [(1, 3, 16, 16)] * 2
    first, second = read(folder)[0]
    assert not np.array_equal(first.value, second.value)
    assert np.load(folder / "samples" / "input_0.npy").dtype == np.float32


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_bools_and_whole_numbers_have_samples_and_checks(drafted, dtype: torch.dtype):
    model = Not() if dtype == torch.bool else Halves()
    folder, found = drafted(lambda file: export(file, model, (torch.ones(2, 3, dtype=dtype),)), "model.pt2")
    assert (found["samples"], found["why"]) == (2, "")
    preprocess = processor(folder).preprocess
    array = np.ones((2, 3), bool if dtype == torch.bool else np.float64)
    assert preprocess(array).dtype == dtype
    wrong = [array[:1], "text", np.array([["a"] * 3] * 2)]
    wrong += [array + 0.5, array * np.nan, array * np.inf] if dtype == torch.uint8 else [np.ones((2, 3))]
    for each in wrong:
        with pytest.raises(InvalidInput, match="send"):
            preprocess(each)


def test_torchscript_needs_its_inputs_named_for_samples(drafted, tmp_path: Path):
    def save(file: Path) -> None:
        script(file, torch.nn.Linear(4, 2))

    folder, found = drafted(save, "model.pt", [TensorSpec("input", "float32", (-1, 4))])
    assert (found["samples"], found["outputs"]) == (2, "output float32 [-1, 2]")
    assert "input: float32 [-1, 4]" in (folder / "processor.py").read_text()
    folder.rename(tmp_path / "first")
    folder, found = drafted(save, "model.pt")
    assert found["samples"] == 0
    assert "name them by --input NAME=DTYPE[SIZE,...]" in found["why"]
    assert not (folder / "samples" / "expected.json").exists()
    assert "(not known)" in (folder / "processor.py").read_text()
    folder.rename(tmp_path / "second")
    with pytest.raises(Exception, match=r"has no input 'y'.*its inputs are input"):
        drafted(save, "model.pt", [TensorSpec("y", "float32", (-1, 4))])


def test_a_model_that_answers_no_generated_input_is_told_and_has_no_samples(drafted):
    def save(file: Path) -> None:
        script(file, Fails())

    folder, found = drafted(save, "model.pt", [TensorSpec("x", "float32", (2, 4))])
    assert found["samples"] == 0
    assert found["why"].startswith("the model does not answer generated inputs: ")
    assert not (folder / "samples" / "expected.json").exists()
    assert processor(folder).preprocess(np.ones((2, 4))).shape == (2, 4)


def test_new_refuses_a_folder_that_is_not_empty_and_what_is_no_program(tmp_path: Path):
    source = tmp_path / "weights.pt"
    torch.save(torch.nn.Linear(1, 1).state_dict(), source)
    (tmp_path / "full" / "samples").mkdir(parents=True)
    (tmp_path / "damaged.pt2").write_bytes(b"PK\3\4")
    (tmp_path / "model.onnx").touch()
    torch.save(torch.nn.Linear(1, 1), tmp_path / "whole.pth")
    for folder, file, words in (
        ("full", source, f"{tmp_path}/full: is not empty: it holds samples"),
        ("bad name", source, "'bad name' cannot be a model's name"),
        ("weights.pt", source, f"{tmp_path}/weights.pt: is a file"),
        ("new", source, f"{source}: holds weights, and no program that could be run: class Model() is missing"),
        ("new", tmp_path / "gone.pt2", f"{tmp_path}/gone.pt2: is not a file"),
        ("new", tmp_path / "damaged.pt2", f"{tmp_path}/damaged.pt2: is damaged"),
        ("new", tmp_path / "model.onnx", "has the suffix '.onnx', and not one of .pt, .pt2, .pth, .safetensors"),
        ("new", tmp_path / "whole.pth", f"{tmp_path}/whole.pth: holds more than weights, as pickled objects"),
    ):
        before = sorted(tmp_path.rglob("*"))
        result = command("new", tmp_path / folder, "--from", file)
        assert result.exit_code == 1, result.output
        assert words in result.output
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["x", "x=float33[1]", "x=float32[a]", "x=float32[-2]", "=float32[1]", "x=float32"])
def test_an_input_that_is_none_is_named(tmp_path: Path, text: str):
    (tmp_path / "m.pt").touch()
    result = command("new", tmp_path / "m", "--from", tmp_path / "m.pt", "--input", text)
    assert result.exit_code == 1
    assert f"--input: {text!r}" in result.output


def test_a_model_that_hangs_or_crashes_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = export(tmp_path / "m.pt2", torch.nn.Identity(), (torch.ones(1),))
    for does, limit_ms, words in (
        ("import time; time.sleep(99)", 1000, "did not end within 1 s"),
        ("import os; os.abort()", 60_000, "was killed by SIGABRT"),
    ):
        monkeypatch.setattr(drafting, "PROGRAM", (drafting.PROGRAM[0], "-c", does))
        result = command("new", tmp_path / "new", "--from", source, "--timeout-ms", limit_ms)
        assert result.exit_code == 1
        assert f"{source}: the process that loads it {words}" in result.output
        assert sorted(tmp_path.iterdir()) == [source]


def test_an_empty_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = export(tmp_path / "m.pt2", torch.nn.Identity(), (torch.ones(1),))
    (tmp_path / "new").mkdir()
    found = {"inputs": "", "outputs": "", "samples": 0, "why": "", "ended": True}
    monkeypatch.setattr(drafting, "run", lambda command, timeout_s: ([found], ""))
    result = command("new", tmp_path / "new", "--from", source)
    assert result.exit_code == 0, result.output
    assert sorted(each.name for each in (tmp_path / "new").iterdir()) == ["README.md", "model.pt2", "model.yaml"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (-1,), (-1, 3, 4)])
def test_hooks_of_any_single_tensor_work_as_they_are(dtype: str, shape: tuple[int, ...]):
    spec = TensorSpec("output", dtype, shape)
    source = draft_text.processor("m", [spec], [spec])
    names: dict[str, Any] = {}
    exec(compile(source, "processor.py", "exec"), names)
    array = np.ones([2 if size == -1 else size for size in shape], bool if dtype == "bool" else np.float32)
    tensor = names["preprocess"](array)
    assert (tensor.dtype, tensor.shape) == (getattr(torch, dtype), array.shape)
    np.testing.assert_array_equal(names["postprocess"](tensor), array)
