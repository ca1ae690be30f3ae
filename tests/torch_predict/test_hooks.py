from __future__ import annotations

import logging
import os
import sys

import pytest

from dl_inference.serving.load_error import LoadError
from torch_predict import hooks, modules


def load(write, source, **others):
    folder = write({"processor.py": source} | {f"{name}.py": text for name, text in others.items()})
    modules.enter(folder)
    return hooks.load(folder)


def test_a_folder_without_processor_has_no_hooks(write):
    assert hooks.load(write({})) == hooks.Hooks()


def test_each_hook_is_optional(write):
    loaded = load(write, "def postprocess(x, **kwargs): return x + 1")
    assert loaded.preprocess is None
    assert loaded.run_model is None
    assert loaded.postprocess(1, {}) == 2


def test_kwargs_are_exactly_meta(write):
    loaded = load(
        write,
        """
        def preprocess(x, **kwargs): return x, kwargs
        def run_model(model, x, **kwargs): return model, x, kwargs
        def postprocess(x, **kwargs): return x, kwargs
        """,
    )
    meta = {"tags": {"taskId": 39.0}}
    assert loaded.preprocess(1, meta) == (1, {"meta": meta})
    assert loaded.run_model("m", 1, meta) == ("m", 1, {"meta": meta})
    assert loaded.postprocess(1, meta) == (1, {"meta": meta})


def test_the_meta_that_hooks_see_is_one_object(write):
    loaded = load(
        write, "def preprocess(x, **kwargs): kwargs['meta']['seen'] = x\ndef postprocess(x, meta): return meta['seen']"
    )
    meta = {}
    loaded.preprocess(7, meta)
    assert loaded.postprocess(None, meta) == 7


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("def preprocess(x): return x", 5),
        ("def preprocess(x, meta): return x, meta", (5, {"a": 1})),
        ("def preprocess(x, meta=None): return x, meta", (5, {"a": 1})),
        ("def preprocess(x, scale=2): return x * scale", 10),
        ("def preprocess(*args): return args", (5,)),
        ("def preprocess(x, *, tags=None): return x, tags", (5, None)),
        ("from builtins import int as preprocess", 5),
        ("class preprocess:\n    def __new__(cls, x): return x", 5),
        ("import functools\npreprocess = functools.partial(lambda a, x: a + x, 1)", 6),
    ],
)
def test_a_hook_gets_meta_only_if_it_takes_it(write, definition, expected):
    assert load(write, definition).preprocess(5, {"a": 1}) == expected


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ("def preprocess(): pass", "preprocess() cannot be called as a hook"),
        ("def preprocess(x, y, **kwargs): pass", "preprocess(x, y, **kwargs) cannot be called"),
        ("def run_model(model): pass", "run_model(model) cannot be called"),
        ("def postprocess(x, *, k): pass", "postprocess(x, *, k) cannot be called"),
        ("async def preprocess(x, **kwargs): pass", "preprocess is async"),
        ("preprocess = 3", "preprocess is a int, not a function"),
    ],
)
def test_a_hook_of_the_wrong_form_is_a_clear_load_error(write, definition, words):
    with pytest.raises(LoadError, match=r"processor\.py") as caught:
        load(write, definition)
    assert words in str(caught.value)
    assert "**kwargs)" in caught.value.problem.remedy or "define" in caught.value.problem.remedy


def test_run_model_counts_only_as_a_plain_function(write, caplog):
    with caplog.at_level(logging.WARNING):
        loaded = load(
            write, "class Runner:\n    def __call__(self, model, x, **kwargs): return 0\nrun_model = Runner()"
        )
    assert loaded.run_model is None
    assert "run_model is a Runner, not a plain function" in caplog.text


def test_only_what_a_star_import_brings_over_is_a_hook(write):
    loaded = load(write, "__all__ = ['preprocess']\ndef preprocess(x): return x\ndef run_model(m, x): return x")
    assert loaded.preprocess is not None
    assert loaded.run_model is None


def test_hooks_may_come_from_a_sibling_module(write):
    loaded = load(write, "from sibling import *", sibling="def preprocess(x, **kwargs): return -x")
    assert loaded.preprocess(3, {}) == -3


def test_a_side_file_is_opened_by_relative_path(write):
    folder = write(
        {
            "processor.py": "import pathlib\nN = pathlib.Path('names.txt').read_text()\ndef preprocess(x): return N",
            "names.txt": "a",
        }
    )
    modules.enter(folder)
    assert hooks.load(folder).preprocess(0, {}) == "a"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module_here", "processor.py:1: ModuleNotFoundError: No module named"),
        ("x = 1\ny = x / 0", "processor.py:2: ZeroDivisionError"),
        ("def preprocess(x:", "processor.py:1: SyntaxError"),
        ("raise SystemExit(3)", "processor.py:1: SystemExit: 3"),
    ],
)
def test_a_processor_that_fails_names_its_line(write, source, words):
    with pytest.raises(LoadError) as caught:
        load(write, source)
    assert words in str(caught.value)


def test_processor_is_run_once(write):
    folder = write(
        {"processor.py": "import sys\nsys.loads = getattr(sys, 'loads', 0) + 1\ndef preprocess(x): return sys.loads"}
    )
    modules.enter(folder)
    try:
        hooks.load(folder)
        assert hooks.load(folder).preprocess(0, {}) == 1
    finally:
        del sys.loads


def test_files_replaced_within_a_second_run_as_they_are_and_nothing_is_left_beside_them(write, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    source = "from nets.deep import M\nfrom sibling import N\ndef preprocess(x): return M + N"
    for number in (1, 2):
        files = {"processor.py": source, "sibling.py": f"N = {number}", "nets/deep.py": f"M = {10 * number}"}
        folder = write(files)
        for name in files:
            os.utime(folder / name, (1_000_000_000, 1_000_000_000))
        modules.enter(folder)
        assert hooks.load(folder).preprocess(0, {}) == 11 * number
        for name in ("processor", "sibling", "nets", "nets.deep"):
            del sys.modules[name]
    assert not list(folder.rglob("__pycache__"))
