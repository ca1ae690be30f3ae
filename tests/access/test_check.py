"""Checking a configuration without serving: its problems, those of its sources, and the effective values."""

import threading
from pathlib import Path

import pytest

from access.check import CheckResult, check
from access.config.load import Loaded, load


def read(path: Path) -> Loaded:
    return load(path, environment={})


@pytest.fixture
def checked(tmp_path: Path):
    def config(text: str) -> CheckResult:
        (tmp_path / "access.yaml").write_text(text)
        return check(tmp_path / "access.yaml", read)

    return config


def test_mistakes_of_the_configuration_are_its_problems(checked):
    result = checked("listn: a:1\nworkers: two\nmodels: {m: {endpoints: [a:1]}}\n")
    assert [each.place for each in result.problems] == ["access.yaml:1 listn", "access.yaml:2 workers"]
    assert (result.loaded, result.routing) == (None, None)


def test_a_source_that_cannot_be_read_is_a_problem_and_so_is_the_next_one(checked, tmp_path):
    result = checked("discovery: [{kind: nodefile, path: a.txt}, {kind: file, path: b.yaml}]\n")
    assert [each.place for each in result.problems] == [f"nodefile:{tmp_path}/a.txt", f"file:{tmp_path}/b.yaml"]
    assert {each.remedy for each in result.problems} == {"the access service would have nothing from it"}
    assert result.loaded is not None
    assert result.routing is None


def test_without_problems_it_says_what_would_be_in_force(checked, tmp_path):
    (tmp_path / "nodefile.txt").write_text("69=1000,b:1\n")
    result = checked("discovery: [{kind: nodefile, path: nodefile.txt}]\nmodels: {m: {endpoints: [a:1]}}\n")
    assert (result.problems, result.warnings) == ((), ())
    assert result.loaded.origin(("models", "m")) == "access.yaml:2"
    assert [each["name"] for each in result.routing.state["models"]] == ["m", "69"]


def test_what_would_be_skipped_is_a_warning(checked, tmp_path):
    (tmp_path / "nodefile.txt").write_text("69=1000,b:1,garbage\nm=1000,c:1\n")
    result = checked(
        "discovery: [{kind: nodefile, path: nodefile.txt}]\n"
        "clusters: {'69': {endpoints: [a:1]}}\nmodels: {m: {cluster: '69'}}\n"
    )
    assert result.problems == ()
    assert [each.message.partition(":")[0] for each in result.warnings] == ["69", "the entry is skipped"]


def test_nothing_goes_on_when_it_returns(checked):
    before = set(threading.enumerate())
    result = checked(
        "models: {m: {discovery: {kind: dns, name: models.invalid, port: 1, servers: ['127.0.0.1:1'], "
        "start_timeout_ms: 50}}}\n"
    )
    assert result.problems[0].place.startswith("dns:models.invalid")
    assert set(threading.enumerate()) == before
