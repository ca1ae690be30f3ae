"""READY means that it can answer: each kind of file and of forward, asked rightly and wrongly over both protocols."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.torch_fakes import FakeBatch, FakeItem

from dl_inference.serving.load_error import LoadError
from torch_predict import loading, modules, repository
from torch_predict.config import ServerSettings

MODEL_PY = """
import torch
from typing import Dict, List, Optional, Tuple
from torch import Tensor

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((3,), 2.0))

    def forward({signature}):
        {body}
"""
A = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)
B = np.ones((2, 3), np.float32)
SUM = (2 * A + B).tolist()


@dataclass
class Case:
    signature: str
    body: str
    example: tuple[Any, ...]
    inputs: dict[str, Any]
    answer: Any
    keywords: dict[str, Any] = field(default_factory=dict)
    constants: tuple[str, ...] = ()
    """Inputs that an exported program, or a traced one, has as constants."""
    required: str | None = None
    """The input that a wrong call leaves out."""
    formats: tuple[str, ...] = ("exported", "scripted", "traced", "safetensors")


def t(array: Any) -> torch.Tensor:
    return torch.from_numpy(array)


CASES = {
    "positional": Case(
        "self, a: Tensor, b: Tensor", "return a * self.weight + b", (t(A), t(B)), {"a": A, "b": B}, SUM, required="b"
    ),
    "one": Case(
        "self, a: Tensor",
        "return a * self.weight",
        (t(A),),
        {"a": A},
        (2 * A).tolist(),
        required="a",
        formats=("exported", "scripted", "traced", "safetensors", "eager", "pickled"),
    ),
    "without_self": Case(
        "this, a: Tensor", "return a * this.weight", (t(A),), {"a": A}, (2 * A).tolist(), formats=("scripted",)
    ),
    "keyword": Case(
        "self, a: Tensor, *, b: Tensor",
        "return a * self.weight + b",
        (t(A),),
        {"a": A, "b": B},
        SUM,
        {"b": t(B)},
        required="b",
        formats=("exported", "scripted", "safetensors"),
    ),
    "dict": Case(
        "self, d: Dict[str, Tensor]",
        'return d["a"] * self.weight + d["b"]',
        ({"a": t(A), "b": t(B)},),
        {"d_a": A, "d_b": B},
        SUM,
        required="d_b",
    ),
    "tuple": Case(
        "self, p: Tuple[Tensor, Tensor]",
        "return p[0] * self.weight + p[1]",
        ((t(A), t(B)),),
        {"p_0": A, "p_1": B},
        SUM,
        required="p_1",
    ),
    "list": Case(
        "self, xs: List[Tensor]",
        "return xs[0] * self.weight + xs[1]",
        ([t(A), t(B)],),
        {"xs_0": A, "xs_1": B},
        SUM,
        required="xs_1",
    ),
    "optional": Case(
        "self, a: Tensor, b: Optional[Tensor]",
        "return a * self.weight if b is None else a * self.weight + b",
        (t(A), None),
        {"a": A},
        (2 * A).tolist(),
        required="a",
        formats=("exported", "scripted", "safetensors"),
    ),
    "constant": Case(
        "self, a: Tensor, n: int, by: float = 0.5",
        "return a * self.weight * n * by",
        (t(A), 4),
        {"a": A, "n": np.array(4)},
        (4 * A).tolist(),
        constants=("n",),
        required="a",
        formats=("exported", "scripted", "safetensors"),
    ),
    "none": Case("self", "return self.weight * 2", (), {}, [4.0] * 3),
    "scalar": Case(
        "self, a: Tensor, s: Tensor",
        "return (a * self.weight).sum() * s",
        (t(A), torch.tensor(2.0)),
        {"a": A, "s": np.array(2, np.float32)},
        84.0,
        required="s",
    ),
}


def save(name: str, case: Case, folder: Any) -> None:
    model = modules.import_from(folder, "model").Model().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "exported":
            program = torch.export.export(model, case.example, case.keywords)
            torch.export.save(program, folder / "model.pt2")
        elif name == "scripted":
            torch.jit.save(torch.jit.script(model), str(folder / "model.pt"))
        elif name == "traced":
            torch.jit.save(torch.jit.trace(model, case.example, strict=False), str(folder / "model.pt"))
    if name == "safetensors":
        from safetensors.torch import save_file

        save_file(model.state_dict(), folder / "model.safetensors")
    elif name == "eager":
        torch.save(model.state_dict(), folder / "model.pt")
    elif name == "pickled":
        torch.save(model, folder / "model.pth")


def predictor_of(folder: Any) -> Any:
    settings = ServerSettings(torch_threads=1, torch_device="cpu")
    found = repository.find(folder)
    return loading.load_predictor(found, found.versions[0], allow_pickle=True, settings=settings)


def ask(predictor: Any, kind: str, value: Any) -> FakeBatch:
    batch = FakeBatch(FakeItem(kind, value))
    predictor.answer(batch)
    return batch


@pytest.mark.parametrize(
    ("format_", "kind"), [(format_, kind) for kind, case in CASES.items() for format_ in case.formats]
)
def test_ready_means_that_it_can_answer(write, format_, kind):
    case = CASES[kind]
    folder = write({"model.py": MODEL_PY.format(signature=case.signature, body=case.body)})
    modules.enter(folder)
    save(format_, case, folder)
    if format_ in ("exported", "scripted", "traced"):
        (folder / "model.py").unlink()
    predictor = predictor_of(folder)
    taken = {n: v for n, v in case.inputs.items() if format_ not in ("exported", "traced") or n not in case.constants}

    batch = ask(predictor, "infer", taken)
    assert batch.failures == {}
    np.testing.assert_allclose(batch.answers[0][1]["output"], case.answer)
    batch = ask(predictor, "jsonData", {name: value.astype(np.float64).tolist() for name, value in taken.items()})
    assert batch.failures == {}
    np.testing.assert_allclose(batch.answers[0][1], case.answer)
    if list(taken) == ["a"]:
        for one, value in (("tensor", A.astype(np.float64)), ("tftensor", A), ("ndarray", A.tolist())):
            batch = ask(predictor, one, value)
            assert batch.failures == {}
            np.testing.assert_allclose(batch.answers[0][1], case.answer)

    wrong = []
    if taken:
        first = next(iter(taken))
        wrong += [taken | {first: np.ones((2, 4), np.float32)}, taken | {first: np.array([["x"] * 3] * 2, object)}]
        wrong.append(taken | {"other": A})
    if case.required is not None:
        wrong.append({name: value for name, value in taken.items() if name != case.required})
    if "n" in taken:
        wrong += [taken | {"n": np.array(0.5)}, taken | {"n": A}]
    if not taken:
        wrong.append({"x": A})
    for inputs in wrong:
        in_json = {name: value.tolist() for name, value in inputs.items()}
        for batch in (ask(predictor, "infer", inputs), ask(predictor, "jsonData", in_json)):
            assert batch.answers == {}
            code, text, kind_of_error = batch.failures[0]
            assert (code, kind_of_error) == (3, "bad_request"), text
            assert text


UNCALLABLE = """
import torch
from typing import Dict, List

class Model(torch.nn.Module):
    def forward(self, batch: Dict[str, List[torch.Tensor]]):
        return batch["a"][0]
"""


def test_a_script_whose_argument_no_input_can_be_is_refused_with_the_remedy_unless_a_hook_calls_it(write):
    folder = write({"model.py": UNCALLABLE})
    modules.enter(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(modules.import_from(folder, "model").Model()), str(folder / "model.pt"))
    (folder / "model.py").unlink()
    with pytest.raises(LoadError, match=r"forward takes 'batch' as Dict\[str, List\[Tensor\]\], .*write run_model"):
        predictor_of(folder)
    (folder / "processor.py").write_text(
        "import torch\ndef run_model(model, x): return model({'a': [torch.from_numpy(x)]}).numpy()\n"
    )
    assert ask(predictor_of(folder), "infer", {"x": A}).failures == {}
