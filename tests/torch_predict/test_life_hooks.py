"""initialise, finish and methods of processor.py, as they are found and called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.torch_fakes import FakeBatch, FakeItem

from dl_inference.serving.load_error import LoadError
from torch_predict import context, hooks, modules
from torch_predict.errors import Error, InvalidInput, status_of
from torch_predict.finishing import finish
from torch_predict.methods import method
from torch_predict.predictor import Predictor

MARK = "@torch_predict.method"


def load(write, source):
    folder = write({"processor.py": source})
    modules.enter(folder)
    return hooks.load(folder)


@pytest.fixture
def _settings():
    context.use_settings({"a": 1})
    yield
    context.use_settings({})


@pytest.mark.usefixtures("_settings")
@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("def initialise(model): return model", "m"),
        ("def initialise(model, **kwargs): return sorted(kwargs), kwargs['settings']['a']", (["settings"], 1)),
        ("def initialise(model, settings): return settings['a']", 1),
        ("def initialise(model, *, settings=None): return settings['a']", 1),
        ("def initialise(model, other=2): return other", 2),
    ],
)  # fmt: skip
def test_initialise_gets_the_settings_only_if_it_takes_them(write, definition, expected):
    assert load(write, definition).initialise("m") == expected


@pytest.mark.parametrize(
    "definition",
    [
        "def initialise(): pass\ninitialise()",
        "def initialise(model, tokenizer): pass",
        "initialise = 3",
        "async def initialise(model): pass",
        "def finish(result): return result",
        "class finish: pass",
    ],
)
def test_a_function_of_older_days_that_only_has_such_a_name_is_let_alone_and_told(write, caplog, definition):
    found = load(write, definition)
    assert (found.initialise, found.finish) == (None, None)
    assert "is not used as a hook: define" in caplog.text


def test_the_other_spelling_is_told(write, caplog):
    assert load(write, "def initialize(model): pass").initialise is None
    assert "the hook is initialise" in caplog.text


@pytest.mark.parametrize("what", ["raise KeyError('a')", "import sys; sys.exit(3)"])
def test_an_error_of_initialise_names_its_line(write, what):
    found = load(write, f"def initialise(model):\n    x = 1\n    {what}\n")
    with pytest.raises(LoadError, match=r"processor\.py:3: initialise failed: (KeyError|SystemExit)"):
        found.initialise("m")


def test_a_method_has_the_name_of_its_function_or_its_own(write):
    found = load(
        write,
        """
        import torch_predict
        @torch_predict.method
        def embed(model, x): return model, x
        @torch_predict.method("top-3")
        def anything(model, x, **kwargs): return kwargs
        """,
    )
    assert sorted(found.methods) == ["embed", "top-3"]
    meta = {"tags": {"method": "embed"}}
    assert found.method_of(meta)("m", 1, meta) == ("m", 1)
    assert found.methods["top-3"]("m", 1, meta) == {"meta": meta}
    assert found.method_of({}) is found.method_of({"tags": {"x": 1}}) is None
    with pytest.raises(InvalidInput, match="no method 'other': name one of embed, top-3"):
        found.method_of({"tags": {"method": "other"}})


def test_a_model_without_methods_has_the_tag_for_itself(write):
    assert load(write, "def preprocess(x): return x").method_of({"tags": {"method": "mine"}}) is None


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (f"{MARK}('a')\ndef b(m, x): pass\n{MARK}('a')\ndef c(m, x): pass", "two functions"),
        ("@torch_predict.method\ndef b(x): pass", "cannot be called as a hook"),
        ("@torch_predict.method\nasync def b(m, x): pass", "b is async"),
        ("@torch_predict.method('a b')\ndef b(m, x): pass", "'a b' cannot name a method"),
        ("@torch_predict.method\nclass B: pass", "not a type"),
    ],
)  # fmt: skip
def test_a_method_that_nobody_could_call_keeps_the_model_from_being_loaded(write, source, words):
    with pytest.raises(LoadError, match=words):
        load(write, f"import torch_predict\n{source}")


def test_the_mark_leaves_the_function_as_it_is():
    def function(model, x):
        return model + x

    assert method(function) is method("name")(function) is function
    assert function(1, 2) == 3


def test_finish_does_not_change_the_exit_status():
    called = []
    assert finish(None, 1) == 1
    assert finish(lambda: called.append(1), 0) == 0
    assert called == [1]


def test_finish_that_takes_too_long_ends_with_the_process_and_the_status_that_it_has():
    program = """
import sys, threading
from torch_predict import finishing
finishing.FINISH_S = 0.1
sys.exit(finishing.finish(lambda: threading.Event().wait(60), int(sys.argv[1])) + 100)
"""
    for status in (0, 1):
        command = [sys.executable, "-c", program, str(status)]
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=40, check=False, cwd=Path(__file__).parents[2]
        )
        assert ended.returncode == status
        assert "finish is still busy after 0.1 s: stopping without it" in ended.stderr


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 1.0, "1", True])
def test_an_errors_number_is_an_int32(number):
    with pytest.raises(ValueError, match="cannot be an error's number: use an int from -2147483648 to 2147483647"):
        Error("ABORTED", "text", number=number)
    for fits in (2**31 - 1, -(2**31), 0):
        assert status_of(Error("ABORTED", "text", number=fits), "id").number == fits


def test_an_errors_own_class_with_an_odd_number_is_a_failure_like_any_other():
    class Odd(Error):
        def __init__(self) -> None:
            super().__init__("ABORTED", "text")
            self.number = 2**40

    status = status_of(Odd(), "id")
    assert (status.code, status.message, status.number) == (13, "the model failed on this request; request id id", None)


def test_a_method_gets_oip_inputs_as_a_hook_does_where_the_model_has_no_hooks():
    seen = []

    def own(model, x, meta):
        seen.append(x.tolist())
        return x

    predictor = Predictor(lambda x: x, hooks.Hooks(methods={"own": own}), torch.device("cpu"))
    value = {"strange": np.arange(2)}
    batch = FakeBatch(
        FakeItem("infer", value, {"tags": {"method": "own"}}), FakeItem("infer", value, {"tags": {"method": "none"}})
    )
    predictor.answer(batch)
    assert seen == [[0, 1]]
    assert batch.answers[0][1]["output"].tolist() == [0, 1]
    assert batch.failures[1][0] == 3
