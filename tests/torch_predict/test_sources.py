"""What is told of processor.py and model.py without running them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dl_inference.serving.load_error import LoadError
from torch_predict import hooks, repository
from torch_predict.sources import hidden_modules, methods_in, misnamed, problems


def told(folder, needs_model_py=False):
    return [
        (each.place.removeprefix(f"{folder}/"), each.message, each.remedy)
        for each in problems(folder, needs_model_py=needs_model_py, model_file="model.pt")
    ]


@pytest.mark.parametrize(
    ("source", "place", "words"),
    [
        ("def postproces(x): return x", "processor.py:1", "postproces is not a hook's name"),
        ("import json\ndef pre_process(x): return x", "processor.py:2", "pre_process is not a hook's name"),
        ("def runModel(m, x): return x", "processor.py:1", "runModel is not a hook's name"),
        ("def preprocess(): return 1", "processor.py:1", "preprocess takes 0 arguments, and is given 1"),
        ("def preprocess(x, size): return 1", "processor.py:1", "preprocess needs size, which hooks do not get"),
        ("def run_model(x): return 1", "processor.py:1", "run_model takes 1 arguments, and is given 2"),
        ("def postprocess(x, *, top): return 1", "processor.py:1", "postprocess needs top, which hooks do not get"),
        ("async def preprocess(x): return 1", "processor.py:1", "preprocess is async"),
        ("x = 1\nimport of_nobody.deep", "processor.py:2", "imports of_nobody, which is not installed"),
        ("from of_nobody import x", "processor.py:1", "imports of_nobody, which is not installed"),
        ("def preprocess(x)", "processor.py:1", "is not Python"),
        ("\0", "processor.py", "is not Python"),
    ],
)
def test_a_mistake_in_processor_py_is_told_with_its_line(write, source, place, words):
    folder = write({"processor.py": source})
    ((found, message, remedy),) = told(folder)
    assert found == place
    assert message.startswith(words)
    assert remedy


@pytest.mark.parametrize(
    "source",
    [
        "def preprocess(x, **kwargs): return x\ndef preprocess_image(x): return x",
        "def preprocess(x, meta): return x\ndef preprocessing(x): return x",
        "def preprocess(x, *, meta): return x",
        "def run_model(*arguments): return 1",
        "def _postproces(x): return x",
        "import functools\n@functools.lru_cache\ndef preprocess(): return 1",
        "from helpers import preprocess",
        "import helpers, package.inner, json",
        "try:\n    import of_nobody\nexcept ImportError:\n    of_nobody = None",
        "def preprocess(x, size=(1, 2), *rest): return x",
    ],
)
def test_what_may_well_be_right_is_no_problem(write, source):
    assert told(write({"processor.py": source, "helpers.py": "", "package/__init__.py": ""})) == []


@pytest.mark.parametrize(
    ("source", "is_there"),
    [
        ("class Model: pass", True),
        ("from nets import Net as Model", True),
        ("from nets import *", True),
        ("Model = make()", True),
        ("class Net: pass", False),
        ("", False),
    ],
)
def test_a_model_py_without_model_is_told(write, source, is_there):
    found = told(write({"model.py": source, "nets.py": ""}), needs_model_py=True)
    assert (found == []) == is_there
    assert is_there or found[0][:2] == ("model.py", "has no Model")


def test_a_hook_with_a_wrong_name_is_not_served_without_a_word(write):
    with pytest.raises(LoadError, match=r"(?s)postproces is not a hook's name.*name it postprocess"):
        hooks.load(write({"processor.py": "def postproces(x, **kwargs): return x"}))


def test_names_that_are_like_a_hooks_are_found_only_where_that_hook_is_missing():
    assert misnamed(["preproces", "run_models"]) == [("preproces", "preprocess"), ("run_models", "run_model")]
    assert misnamed(["preprocess", "preproces", "helper", "process", "model"]) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n",
            "is a pointer of Git LFS.*git lfs pull",
        ),
        (b"\x40\0\0\0\0\0\0\0{}", "is damaged, or no safetensors model"),
        (b"\x02\0\0\0\0\0\0\0{}", None),
        (b'\x3b\0\0\0\0\0\0\0{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}    \0', "is damaged"),
        (b"\x02\0\0\0\0\0\0\0[]", "is damaged"),
    ],
)
def test_a_weights_file_that_is_none_or_is_cut_off_is_told(write, content, words):
    folder = write({"model.py": "class Model: pass"})
    (folder / "model.safetensors").write_bytes(content)
    found = " ".join(f"{each.message} {each.remedy}" for each in repository.check(folder))
    assert (found == "") if words is None else re.search(words, found), found


def test_a_file_that_may_not_be_read_is_not_called_damaged(write, monkeypatch):
    folder = write({"model.pt2": "x"})

    really_open = Path.open

    def refuse(path: Path, *how: object, **options: object) -> object:
        if path.name == "model.pt2":
            raise PermissionError(13, "Permission denied")
        return really_open(path, *how, **options)

    monkeypatch.setattr("pathlib.Path.open", refuse)
    (found,) = repository.check(folder)
    assert found.message.startswith("cannot be read: Permission denied: it is of user")
    assert found.remedy == f"chmod a+r {folder / 'model.pt2'}"


def test_a_folder_that_may_not_be_entered_is_told(write, monkeypatch):
    folder = write({"model.pt2": "x"})
    monkeypatch.setattr("os.access", lambda path, mode: False)
    (found,) = repository.check(folder)
    assert found.message.startswith("may not be entered by user")
    assert found.remedy.startswith(f"chmod a+rx {folder}")


@pytest.mark.parametrize(
    ("file", "whose"),
    [
        ("access.py", "dl-inference"),
        ("torch_predict/__init__.py", "dl-inference"),
        ("random.py", "Python's standard library"),
        ("numpy/__init__.py", "an installed package"),
        ("torch.py", "an installed package"),
    ],
)
def test_a_module_with_the_name_of_another_one_is_told(write, file, whose):
    folder = write({file: ""})
    (problem,) = hidden_modules(folder)
    name = file.partition("/")[0].removesuffix(".py")
    assert problem.message == f"has the name of a module of {whose}: one of the two hides the other"
    assert problem.remedy == f"rename it, for example to my_{name}"


def test_modules_with_names_of_their_own_and_folders_of_data_are_not_named(write):
    assert hidden_modules(write({"processor.py": "", "model.py": "", "nets.py": "", "numpy/x.txt": ""})) == []


def test_a_pickle_of_a_class_that_no_server_can_find_is_told_without_unpickling_it(write):
    folder = write({"nets.py": ""})
    for module, name in (("__main__", "Net"), ("of_nobody", "Net"), ("nets", "Net")):
        state = f"c{module}\n{name}\n"
        (folder / "model.pth").write_bytes(b"\x80\x02" + state.encode() + b")R.")
        found = [each.message for each in repository.check(folder, allow_pickle=True)]
        assert (
            found
            == {
                "__main__": ["needs __main__.Net, which only the script that saved it has"],
                "of_nobody": ["needs of_nobody.Net, and of_nobody is not installed"],
                "nets": [],
            }[module]
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("{}", "holds a dict, not a list of cases"),
        ('[{"request": {"strData": "a"}}, {}]', "case 1 cannot be read: KeyError"),
        ('[{"request": {"binData": {"file": "no.png"}}}]', "case 0 names "),
        ('[{"request": {"data": {"tensor": {"shape": [3], "values": [1]}}}}]', "case 0 cannot be read: ValueError"),
    ],
)
def test_broken_samples_are_told(write, text, words):
    folder = write({"model.py": "class Model: pass", "samples/expected.json": text})
    (folder / "model.pth").write_bytes(b"\x80\x02}.")
    (problem,) = repository.check(folder)
    assert problem.message.startswith(words)
    assert problem.remedy


def test_marked_methods_are_found_without_running_anything(write):
    source = "import torch_predict\nfrom torch_predict import method\n@torch_predict.method\ndef embed(model, x): ...\n"
    source += "@method('by-word')\ndef words(model, x): ...\n@other\n@method\ndef both(model, x): ...\n"
    source += "@torch_predict.joined\ndef run_model(model, x): ...\ndef plain(x): ...\n"
    assert methods_in(write({"processor.py": source})) == ["embed", "by-word", "both"]
    assert methods_in(write({"processor.py": "def"})) == []
