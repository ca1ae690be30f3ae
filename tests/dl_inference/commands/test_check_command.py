"""`dl-inference check`: what it names, and what it shows."""

from __future__ import annotations

from pathlib import Path

from fixtures.command_line import command

EXAMPLE = """\
listen: 127.0.0.1:8500
models:
  digits: {endpoints: [10.0.0.3:5000], protocol: seldon}
discovery: [{kind: nodefile, path: nodefile.txt}]
"""


def test_check_names_every_problem_with_place_and_remedy(tmp_path: Path):
    path = tmp_path / "access.yaml"
    path.write_text("listn: a:1\nmodels: {m: {cluster: x}}\n")
    result = command("check", path)
    assert result.exit_code == 1
    assert "access.yaml:1 listn: unknown key 'listn'\n    did you mean listen?" in result.output
    assert "access.yaml:2 models.m.cluster: there is no cluster 'x'" in result.output


def test_check_shows_what_is_in_force_and_where_it_came_from(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DL_INFERENCE_DRAIN_TIMEOUT_MS", "77")
    (tmp_path / "nodefile.txt").write_text("69=800,10.0.0.1:8500*2,garbage\n")
    path = tmp_path / "access.yaml"
    path.write_text(EXAMPLE)
    result = command("check", path)
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


def test_check_looks_at_a_tensorflow_folder(saved_model: Path):
    assert command("check", saved_model).exit_code == 0
    (saved_model / "model.yaml").write_text("versions: [2]")
    result = command("check", saved_model)
    assert result.exit_code == 1
    assert "there is no version 2" in result.output
