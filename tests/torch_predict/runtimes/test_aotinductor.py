"""Packages of AOTInductor: machine code, loaded only where that is allowed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.compiled_model import MAX_ROWS, compiled

from dl_inference.serving.load_error import LoadError
from torch_predict import repository
from torch_predict.calling import Model
from torch_predict.errors import InvalidInput
from torch_predict.runtimes import RUNTIMES
from torch_predict.runtimes.aotinductor import AotInductor

CPU = torch.device("cpu")
COMPILE_S = 400


def archive(file: Path, *names: str) -> Path:
    file.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(file, "w") as written:
        for name in ("archive_format", "data/aotinductor/model/model.wrapper.so", *names):
            written.writestr(f"model/{name}", "pt2")
    return file


def test_machine_code_is_refused_before_any_of_it_is_loaded(tmp_path: Path):
    archive(tmp_path / "m" / "model.pt2")
    (problem,) = repository.check(tmp_path / "m")
    assert "is a package of AOTInductor, which is machine code" in problem.message
    assert "torch.export.save" in problem.remedy
    folder = repository.find(tmp_path / "m")
    with pytest.raises(LoadError, match=r"is machine code.*--allow-pickle"):
        repository.load(folder, folder.chosen()[-1], allow_pickle=False, device=CPU)
    assert repository.check(tmp_path / "m", allow_pickle=True) == []


def test_a_program_beside_its_machine_code_is_loaded_as_the_program(tmp_path: Path):
    file = archive(tmp_path / "model.pt2", "models/model.json")
    assert next(runtime for runtime in RUNTIMES if runtime.recognises(file)).name == "exported"


def test_what_cannot_be_loaded_says_what_to_do(tmp_path: Path):
    with pytest.raises(LoadError, match=r"cannot load it: .*compile it again on this kind of machine"):
        AotInductor().load(archive(tmp_path / "model.pt2"), CPU)


@pytest.mark.timeout(COMPILE_S)
def test_machine_code_is_sent_only_what_it_was_compiled_for(tmp_path: Path):
    torch.manual_seed(0)  # as in test_runtimes.py: it is compiled once for both
    (tmp_path / "model.pt2").write_bytes(compiled(torch.nn.Linear(3, 2)))
    loaded = AotInductor().load(tmp_path / "model.pt2", CPU)
    called = Model(loaded, CPU, AotInductor().signature(loaded))
    assert called.call(called.named(np.ones((MAX_ROWS, 3)), "data"), {}).shape == (MAX_ROWS, 2)
    for wrong in (np.ones((3, 5)), np.ones((3, 3), np.int64), np.ones((MAX_ROWS + 1, 3)), np.ones(3)):
        with pytest.raises(InvalidInput, match="this model cannot take 'x'"):
            called.call(called.named(wrong, "data"), {})
    with pytest.raises(LoadError, match="is compiled for cpu, and is to run on meta"):
        AotInductor().load(tmp_path / "model.pt2", torch.device("meta"))


class Pretend:
    """Stands in for a loaded package."""

    def __init__(self, positional: int, keywords: list[str], *, inner: int = 0) -> None:
        leaf = {"children_spec": [{}] * inner}
        by_name = {"context": json.dumps(keywords), "children_spec": [leaf] * len(keywords)}
        self.spec = [1, {"children_spec": [{"children_spec": [leaf] * positional}, by_name]}]
        self.loader = self

    def get_call_spec(self) -> list[str]:
        return [json.dumps(self.spec)]

    def get_metadata(self) -> dict[str, str]:
        return {}

    def __call__(self, *args: object, **kwargs: object) -> object:
        return args, kwargs


@pytest.mark.parametrize(
    ("package", "names"),
    [(Pretend(1, []), ["x"]), (Pretend(2, ["scale"]), ["x_0", "x_1", "scale"]), (Pretend(0, ["b", "a"]), ["b", "a"])],
)
def test_inputs_are_named_by_their_place_or_their_keyword(monkeypatch, tmp_path: Path, package, names):
    monkeypatch.setattr("torch._inductor.aoti_load_package", lambda *_, **__: package)
    loaded = AotInductor().load(tmp_path / "model.pt2", CPU)
    signature = AotInductor().signature(loaded)
    assert [argument.name for argument in signature.arguments] == names
    positional, keywords = signature.call(loaded, {name: name for name in names}, {})
    assert [*positional, *keywords] == names


def test_a_package_that_takes_more_than_tensors_is_refused(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("torch._inductor.aoti_load_package", lambda *_, **__: Pretend(1, [], inner=2))
    with pytest.raises(LoadError, match="it takes tuples, lists or dicts of tensors"):
        AotInductor().load(tmp_path / "model.pt2", CPU)
