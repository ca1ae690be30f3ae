from pathlib import Path

import pytest

from access.config.load import Loaded, load
from access.errors import ConfigError
from access.state import process

EXAMPLE = """\
listen: 0.0.0.0:8500
admin: 127.0.0.1:8502
clusters:
  fleet: {endpoints: [10.0.0.1:8500, {address: 10.0.0.2:8500, weight: 2}], timeout_ms: 800, attempt_timeout_ms: 300}
models:
  ranking: {cluster: fleet}
  digits: {endpoints: [10.0.0.3:5000], protocol: seldon}
  vision:
    split: [{cluster: fleet, weight: 95}, {endpoints: [10.0.0.4:8500], weight: 5}]
    versions: {"3": {cluster: fleet}}
  "69": {discovery: {kind: nodefile, path: nodefile.txt}}
discovery: [{kind: nodefile, path: nodefile.txt}]
"""
SMALL = "models: {m: {endpoints: [a:1]}}\n"


def loaded(folder: Path, text: str, *, environment: dict[str, str] | None = None, **flags: object) -> Loaded:
    path = folder / "access.yaml"
    path.write_text(text)
    return load(path, flags=flags, environment=environment or {})


def problems(folder: Path, text: str, *, environment: dict[str, str] | None = None, **flags: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, environment=environment, **flags)
    return [str(problem) for problem in caught.value.problems]


def test_the_example_of_the_design_is_taken(tmp_path):
    config = loaded(tmp_path, EXAMPLE).config
    assert config.listen == ("0.0.0.0:8500",)
    assert [(each.address, each.weight) for each in config.clusters["fleet"].endpoints] == [
        ("10.0.0.1:8500", 1),
        ("10.0.0.2:8500", 2),
    ]
    assert config.models["vision"].versions["3"].cluster == "fleet"
    assert config.limits.max_message_bytes == 16 * 1024 * 1024


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("listn: a:1\n", "access.yaml:1 listn: unknown key 'listn'; did you mean listen?"),
        (
            "limits: {max_stream: 1}\n",
            "access.yaml:1 limits.max_stream: unknown key 'max_stream'; did you mean max_streams?",
        ),
        ("models: {m: {endpoints: [{address: a:1, wieght: 2}]}}", "unknown key 'wieght'; did you mean weight?"),
        ("discovery: [{kind: nodfile, path: x}]", "there is no source of kind 'nodfile'; did you mean nodefile?"),
        ("discovery: [{kind: nodefile, pth: x}]", "unknown key 'pth'; did you mean path?"),
        ("discovery: [{kind: nodefile}]", "access.yaml:1 discovery[0].path: path is missing"),
        ("discovery: [{path: x}]", "discovery[0]: `kind` is missing"),
        ("listen: 8500", "access.yaml:1 listen: 8500 should be a list"),
        ("listen: 'localhost'", "'localhost': the port is missing"),
        ("workers: '2'", "'2' should be a whole number"),
        ("workers: true", "true should be a whole number"),
        ("workers: 0", "0 should be greater than or equal to 1"),
        ("models: {m: {endpoints: []}}", "models.m.endpoints"),
        ("models: {m: {endpoints: [a:1, a:1]}}", "endpoint a:1 appears twice"),
        ("models: {m: {endpoints: [a:1, 'A.:01']}}", "endpoint A.:01 appears twice, as a:1 too"),
        ("models: {m: {endpoints: ['10.0.0.1:1', '[::ffff:10.0.0.1]:1']}}", "appears twice, as 10.0.0.1:1 too"),
        ("models: {m: {endpoints: [{address: a:1, weight: 0}]}}", "0 should be greater than or equal to 1"),
        ("models: {m: {endpoints: [a:1], policy: rr}}", "'rr' is not a policy; use one of"),
        (
            "models: {m: {endpoints: [a:1], hash_key: X-User}}",
            "'X-User' is not a metadata key that callers set; use 1 to",
        ),
        ("models: {m: {endpoints: [a:1], hash_key: grpc-timeout}}", "'grpc-timeout' is not a metadata key"),
        (
            "models: {m: {endpoints: [a:1], hash_field: session}}",
            "'session' is not a field of a request that calls can be kept on one endpoint by; use id or parameters.N",
        ),
        ("models: {m: {endpoints: [a:1], hash_field: meta.tags.}}", "'meta.tags.' is not a field of a request"),
        ("models: {m: {endpoints: [a:1], retry_codes: [UNAVAILBLE]}}", "'UNAVAILBLE' is not a gRPC code"),
        ("models: {m: {endpoints: [a:1], failure_codes: [RESOURCE_EXHAUSTED]}}", "RESOURCE_EXHAUSTED never counts"),
        ("models: {m: {endpoints: [a:1], max_attempts: 4}}", "4 should be less than or equal to 3"),
        ("models: {m: {endpoints: [a:1], retry_budget_ratio: .nan}}", "should be a finite number"),
        ("models: {m: }", "models.m: null should be a mapping"),
        ("models: {m: {split: []}}", "models.m.split"),
        ("models: {a/b: {endpoints: [a:1]}}", "'a/b' is not a name"),
        ("models: {.m: {endpoints: [a:1]}}", "'.m' is not a name"),
        (f"models: {{{'m' * 129}: {{endpoints: [a:1]}}}}", "is not a name"),
        (
            "models: {m: {cluster: flet}}\nclusters: {fleet: {endpoints: [a:1]}}",
            "access.yaml:1 models.m.cluster: there is",
        ),
        ("listen: a:1\nlisten: b:1\n", "access.yaml:2 listen: the key is on line 1 already"),
        ("", "access.yaml: nothing to route"),
    ],
)
def test_a_mistake_is_named_with_place_and_remedy(tmp_path, text, expected):
    found = problems(tmp_path, text)
    assert any(expected in problem for problem in found), found
    assert all(problem.startswith("access.yaml") for problem in found)


def test_every_problem_is_reported_at_once_in_the_order_of_the_file(tmp_path):
    text = "listn: a:1\nworkers: two\nmodels:\n  m: {cluster: nowhere}\nadmin: x\nadmin: y\n"
    assert [problem.split(" ")[0] for problem in problems(tmp_path, text)] == [
        f"access.yaml:{line}" for line in (1, 2, 4, 5, 6)
    ]


def test_a_flag_wins_over_environment_over_file_over_default(tmp_path):
    text = SMALL + "listen: file:1\nadmin: file:2\nworkers: 3\n"
    environment = {"DL_INFERENCE_LISTEN": "environment:1", "DL_INFERENCE_ADMIN": "environment:2"}
    result = loaded(tmp_path, text, environment=environment, listen=["flag:1"])
    config = result.config
    assert (config.listen, config.admin, config.workers) == (("flag:1",), "environment:2", 3)
    assert result.origin(("listen",)) == "flag --listen"
    assert result.origin(("admin",)) == "environment DL_INFERENCE_ADMIN"
    assert result.origin(("workers",)) == "access.yaml:4"
    assert result.origin(("drain_timeout_ms",)) == "default"
    assert result.origin(("limits", "max_streams")) == "default"


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read: No such file"):
        load(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ([], "name 1 to 40 bounds, not 0"),
        ([5, 5], "the bounds must ascend: 5 stands behind 5"),
        ([10, 1], "the bounds must ascend: 1 stands behind 10"),
        ([0.01], "greater than or equal to 0.05"),
        ([100_000], "less than or equal to 60000"),
        ("[true]", "number"),
        (list(range(1, 42)), "name 1 to 40 bounds, not 41"),
    ],
)
def test_bounds_of_latency_that_cannot_be_shown_are_an_error_at_their_place(tmp_path, bounds, reason):
    (problem,) = problems(tmp_path, f"{SMALL}metrics: {{latency_buckets_ms: {bounds}}}\n")
    assert "metrics.latency_buckets_ms" in problem
    assert reason in problem


def test_bounds_of_latency_reach_the_data_plane_from_the_file_and_from_the_environment(tmp_path):
    text = f"{SMALL}metrics: {{latency_buckets_ms: [1, 2.5]}}\n"
    assert process(loaded(tmp_path, text).config)["latency_buckets_ms"] == [1, 2.5]
    environment = {
        "DL_INFERENCE_METRICS__LATENCY_BUCKETS_MS": "[3, 4]",
        "DL_INFERENCE_LOG_LEVEL": "debug",
        "DL_INFERENCE_LOG_FORMAT": "text",
    }
    assert process(loaded(tmp_path, text, environment=environment).config)["latency_buckets_ms"] == [3, 4]
