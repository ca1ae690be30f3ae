"""`dl-inference check`: what it names, and what it shows."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest
from fixtures.command_line import command

from dl_inference.local.layout import inspect
from dl_inference.local.look import look
from dl_inference.serving.settings import ModelFolderError

EXAMPLE = """\
listen: 127.0.0.1:8500
models:
  digits: {endpoints: [10.0.0.3:5000], protocol: seldon}
discovery: [{kind: nodefile, path: nodefile.txt}]
"""


PROGRAM = {
    "graph_module": {
        "graph": {
            "tensor_values": {
                "x": {"dtype": 7, "sizes": [{"as_expr": {}}, {"as_int": 13}]},
                "linear": {"dtype": 7, "sizes": [{"as_expr": {}}, {"as_int": 3}]},
            }
        },
        "signature": {
            "input_specs": [{"parameter": {}}, {"user_input": {"arg": {"as_tensor": {"name": "x"}}}}],
            "output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "linear"}}}}],
        },
        "module_call_graph": [
            {"signature": {"forward_arg_names": ["x"], "out_spec": '[1, {"type": null, "children_spec": []}]'}}
        ],
    }
}
"""What torch.export writes of a program, as far as it is read here."""


@pytest.fixture
def exported(tmp_path: Path):
    """Write model folders with a torch.export program."""

    def write(name: str, **files: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        with zipfile.ZipFile(folder / "model.pt2", "w") as archive:
            archive.writestr("m/archive_format", "pt2")
            archive.writestr("m/models/model.json", json.dumps(PROGRAM))
        for file, text in files.items():
            (folder / file.replace("_", ".")).write_text(text)
        return folder

    return write


def test_check_names_every_problem_with_place_and_remedy(tmp_path: Path):
    path = tmp_path / "access.yaml"
    path.write_text("listn: a:1\nmodels: {m: {cluster: x}}\n")
    result = command("check", path)
    assert result.exit_code == 1
    assert result.output.startswith(f"{path}: 2 problems\n")
    assert "access.yaml:1 listn: unknown key 'listn'\n    did you mean listen?" in result.output
    assert "access.yaml:2 models.m.cluster: there is no cluster 'x'" in result.output


def test_check_shows_what_is_in_force_and_where_it_came_from(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DL_INFERENCE_DRAIN_TIMEOUT_MS", "77")
    (tmp_path / "nodefile.txt").write_text("69=800,10.0.0.1:8500*2,garbage\n")
    path = tmp_path / "access.yaml"
    path.write_text(EXAMPLE)
    short = command("check", path).output
    assert short.startswith(f"{path}: no problem found; 1 warning\n")
    assert "limits.max_streams" not in short
    result = command("check", "--all", path)
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines()]
    assert ["listen", '["127.0.0.1:8500"]', "access.yaml:1"] in rows
    assert ["drain_timeout_ms", "77", "environment", "DL_INFERENCE_DRAIN_TIMEOUT_MS"] in rows
    assert ["limits.max_streams", "1024", "default"] in rows
    assert ["69", "69", "100%", "10.0.0.1:8500*2", "800"] in rows
    assert "'garbage' is skipped" in result.output


def test_check_reads_the_sources_too(tmp_path: Path):
    path = tmp_path / "access.yaml"
    path.write_text(EXAMPLE)
    result = command("check", path)
    assert result.exit_code == 1
    assert "nodefile.txt: cannot be read: No such file" in result.output


def test_check_of_a_missing_file_says_so(tmp_path: Path):
    result = command("check", tmp_path / "missing.yaml")
    assert result.exit_code == 1
    assert "No such file" in result.output


def test_check_of_a_model_file_asks_for_its_folder(tmp_path: Path):
    result = command("check", tmp_path / "model.pt2")
    assert result.exit_code == 1
    assert f"name its folder: {tmp_path}" in result.output


def test_check_says_what_it_found_in_a_model_folder(exported):
    folder = exported("m", processor_py="def preprocess(x): return x\ndef postprocess(x): return x")
    result = command("check", folder)
    assert result.exit_code == 0
    said = {line[:12].strip(): line[12:].strip() for line in result.output.splitlines()[1:]}
    assert result.output.startswith(f"{folder}: no problem found\n")
    assert said["versions"] == "1"
    assert said["inputs"] == "x float32 [-1, 13]"
    assert said["outputs"] == "output float32 [-1, 3]"
    assert said["hooks"] == "preprocess, postprocess"
    assert said["device"] == "cuda where there is one, else cpu"
    assert "max_batch" not in result.output
    assert re.search(r"^    max_batch +64$", command("check", "--all", folder).output, re.MULTILINE)


def test_check_of_a_folder_of_model_folders_gives_a_verdict_on_each_and_then_their_problems(
    tmp_path: Path, saved_model: Path, exported
):
    exported("good")
    exported("bad name")
    (tmp_path / "_not_one").mkdir()
    (tmp_path / "loose.pt2").touch()
    (saved_model / "model.yaml").write_text("versions: [2, 3]")
    result = command("check", tmp_path)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == "bad name: 1 problem"
    assert lines[1].startswith("good: no problem found; PyTorch, exported")
    assert lines[2] == "m: 2 problems"
    assert lines[3] == f"{tmp_path}/bad name: its name cannot be a model's"
    assert lines[4].startswith("    rename the folder: use letters")
    assert "there is no version 2" in lines[5]
    assert f"{tmp_path}/loose.pt2: is in no model folder, so it is not served" in lines
    assert f"    move it to {tmp_path}/loose/model.pt2" in lines
    assert "_not_one" not in result.output


def test_check_of_a_folder_of_model_folders_without_problems_is_a_line_for_each(tmp_path: Path, exported):
    for name in ("one", "two"):
        exported(name)
    result = command("check", tmp_path)
    assert result.exit_code == 0
    assert [line.partition(";")[0] for line in result.output.splitlines()] == [
        "one: no problem found",
        "two: no problem found",
    ]
    assert "    inputs " in command("check", "--all", tmp_path).output


def test_check_names_an_alias_that_two_folders_want(tmp_path: Path, exported):
    for name in ("one", "two"):
        exported(name, model_yaml="aliases: ['39']")
    result = command("check", tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path}/two/model.yaml: the alias 39 is left out: one has that name" in result.output


def test_a_name_that_serve_refuses_is_refused_by_check_too(exported):
    folder = exported("m n", model_yaml="aliases: [a/b]\nlabels: {'3': 1}")
    said = command("check", folder).output
    with pytest.raises(ModelFolderError) as caught:
        inspect(folder, look(folder))
    assert [each.message for each in caught.value.problems] == [
        "its name cannot be a model's",
        "alias 'a/b' cannot be a name",
        "label '3' cannot be a name",
    ]
    assert all(str(each.place) in said and each.message in said for each in caught.value.problems)


def test_check_looks_at_a_tensorflow_folder(saved_model: Path):
    result = command("check", saved_model)
    assert result.exit_code == 0, result.output
    assert "TensorFlow, SavedModel" in result.output
    (saved_model / "model.yaml").write_text("versions: [2]")
    result = command("check", saved_model)
    assert result.exit_code == 1
    assert "there is no version 2" in result.output
