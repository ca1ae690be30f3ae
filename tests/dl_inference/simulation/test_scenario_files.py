"""Scenarios from names, files and access logs."""

import json

import pytest

from dl_inference.simulation import scenario
from dl_inference.simulation.outcome import simulate


def test_a_name_that_is_not_known_is_answered_with_those_that_are():
    with pytest.raises(scenario.ScenarioError, match=r"no scenario hnag; scenarios: .*, hang, .*; no file hnag"):
        scenario.load("hnag")


def test_a_file_that_is_no_toml_is_named_with_the_place(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("duration_s = \n")
    with pytest.raises(scenario.ScenarioError, match=r"mine\.toml: .*line 1"):
        scenario.load(str(path))


def test_a_scenario_in_json_is_taken_as_it_is(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"load": {"rate": 1}}))
    assert scenario.load(str(path)) == {"load": {"rate": 1}}


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "access.log"
    path.write_text(
        '{"time": "2026-11-29T10:00:01.000Z", "duration_ms": 500.0, "code": "OK"}\n'
        '{"time": "2026-11-29T10:00:00.800Z", "duration_ms": 100.0, "code": "OK"}\n'
    )
    return path


def test_a_scenario_takes_its_calls_from_an_access_log_beside_it(log):
    path = log.with_name("mine.toml")
    path.write_text('endpoints = {count = 1}\nfaults = [{kind = "hang", from_s = 0.1}]\nload = {file = "access.log"}\n')
    document = scenario.load(str(path))
    assert document["load"] == {"calls": [(0.0, 500.0), (0.2, 100.0)]}
    (outcome,) = simulate(document, ["dwrr"], [1])
    assert outcome.reports[0]["errors"] == {"DEADLINE_EXCEEDED": 1}


def test_an_access_log_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('load = {file = "gone.log"}\n')
    with pytest.raises(scenario.ScenarioError, match=r"^no file .*gone\.log$"):
        scenario.load(str(path))


def test_the_calls_of_an_access_log_come_as_they_came(log):
    document = scenario.load(str(log))
    assert document["load"] == {"calls": [(0.0, 500.0), (0.2, 100.0)]}
    (outcome,) = simulate(document, ["dwrr"], [1])
    assert outcome.reports[0]["calls"] == 2
    assert outcome.span("max_ms").median == pytest.approx(500.2)


def test_a_line_that_is_none_of_a_log_is_named(tmp_path):
    path = tmp_path / "access.log"
    path.write_text('{"time": "2026-11-29T10:00:01.000Z", "duration_ms": 500.0}\n{"time": "soon"}\n')
    with pytest.raises(scenario.ScenarioError, match=r"access\.log, line 2: no line of an access log"):
        scenario.load(str(path))
