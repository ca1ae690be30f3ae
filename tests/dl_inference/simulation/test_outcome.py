"""The simulator as Python sees it: the same calls for all, the same result for the same seed, errors with the key."""

import json

import pytest

from dl_inference import _native
from dl_inference.simulation import scenario
from dl_inference.simulation.outcome import ALL, Span, missed, simulate

SHORT = {
    "duration_s": 4,
    "endpoints": {"count": 4, "slots": 2},
    "service": {"law": "lognormal", "mean_ms": 10, "sigma": 0.3},
    "load": {"rate": 400},
    "faults": [{"kind": "fail", "endpoints": [1], "from_s": 1, "to_s": 2}],
}


def reports(document, policies, seeds):
    order = {"scenario": document, "policies": list(policies), "seeds": list(seeds)}
    return json.loads(_native.simulate(json.dumps(order)))


def test_the_same_seed_gives_the_same_result_by_every_policy():
    first, second = (reports(SHORT, ALL, [7, 8]) for _ in range(2))
    assert first == second
    assert [(one["policy"], one["seed"]) for one in first] == [(name, seed) for name in ALL for seed in (7, 8)]


def test_all_policies_get_the_same_calls():
    assert len({one["calls"] for one in reports(SHORT, ALL, [3])}) == 1


def test_another_seed_gives_other_calls():
    assert len({one["calls"] for one in reports(SHORT, ["dwrr"], range(5))}) > 1


def test_what_fails_fast_draws_a_rule_that_counts_connections_alone():
    blind, ours = simulate(scenario.load("heal"), ["nginx-least-conn", "dwrr"], [1])
    assert blind.span("errors_percent").median > 10
    assert ours.span("errors_percent") == Span(0, 0, 0)


def test_reports_of_load_are_what_a_weighted_rule_goes_by():
    endpoints = {"count": 2, "slots": 4, "speeds": [1, 3]}
    document = {**SHORT, "duration_s": 10, "faults": []}
    told, untold = (
        simulate({**document, "endpoints": known}, ["grpc-weighted"], [1])[0].reports[0]["course"]["attempts"]
        for known in ({**endpoints, "reports": True}, endpoints)
    )
    slow, fast = (sum(bins[30:]) for bins in told)
    assert fast / slow == pytest.approx(3, rel=0.15)
    slow, fast = (sum(bins[30:]) for bins in untold)
    assert fast / slow == pytest.approx(1, rel=0.01)


def test_a_goal_that_is_not_met_is_named_with_its_figure():
    document = {**SHORT, "goals": {"errors_percent": 0, "all_p99_ms": 1, "restore_s": 60}}
    (outcome,) = simulate(document, ["grpc"], [1])
    beside = missed(document, outcome)
    assert beside.keys() == {"errors_percent", "all_p99_ms"}
    assert beside["errors_percent"] == outcome.reports[0]["errors_percent"] > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"duration_s": 0}, "duration_s: 0 is not from 0.1 to 86400"),
        ({"load": {}}, "load has either a rate or calls"),
        ({"load": {"rate": 1e9}}, "load.rate"),
        ({"faults": [{"kind": "melt", "from_s": 1}]}, "unknown variant `melt`"),
        ({"faults": [{"kind": "fail", "from_s": 1, "endpoints": [4]}]}, r"faults\[0\].endpoints: 4 is none of 0 to 3"),
        ({"faults": [{"kind": "fail", "from_s": 1, "code": "OOPS"}]}, r'faults\[0\].code: "OOPS" is not the name'),
        ({"faults": [{"kind": "fail", "from_s": 1, "class": "big"}]}, '"big" is none of the classes'),
        ({"endpoints": {"count": 2, "colour": "red"}}, "unknown field `colour`"),
    ],
)
def test_a_wrong_scenario_is_refused_by_the_name_of_its_key(change, said):
    with pytest.raises(_native.NativeError, match=said):
        simulate({**SHORT, **change}, ["dwrr"], [1])


def test_an_unknown_policy_is_refused_with_the_known_ones():
    with pytest.raises(_native.NativeError, match=r"unknown policy best; known: dwrr, .*seed"):
        simulate(SHORT, ["best"], [1])
