"""Packages of AOTInductor: machine code, loaded only where that is allowed."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

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


class Two(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, y: torch.Tensor, *, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": self.layer(x) + y * scale}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Two]:
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler: nothing can be compiled")
    model = Two().eval()
    rows = torch.export.Dim("rows", min=1, max=64)
    given = (torch.ones(2, 4), torch.ones(2, 2)), {"scale": torch.ones(1)}
    with torch.no_grad():
        program = torch.export.export(model, *given, dynamic_shapes={"x": {0: rows}, "y": {0: rows}, "scale": None})
        file = tmp_path_factory.mktemp("compiled") / "model.pt2"
        torch._inductor.aoti_compile_and_package(program, package_path=str(file))
    return file, model


@pytest.mark.timeout(COMPILE_S)
@pytest.mark.filterwarnings("default")  # of the compiler
def test_machine_code_answers_as_the_model_and_refuses_what_does_not_fit(package):
    file, model = package
    assert AotInductor().recognises(file)
    loaded = AotInductor().load(file, CPU)
    called = Model(loaded, CPU, AotInductor().signature(loaded))
    x, y, scale = np.ones((3, 4)), np.ones((3, 2)), np.full(1, 2.0)
    given = called.signature.bind({"x_0": x, "x_1": y, "scale": scale})
    with torch.no_grad():
        wanted = model(*(torch.from_numpy(each).float() for each in (x, y)), scale=torch.full((1,), 2.0))["sum"]
    assert torch.allclose(called.call(given, {})["sum"], wanted)
    for wrong in ({"x_0": np.ones((3, 5))}, {"x_0": np.ones((3, 4), np.int64)}, {"x_1": np.ones((99, 2))}):
        with pytest.raises(InvalidInput, match="this model cannot take"):
            called.call(called.signature.bind({"x_0": x, "x_1": y, "scale": scale, **wrong}), {})
    meta = torch.device("meta")
    with pytest.raises(LoadError, match="is compiled for cpu, and is to run on meta"):
        AotInductor().load(file, meta)
