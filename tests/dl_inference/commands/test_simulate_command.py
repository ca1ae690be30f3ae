"""`dl-inference simulate`: a table, plots, and what is wrong with what was asked for."""

from __future__ import annotations

import json
import sys

import pytest
from fixtures.command_line import command
from PIL import Image

from dl_inference.simulation import scenario
from dl_inference.simulation.outcome import ALL

FAULT = {"kind": "fail", "endpoints": [1], "from_s": 1, "to_s": 2}


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.json"
    document = {"about": "One fails.", "duration_s": 3, "endpoints": {"count": 3}, "load": {"rate": 300}}
    path.write_text(json.dumps({**document, "faults": [FAULT], "goals": {"errors_percent": 0}}))
    return path


def test_without_a_scenario_those_that_come_with_the_program_are_listed():
    lines = command("simulate").output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == scenario.names()


def test_the_table_has_a_row_for_each_policy_and_marks_what_misses_a_goal(mine):
    result = command("simulate", mine, "--policy", "all", "--seeds", "1")
    lines = result.output.splitlines()
    rows = [line.split() for line in lines if line.split()[0] in ALL]
    assert [row[0] for row in rows] == list(ALL)
    assert lines[0].endswith("mine.json: One fails.")
    marked = {row[0]: row[1].endswith("*") for row in rows}
    assert marked["grpc"]
    assert not marked["dwrr"]


def test_plots_and_a_page_are_written_where_they_are_wanted(mine, tmp_path):
    folder = tmp_path / "drawn"
    result = command("simulate", mine, "--seeds", "2", "--policy", "dwrr", "--policy", "grpc", "--out", folder)
    assert result.exit_code == 0
    with Image.open(folder / "mine.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10
    page = (folder / "mine.html").read_text()
    assert "<svg" in page
    assert "<td>grpc</td>" in page
    assert str(folder / "mine.html") in result.output.replace("\n", "")


def test_without_matplotlib_the_extra_is_named_after_the_table(mine, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = command("simulate", mine, "--out", tmp_path)
    assert result.exit_code == 1
    assert "errors %" in result.output
    assert "matplotlib is not installed: pip install 'dl-inference[simulate]'" in result.output


def test_a_folder_that_cannot_be_made_is_named(mine):
    result = command("simulate", mine, "--out", mine / "under")
    assert result.exit_code == 1
    assert f"cannot draw into {mine / 'under'}: " in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no scenario nowhere"),
        (["heal", "--policy", "best"], "unknown policy best"),
        (["heal", "--seeds", "0"], "whole number"),
    ],
)
def test_what_cannot_be_simulated_is_said(words, said):
    result = command("simulate", *words)
    assert result.exit_code == 2
    assert said in result.output
