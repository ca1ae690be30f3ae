"""Scenarios from names, files and access logs."""

import json

import pytest

from dl_inference.simulation import scenario
from dl_inference.simulation.outcome import simulate


def test_a_name_that_is_not_known_is_answered_with_those_that_are():
    with pytest.raises(scenario.ScenarioError, match=r"no scenario hnag and no such file; scenarios: .*, hang, "):
        scenario.load("hnag")


def test_a_file_that_is_no_toml_is_named_with_the_place(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("duration_s = \n")
    with pytest.raises(scenario.ScenarioError, match=r"mine\.toml: .*line 1"):
        scenario.load(str(path))


def test_a_scenario_in_json_is_taken_as_it_is(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"duration_s": 1}))
    assert scenario.load(str(path)) == {"duration_s": 1}


def test_the_calls_of_an_access_log_come_as_they_came(tmp_path):
    path = tmp_path / "access.log"
    path.write_text(
        '{"time": "2026-11-29T10:00:01.000Z", "duration_ms": 500.0, "code": "OK"}\n'
        '{"time": "2026-11-29T10:00:00.800Z", "duration_ms": 100.0, "code": "OK"}\n'
    )
    document = scenario.load(str(path))
    assert document["load"] == {"calls": [(0.0, 500.0), (0.2, 100.0)]}
    (outcome,) = simulate(document, ["dwrr"], [1])
    assert outcome.reports[0]["calls"] == 2
    assert outcome.span("max_ms").median == pytest.approx(500.2)


def test_a_line_that_is_none_of_a_log_is_named(tmp_path):
    path = tmp_path / "access.log"
    path.write_text('{"time": "2026-11-29T10:00:01.000Z", "duration_ms": 500.0}\n{"time": "soon"}\n')
    with pytest.raises(scenario.ScenarioError, match="line 2 is no line of an access log"):
        scenario.load(str(path))
