"""The contract of every runtime, over all of RUNTIMES, and what each says about wrong content."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.compiled_model import compiled
from fixtures.torch_fakes import FakeBatch, FakeItem

import torch_predict.runtimes
from dl_inference.serving.load_error import LoadError
from torch_predict import modules, repository
from torch_predict.errors import InvalidInput, PickleNotAllowed
from torch_predict.hooks import Hooks
from torch_predict.predictor import Predictor
from torch_predict.runtimes import RUNTIMES
from torch_predict.signature import TensorSpec

pytestmark = pytest.mark.timeout(400)  # a compiler is run

CPU = torch.device("cpu")
MODEL_PY = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.linear(x))
"""


def save_exported(model, file):
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model.eval(), (torch.zeros(2, 3),), dynamic_shapes=({0: batch},))
    torch.export.save(program, file)


def save_torchscript(model, file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model.eval(), torch.zeros(2, 3)), str(file))


def save_safetensors(model, file):
    from safetensors.torch import save_file

    save_file(model.state_dict(), file)


def save_eager(model, file):
    torch.save(model.state_dict(), file)


def save_legacy(model, file):
    torch.save(model.state_dict(), file, _use_new_zipfile_serialization=False)


def save_pickled(model, file):
    torch.save(model, file)


def save_compiled(model, file):
    file.write_bytes(compiled(model.linear))


SAVERS = {
    "aotinductor": save_compiled,
    "exported": save_exported,
    "torchscript": save_torchscript,
    "safetensors": save_safetensors,
    "eager": save_eager,
    "pickled": save_pickled,
}
FILES = [(runtime, suffix) for runtime in RUNTIMES for suffix in runtime.suffixes]


@pytest.fixture
def folder(write):
    folder = write({"model.py": MODEL_PY})
    modules.enter(folder)
    return folder


@pytest.fixture
def model(folder):
    torch.manual_seed(0)
    return modules.import_from(folder, "model").Model()


def saved(folder, model, runtime, suffix):
    file = folder / f"model{suffix}"
    SAVERS[runtime.name](model, file)
    return file


def test_every_runtime_is_tested():
    assert set(SAVERS) == {runtime.name for runtime in RUNTIMES}


@pytest.mark.parametrize(("runtime", "suffix"), FILES, ids=lambda value: getattr(value, "name", value))
def test_a_loaded_model_answers_as_the_saved_one_in_eval_mode(folder, model, runtime, suffix):
    file = saved(folder, model, runtime, suffix)
    loaded = runtime.load(file, CPU)
    x = torch.rand(5, 3)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model.eval()(x))


@pytest.mark.parametrize(("runtime", "suffix"), FILES, ids=lambda value: getattr(value, "name", value))
def test_what_a_file_is_is_read_from_the_file(folder, model, runtime, suffix):
    saved(folder, model, runtime, suffix)
    assert repository.find(folder).versions[0].runtime is runtime


@pytest.mark.parametrize(("runtime", "suffix"), FILES, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_truncated_file_is_a_clear_error_and_never_a_crash(folder, model, runtime, suffix, share):
    file = saved(folder, model, runtime, suffix)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(LoadError, match=r"model\.") as caught:
        runtime.load(file, CPU)
    assert caught.value.problem.remedy


@pytest.mark.parametrize(("runtime", "suffix"), FILES, ids=lambda value: getattr(value, "name", value))
def test_a_file_of_something_else_is_not_recognised(folder, runtime, suffix):
    file = folder / f"model{suffix}"
    for content in (b"", b"hello", b"PK\x03\x04" + b"\0" * 100, bytes(range(256)) * 10, b"\x80"):
        file.write_bytes(content)
        assert not runtime.recognises(file), content


def test_a_state_dict_without_zip_is_one_too(folder, model):
    save_legacy(model, folder / "model.pt")
    version = repository.find(folder).versions[0]
    assert version.runtime.name == "eager"
    version.runtime.load(version.file, CPU)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64]
)
def test_weights_of_every_dtype_are_weights(folder, dtype):
    file = folder / "model.pt"
    torch.save({"a": torch.zeros(2, dtype=dtype), "b": torch.nn.Parameter(torch.zeros(1))}, file)
    assert repository.find(folder).versions[0].runtime.name == "eager"


class Payload:
    """Does something at load that a test can see."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_code_inside_a_file_never_runs_unless_allowed(folder, tmp_path, suffix):
    trap = tmp_path / "ran"
    file = folder / f"model{suffix}"
    torch.save({"weight": torch.zeros(1), "trap": Payload(trap)}, file)
    assert [p.message for p in repository.check(folder)] == [
        "holds more than weights, as pickled objects: loading it runs whatever code its author put into it"
    ]
    for runtime in RUNTIMES:
        if suffix in runtime.suffixes and not runtime.runs_code(file):
            with pytest.raises(LoadError):
                runtime.load(file, CPU)
    assert not trap.exists()


def test_code_inside_an_exported_program_never_runs_unless_allowed(folder, model, tmp_path):
    file, trap, crafted = folder / "model.pt2", tmp_path / "ran", tmp_path / "crafted.pt2"
    save_exported(model, file)
    assert repository.check(folder) == []
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(crafted, "w") as target:
        for name in source.namelist():
            if "sample_inputs" in name and name.endswith(".pt"):
                buffer = io.BytesIO()
                torch.save(((torch.zeros(2, 3), Payload(trap)), {}), buffer)
                target.writestr(name, buffer.getvalue())
            else:
                target.writestr(name, source.read(name))
    crafted.replace(file)
    found = repository.find(folder)
    with pytest.raises(PickleNotAllowed):
        repository.load(found, found.versions[0], allow_pickle=False, device=CPU)
    assert not trap.exists()
    with contextlib.suppress(LoadError):  # shows that the trap is one
        repository.load(found, found.versions[0], allow_pickle=True, device=CPU)
    assert trap.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
class TestStateDicts:
    def runtime(self, suffix):
        return next(r for r in RUNTIMES if r.needs_model_py and suffix in r.suffixes)

    def save(self, folder, suffix, state):
        from safetensors.torch import save_file

        file = folder / f"model{suffix}"
        (save_file if suffix == ".safetensors" else torch.save)(state, file)
        return file

    def error(self, folder, suffix, state):
        with pytest.raises(LoadError) as caught:
            self.runtime(suffix).load(self.save(folder, suffix, state), CPU)
        return str(caught.value)

    def test_missing_and_unexpected_keys_are_named(self, folder, suffix):
        text = self.error(folder, suffix, {"linear.weight": torch.zeros(2, 3), "other": torch.zeros(1)})
        assert "missing keys: " in text
        assert "linear.bias" in text
        assert "unexpected keys: other" in text

    def test_a_wrong_shape_is_named(self, folder, suffix):
        text = self.error(folder, suffix, {"linear.weight": torch.zeros(2, 4), "linear.bias": torch.zeros(2)})
        assert "size mismatch for linear.weight" in text

    def test_a_missing_model_py_is_named(self, folder, suffix):
        (folder / "model.py").unlink()
        text = self.error(folder, suffix, {"a": torch.zeros(1)})
        assert "model.py: is missing" in text

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("x = 1", "has no Model"),
            ("class Model:\n    def __init__(self, size): pass", "Model() failed: TypeError"),
            ("class Model: pass", "Model() is a Model, not a torch.nn.Module"),
            ("import nothing_like_this", "model.py:1: ModuleNotFoundError"),
        ],
    )
    def test_a_wrong_class_is_named(self, folder, suffix, source, words):
        (folder / "model.py").write_text(source)
        assert words in self.error(folder, suffix, {"a": torch.zeros(1)})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: {"model": state, "optimizer": {"lr": torch.zeros(1)}},
        lambda state: {"net": state, "epoch": 3},
        lambda state: {"state_dict": state, "best": torch.tensor(1.0)},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
        lambda state: {"model_state_dict": {f"module._orig_mod.{name}": value for name, value in state.items()}},
    ],
)
def test_the_weights_in_what_training_programs_save_are_found(folder, model, wrap):
    torch.save(wrap(model.state_dict()), folder / "model.pt")
    version = repository.find(folder).versions[0]
    loaded = version.runtime.load(version.file, CPU)
    assert torch.equal(loaded.linear.weight, model.linear.weight)


def test_a_dict_with_several_state_dicts_is_told_from_one(folder, model):
    torch.save({"a": model.state_dict(), "b": model.state_dict()}, folder / "model.pt")
    version = repository.find(folder).versions[0]
    with pytest.raises(LoadError, match=r"holds a dict with the keys a, b, not a state dict"):
        version.runtime.load(version.file, CPU)


PARTS = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.module = torch.nn.Linear(3, 2)
        self.module.register_buffer("first", self.module.weight.detach()[:1])
"""


def test_a_layer_that_is_called_as_a_prefix_keeps_its_name_and_a_part_is_not_the_whole(folder):
    (folder / "model.py").write_text(PARTS)
    modules.enter(folder)
    state = modules.import_from(folder, "model").Model().state_dict()
    torch.save(state, folder / "model.pt")
    version = repository.find(folder).versions[0]
    assert torch.equal(version.runtime.load(version.file, CPU).module.weight, state["module.weight"])
    torch.save({name: each for name, each in state.items() if name != "module.weight"}, folder / "model.pt")
    with pytest.raises(LoadError, match=r"missing keys: module.weight"):
        version.runtime.load(version.file, CPU)


OWN_STATE = """
import torch

class Model(torch.nn.Module):
    def get_extra_state(self): return {"a": 1}
    def set_extra_state(self, state): state["a"] + state["b"]
    def forward(self, x): return x
"""


def test_a_models_own_state_that_does_not_fit_is_told(folder):
    (folder / "model.py").write_text(OWN_STATE)
    torch.save({"_extra_state": {"a": 1}, "x": torch.zeros(1)}, folder / "model.pt")
    version = repository.find(folder).versions[0]
    modules.enter(folder)
    with pytest.raises(LoadError, match=r"does not fit Model\(\) of model.py: KeyError: 'b'"):
        version.runtime.load(version.file, CPU)


def test_a_model_without_weights_is_served(folder):
    (folder / "model.py").write_text(
        "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x): return x\n"
    )
    torch.save({}, folder / "model.pt")
    version = repository.find(folder).versions[0]
    modules.enter(folder)
    assert version.runtime.load(version.file, CPU)(1) == 1


TIED = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(3, 3, bias=False)
        self.head = torch.nn.Linear(3, 3, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.embed(x))
"""


def test_tied_weights_need_be_there_once(folder):
    (folder / "model.py").write_text(TIED)
    modules.enter(folder)
    tied = modules.import_from(folder, "model").Model()
    from safetensors.torch import save_file, save_model

    save_model(tied, str(folder / "model.safetensors"))
    version = repository.find(folder).versions[0]
    assert torch.equal(version.runtime.load(version.file, CPU).embed.weight, tied.embed.weight)
    save_file({"other": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(LoadError, match=r"missing keys: embed.weight, head.weight; unexpected keys: other"):
        version.runtime.load(version.file, CPU)


def test_a_pickle_whose_class_is_elsewhere_says_what_to_do(folder, model):
    save_pickled(model, folder / "model.pth")
    (folder / "model.py").unlink()
    version = repository.find(folder).versions[0]
    sys.modules.pop("model")
    with pytest.raises(LoadError, match=r"No module named 'model'.*put the modules that define its classes"):
        version.runtime.load(version.file, CPU)


def test_a_pickle_of_no_model_is_an_error(folder):
    torch.save([Path("x")], folder / "model.pth")
    with pytest.raises(LoadError, match="holds a list, not a model"):
        RUNTIMES[-1].load(folder / "model.pth", CPU)


def test_finding_and_checking_need_no_torch(folder, model):
    save_eager(model, folder / "model.pt")
    code = "import sys; from pathlib import Path; from torch_predict import repository; "
    code += f"assert repository.check(Path({str(folder)!r})) == []; assert 'torch' not in sys.modules"
    root = Path(torch_predict.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


@pytest.mark.parametrize(("runtime", "suffix"), FILES, ids=lambda value: getattr(value, "name", value))
def test_a_loaded_model_names_its_arguments(folder, model, runtime, suffix):
    loaded = runtime.load(saved(folder, model, runtime, suffix), CPU)
    assert [argument.name for argument in runtime.signature(loaded).arguments] == ["x"]


def test_an_exported_program_tells_types_and_shapes(tmp_path):
    class Pair(torch.nn.Module):
        def forward(self, a, b):
            return {"sum": a + b, "b": b.to(torch.bfloat16)}

    class Nested(torch.nn.Module):
        def forward(self, inputs):
            return inputs["a"], [inputs["b"]]

    exported = next(runtime for runtime in RUNTIMES if runtime.name == "exported")
    a, b = torch.zeros(2, 4), torch.zeros(2, 1, dtype=torch.int64)
    batch = {0: torch.export.Dim("batch")}

    def signature_of(module, arguments, shapes):
        torch.export.save(torch.export.export(module, arguments, dynamic_shapes=shapes), tmp_path / "model.pt2")
        return signature_told_and_loaded(exported, tmp_path / "model.pt2")[1]

    known = signature_of(Pair(), (a, b), (batch, batch))
    assert known.inputs == (TensorSpec("a", "float32", (-1, 4)), TensorSpec("b", "int64", (-1, 1)))
    assert known.outputs == (TensorSpec("sum", "float32", (-1, 4)), TensorSpec("b", "bfloat16", (-1, 1)))
    nested = signature_of(Nested(), ({"a": a, "b": b},), None)
    assert [spec.name for spec in nested.inputs] == ["inputs_a", "inputs_b"]
    assert nested.outputs == (TensorSpec("output_0", "float32", (2, 4)), TensorSpec("output_1_0", "int64", (2, 1)))


def signature_told_and_loaded(exported, file):
    """Load a program; what its file tells without that is the same."""
    model = exported.load(file, CPU)
    signature, told = exported.signature(model), exported.declared(file)
    assert (told.inputs, told.outputs) == (signature.inputs, signature.outputs)
    return model, signature


def test_a_file_that_tells_nothing_has_no_declared_inputs(tmp_path):
    (tmp_path / "model.pt2").write_bytes(b"PK")
    assert [runtime.declared(tmp_path / "model.pt2") for runtime in RUNTIMES] == [None] * len(RUNTIMES)


class WithKeywords(torch.nn.Module):
    def forward(self, input, *, scale, offset=None):
        return input * scale if offset is None else input * scale + offset["by"]


def exported_model(tmp_path, module, arguments, keywords, **options):
    torch.export.save(torch.export.export(module, arguments, keywords, **options), tmp_path / "model.pt2")
    exported = next(runtime for runtime in RUNTIMES if runtime.name == "exported")
    return signature_told_and_loaded(exported, tmp_path / "model.pt2")


@pytest.mark.parametrize(
    ("keywords", "names", "answer"),
    [
        ({"scale": torch.zeros(2)}, ["input", "scale"], [2.0, 4.0]),
        ({"scale": torch.zeros(2), "offset": {"by": torch.zeros(2)}}, ["input", "scale", "offset_by"], [3.0, 5.0]),
        ({"offset": {"by": torch.zeros(2)}, "scale": torch.zeros(2)}, ["input", "offset_by", "scale"], [3.0, 5.0]),
    ],
)
def test_a_program_exported_with_keywords_and_containers_is_called_by_its_inputs_names(
    tmp_path, keywords, names, answer
):
    model, signature = exported_model(tmp_path, WithKeywords(), (torch.zeros(2),), keywords)
    values = {"input": [1.0, 2.0], "scale": [2.0, 2.0], "offset_by": [1.0, 1.0]}
    inputs = signature.bind({name: np.array(values[name], np.float32) for name in reversed(names)})
    assert sorted(spec.name for spec in signature.inputs) == sorted(names)
    called = signature.call(model, {name: torch.from_numpy(array) for name, array in inputs.items()}, {})
    assert called.tolist() == answer


def test_two_inputs_never_share_a_name(tmp_path):
    class Clash(torch.nn.Module):
        def forward(self, a, a_b):
            return a["b"] - a_b

    model, signature = exported_model(tmp_path, Clash(), ({"b": torch.zeros(1)}, torch.zeros(1)), {})
    one, other = (argument.name for argument in signature.arguments)
    assert one != other
    assert signature.call(model, {one: torch.tensor([5.0]), other: torch.tensor([2.0])}, {}).tolist() == [3.0]


def test_an_exported_programs_bounds_are_known(tmp_path):
    class Two(torch.nn.Module):
        def forward(self, input, other):
            return input.sum(1) + other

    batch = torch.export.Dim("batch", min=2, max=8)
    shapes = ({0: batch}, {0: batch})
    _, signature = exported_model(tmp_path, Two(), (torch.zeros(3, 4), torch.zeros(3)), {}, dynamic_shapes=shapes)
    signature.check({"input": np.zeros((8, 4), np.float32), "other": np.zeros(8, np.float32)})
    for shapes, words in [
        (((9, 4), (9,)), "input 'input' has the size 9 on axis 0: this model takes 2 to 8"),
        (((1, 4), (1,)), "input 'input' has the size 1 on axis 0: this model takes 2 to 8"),
        (((4, 4), (5,)), "equal sizes"),
        (((4, 3), (4,)), r"input 'input' has the shape \[4, 3\]: this model takes \[-1, 4\]"),
    ]:
        with pytest.raises(InvalidInput, match=words):
            signature.check({n: np.zeros(s, np.float32) for n, s in zip(("input", "other"), shapes, strict=True)})


@pytest.mark.filterwarnings("ignore")
def test_what_only_a_guard_tells_reaches_the_caller_and_complex_inputs_the_model(tmp_path):
    class Halves(torch.nn.Module):
        def forward(self, x):
            return x.reshape(-1, 2, 4).sum(1)

    class Turned(torch.nn.Module):
        def forward(self, x):
            return (x * 1j).imag

    def answered(model, signature, array):
        batch = FakeBatch(FakeItem("tftensor", array))
        Predictor(model, Hooks(), CPU, None, signature).answer(batch)
        return batch

    even = ({0: 2 * torch.export.Dim("half", min=1)},)
    known = exported_model(tmp_path, Halves(), (torch.ones(4, 4),), {}, dynamic_shapes=even)
    code, text, _ = answered(*known, np.ones((3, 4), np.float32)).failures[0]
    assert code == 3
    assert text.startswith("this model cannot take 'x' float32 [3, 4]: Guard failed: ")
    known = exported_model(tmp_path, Turned(), (torch.ones(2, dtype=torch.complex64),), {})
    for array in (np.array([1 + 2j, 3j], np.complex64), np.array([1.0, 0.0])):
        assert answered(*known, array).answers[0][1].tolist() == array.real.tolist()
    assert answered(*known, np.ones(3, np.complex64)).failures[0][0] == 3
