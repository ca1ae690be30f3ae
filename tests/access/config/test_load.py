from pathlib import Path

import pytest

from access.config.load import Loaded, load
from access.errors import ConfigError
from dl_inference.serving.given import numbers_of
from torch_predict.config import ModelSettings, ServerSettings

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
        ("listen: [a:1, a:1]", "listen[1]: a:1 is listened on already"),
        ("listen: a:1\nadmin: a:1", "access.yaml:2 admin: a:1 is listened on already"),
        ("workers: '2'", "'2' should be a whole number"),
        ("workers: true", "true should be a whole number"),
        ("workers: 0", "0 should be greater than or equal to 1"),
        ("models: {m: {endpoints: []}}", "models.m.endpoints"),
        ("models: {m: {endpoints: [a:1, a:1]}}", "endpoint a:1 is there twice"),
        ("models: {m: {endpoints: [{address: a:1, weight: 0}]}}", "0 should be greater than or equal to 1"),
        ("models: {m: {endpoints: [a:1], policy: rr}}", "'rr' is no policy; use one of"),
        ("models: {m: {endpoints: [a:1], retry_codes: [UNAVAILBLE]}}", "'UNAVAILBLE' is no gRPC code"),
        ("models: {m: {endpoints: [a:1], failure_codes: [RESOURCE_EXHAUSTED]}}", "RESOURCE_EXHAUSTED never counts"),
        ("models: {m: {endpoints: [a:1], max_attempts: 4}}", "4 should be less than or equal to 3"),
        ("models: {m: {endpoints: [a:1], retry_budget_ratio: .nan}}", "should be a finite number"),
        ("models: {m: {cluster: a}}", "models.m.cluster: there is no cluster 'a'"),
        ("models: {m: {cluster: flet}}\nclusters: {fleet: {endpoints: [a:1]}}", "did you mean fleet?"),
        (
            "models: {m: {cluster: f, timeout_ms: 1}}\nclusters: {f: {endpoints: [a:1]}}",
            "timeout_ms has no effect here",
        ),
        ("models: {m: {cluster: m, endpoints: [a:1]}}", "cluster and endpoints at once"),
        ("models: {m: {}}", "models.m: says nowhere to go"),
        ("models: {m: }", "models.m: null should be a mapping"),
        ("models: {m: {versions: {'1': {}}}}", "models.m.versions.1: says nowhere to go"),
        ("models: {m: {split: [{endpoints: [a:1], weight: 0}]}}", "every weight is 0"),
        ("models: {m: {split: []}}", "models.m.split"),
        ("models: {a/b: {endpoints: [a:1]}}", "'a/b' is no name"),
        ("models: {.m: {endpoints: [a:1]}}", "'.m' is no name"),
        (f"models: {{{'m' * 129}: {{endpoints: [a:1]}}}}", "is no name"),
        ("clusters: {m: {endpoints: [a:1]}}\nmodels: {m: {endpoints: [a:1]}}", "m is also the name of a cluster"),
        ("default_cluster: x\nmodels: {m: {endpoints: [a:1]}}", "default_cluster: there is no cluster 'x'"),
        ("models: {m: {endpoints: [a:1], timeout_ms: 100, attempt_timeout_ms: 100}}", "is not below timeout_ms 100"),
        (
            "cluster_defaults: {attempt_timeout_ms: 70000}\nmodels: {m: {endpoints: [a:1]}}",
            "is not below timeout_ms 60000",
        ),
        ("", "access.yaml: nothing to route"),
        ("- a", "access.yaml:1: the file is not a mapping"),
        ("models: {m: {endpoints: [a:1]}\n", "not YAML"),
        ("listen: a:1 # \x01", "not YAML"),
        ("listen: [::1]:8500", "not YAML"),
        ("listen: a:1\n\tadmin: b:1", "access.yaml:2: not YAML"),
        ("listen: a:1\nlisten: b:1\n", "access.yaml:2 listen: the key is on line 1 already"),
        ("a: &a [*a]", "too many or too deep values"),
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


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("DL_INFERENCE_LIMITS__MAX_STREAMS", "7", ("limits", "max_streams"), 7),
        ("DL_INFERENCE_LISTEN", "[a:1, b:2]", ("listen",), ("a:1", "b:2")),
        ("DL_INFERENCE_LISTEN", "[::1]:8500", ("listen",), ("[::1]:8500",)),
        ("DL_INFERENCE_ADMIN", "null", ("admin",), None),
        ("DL_INFERENCE_EXPOSE_ENDPOINTS", "true", ("expose_endpoints",), True),
        ("DL_INFERENCE_DEFAULT_CLUSTER", "69", ("default_cluster",), "69"),
        ("DL_INFERENCE_CLUSTERS__BIG_FLEET__TIMEOUT_MS", "5", ("clusters", "Big-Fleet", "timeout_ms"), 5),
        ("DL_INFERENCE_ACCESS_LOG", "-", ("access_log",), "-"),
    ],
)
def test_a_variable_sets_a_key(tmp_path, variable, text, path, value):
    file = SMALL + "clusters: {Big-Fleet: {endpoints: [a:1]}, '69': {endpoints: [a:1]}}\n"
    result = loaded(tmp_path, file, environment={variable: text})
    found = result.config
    for step in path:
        found = found[step] if isinstance(found, dict) else getattr(found, step)
    assert found == value
    assert result.origin(path) == f"environment {variable}"


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("DL_INFERENCE_LISTN", "a:1", "environment DL_INFERENCE_LISTN: there is no 'listn'"),
        ("DL_INFERENCE_LIMITS__MAX_STREAM", "1", "did you mean max_streams?"),
        (
            "DL_INFERENCE_LIMITS__MAX_STREAMS",
            "x",
            "environment DL_INFERENCE_LIMITS__MAX_STREAMS limits.max_streams: 'x'",
        ),
        ("DL_INFERENCE_MODELS__N__TIMEOUT_MS", "1", "there is no 'n' in models"),
        ("DL_INFERENCE_MODELS__M__TIMEOUT_MS__X", "1", "there is no 'x' in models.m.timeout_ms"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(tmp_path, variable, text, expected):
    assert any(expected in problem for problem in problems(tmp_path, SMALL, environment={variable: text}))


@pytest.mark.parametrize(
    "variable",
    [
        "PORT",
        "PORT_8500_TCP",
        "PORT_8500_TCP_ADDR",
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_GRPC",
        "ADMIN_SERVICE_HOST",
    ],
)
def test_what_kubernetes_sets_for_a_service_of_our_name_is_not_ours(tmp_path, variable):
    loaded(tmp_path, SMALL, environment={f"DL_INFERENCE_{variable}": "tcp://10.0.0.1:8500"})


def test_the_model_servers_variables_are_not_ours(tmp_path):
    settings = [*ServerSettings.model_fields, *numbers_of(ModelSettings)]
    assert {"torch_threads", "timeout_ms"} <= set(settings)
    for name in settings:
        loaded(tmp_path, SMALL, environment={f"DL_INFERENCE_{name.upper()}": "1"})


def test_the_registrys_variables_are_not_ours(tmp_path):
    names = ("DL_INFERENCE_REGISTRY", "DL_INFERENCE_REGISTRY_USERNAME", "DL_INFERENCE_REGISTRY_CA_FILE")
    path = tmp_path / "access.yaml"
    path.write_text("models: {m: {endpoints: [10.0.0.1:1]}}")
    loaded = load(path, environment=dict.fromkeys(names, "x"))
    assert list(loaded.config.models) == ["m"]


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.yaml: cannot be read: No such file"):
        load(tmp_path / "missing.yaml")


def test_keys_are_the_text_that_was_written(tmp_path):
    models = loaded(
        tmp_path, "models: {069: {endpoints: [a:1]}, on: {endpoints: [a:1]}, 70: {endpoints: [a:1]}}"
    ).config.models
    assert list(models) == ["069", "on", "70"]


def test_a_bomb_of_aliases_is_refused(tmp_path):
    lines = ["a: &a [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"{new}: &{new} [{','.join(['*' + old] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    assert any("too many" in problem for problem in problems(tmp_path, "\n".join(lines)))
