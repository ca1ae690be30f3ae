"""What keys must agree on: found in plain data of any shape, each with its path and what to do."""

import pytest

from access.config.crosscheck import findings

HERE = {"endpoints": ["a:1"]}
M = {"models": {"m": HERE}}


def found(data: dict) -> list[tuple[str, str, str]]:
    return [(".".join(map(str, each.path)), each.message, each.remedy) for each in findings(data)]


@pytest.mark.parametrize(
    "data",
    [
        M,
        {"discovery": [{"kind": "nodefile"}], "default_cluster": "of a source"},
        {"default_cluster": "c", "clusters": {"c": HERE}},
        {"models": {"m": {"cluster": "c"}}, "clusters": {"c": HERE}},
        {"models": {"m": {"cluster": "n"}, "n": HERE}},
        {"models": {"m": {"versions": {"1": HERE}}}},
        {"models": {"m": {"split": [{**HERE, "weight": 0}, {"endpoints": ["b:1"]}]}}},
        {**M, "listen": ["a:0", "a:0"], "admin": "a:0"},
        {**M, "listen": "127.0.0.2:1", "admin": "a:2"},
        {"listen": "127.0.0.1:8500", "models": {"m": {"endpoints": ["127.0.0.1:8501", "127.0.0.2:8500", 5, "x"]}}},
        {"models": {"m": {**HERE, "timeout_ms": 101, "attempt_timeout_ms": 100}}},
    ],
)
def test_what_agrees_is_not_named(data):
    assert found(data) == []


@pytest.mark.parametrize(
    ("data", "finding"),
    [
        ({}, ("", "nothing to route", "give `models`, `discovery` or `default_cluster`")),
        (
            {**M, "clusters": {"m": HERE}},
            ("models.m", "m is also the name of a cluster in `clusters`", "write `{cluster: m}`"),
        ),
        (
            {"listen": "0.0.0.0:8500", "models": {"m": {"endpoints": ["a:1", {"address": "LOCALHOST:08500"}]}}},
            (
                "models.m.endpoints.1",
                "LOCALHOST:08500 is this access service itself: every call to it would come back here",
                "name the model server, or give it another port",
            ),
        ),
        (
            {"listen": ["[::1]:8500"], "clusters": {"c": {"endpoints": ["[0::1]:8500"]}}, **M},
            (
                "clusters.c.endpoints.0",
                "[0::1]:8500 is this access service itself: every call to it would come back here",
                "name the model server, or give it another port",
            ),
        ),
        ({"models": {"m": {"cluster": "a"}}}, ("models.m.cluster", "there is no cluster 'a'", "")),
        (
            {"models": {"m": {"cluster": "flet"}}, "clusters": {"fleet": HERE}},
            ("models.m.cluster", "there is no cluster 'flet'", "did you mean fleet?"),
        ),
        (
            {"models": {"m": {"split": [HERE, {"cluster": "x"}]}}, "clusters": {"fleet": HERE}},
            ("models.m.split.1.cluster", "there is no cluster 'x'", "known: fleet"),
        ),
        (
            {"models": {"m": {"cluster": "f", "timeout_ms": 1}}, "clusters": {"f": HERE}},
            ("models.m.timeout_ms", "timeout_ms has no effect here", "write it under clusters.f"),
        ),
        (
            {"models": {"m": {"split": [HERE], "policy": "dwrr"}}},
            ("models.m.policy", "policy has no effect here", "write it beside the `endpoints` it is meant for"),
        ),
        (
            {"models": {"m": {**HERE, "cluster": "m"}}},
            ("models.m", "cluster and endpoints at once", "keep one of them"),
        ),
        (
            {"models": {"m": {}}},
            ("models.m", "says nowhere to go", "give `cluster`, `endpoints`, `discovery` or `split`"),
        ),
        (
            {"models": {"m": {"versions": {"1": {}}}}},
            ("models.m.versions.1", "says nowhere to go", "give `cluster`, `endpoints`, `discovery` or `split`"),
        ),
        (
            {"models": {"m": {"split": [{**HERE, "weight": 0}]}}},
            ("models.m.split", "every weight is 0", "give one a weight"),
        ),
        ({**M, "default_cluster": "x"}, ("default_cluster", "there is no cluster 'x'", "known: m")),
        ({**M, "listen": ["a:1", "a:1"]}, ("listen.1", "a:1 is listened on already", "give another port")),
        ({**M, "listen": "a:1", "admin": "a:1"}, ("admin", "a:1 is listened on already", "give another port")),
    ],
)
def test_a_disagreement_is_named_with_path_and_remedy(data, finding):
    assert found(data) == [finding]


@pytest.mark.parametrize(
    ("data", "path", "attempt", "whole"),
    [
        ({"models": {"m": {**HERE, "timeout_ms": 100, "attempt_timeout_ms": 100}}}, "models.m", 100, 100),
        ({"clusters": {"c": {**HERE, "attempt_timeout_ms": 60_001}}}, "clusters.c", 60_001, 60_000),
        ({"cluster_defaults": {"attempt_timeout_ms": 70_000}}, "cluster_defaults", 70_000, 60_000),
        ({"cluster_defaults": {"attempt_timeout_ms": 9}, "models": {"m": {**HERE, "timeout_ms": 9}}}, "models.m", 9, 9),
    ],
)
def test_an_attempt_may_not_take_the_whole_time(data, path, attempt, whole):
    message = f"attempt_timeout_ms {attempt} is not below timeout_ms {whole}: no time would be left to try again"
    assert (path, message, "make it smaller, or leave it out") in found(data)


@pytest.mark.parametrize(
    "data",
    [
        {"models": 1},
        {"models": {"m": None}},
        {"models": {"m": {"versions": [], "split": 3}}},
        {"models": {"m": {"split": ["x", None]}}},
        {"clusters": [], "cluster_defaults": "x", "discovery": 1, "listen": {"a": 1}, "admin": []},
        {"models": {"m": {**HERE, "timeout_ms": "x", "attempt_timeout_ms": []}}, "default_cluster": 7},
    ],
)
def test_data_of_any_shape_is_looked_at(data):
    assert isinstance(found(data), list)
