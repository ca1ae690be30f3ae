"""The default policy reaches the goals that come with the scenarios, but for gaps that are named here."""

from __future__ import annotations

import pytest

from dl_inference.simulation import scenario
from dl_inference.simulation.outcome import missed, simulate

GAPS = {
    "all-refuse": {"errors_after_percent"},
    "fast-fail-twenty-proxies": {"eject_s"},
}
"""Scenario -> goals that dwrr may miss. Calls that wait for a connection come all at once when there is one; of twenty
proxies each has to see an endpoint fail for itself. Take out what no longer misses."""


@pytest.mark.parametrize("name", scenario.names())
def test_dwrr_reaches_the_goals_of_the_scenario(name):
    document = scenario.load(name)
    (outcome,) = simulate(document, ["dwrr"], [1])
    beside = missed(document, outcome)
    assert {goal: value for goal, value in beside.items() if goal not in GAPS.get(name, ())} == {}
    assert outcome.reports[0]["calls"] > 100
    of_classes = {f"{each}_p99_ms" for each in outcome.reports[0]["classes"]}
    assert document.get("goals", {}).keys() <= outcome.reports[0].keys() | of_classes


def test_gaps_are_of_scenarios_and_goals_that_there_are():
    assert [name for name, gaps in GAPS.items() if not gaps <= scenario.load(name)["goals"].keys()] == []
