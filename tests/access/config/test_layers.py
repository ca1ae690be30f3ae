"""Variables of the environment over the file: which key each sets, and which are none of ours."""

from pathlib import Path

import pytest

from access.config.layers import Layers
from access.config.load import Loaded, load
from access.errors import ConfigError

SMALL = "models: {m: {endpoints: [a:1]}}\n"


def loaded(folder: Path, text: str, environment: dict[str, str]) -> Loaded:
    path = folder / "access.yaml"
    path.write_text(text)
    return load(path, environment=environment)


def problems(folder: Path, text: str, environment: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, environment)
    return [str(problem) for problem in caught.value.problems]


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


def test_a_variable_of_another_program_is_not_ours(tmp_path):
    path = tmp_path / "access.yaml"
    path.write_text(SMALL)
    environment = {"DL_INFERENCE_FOREIGN": "1"}
    assert load(path, environment=environment, is_foreign=environment.__contains__).origins
    with pytest.raises(ConfigError, match="there is no 'foreign'"):
        load(path, environment=environment)


def test_a_variable_of_ours_counts_also_where_another_program_reads_it(tmp_path):
    path = tmp_path / "access.yaml"
    path.write_text(SMALL)
    for variable in ("DL_INFERENCE_DRAIN_TIMEOUT_MS", "DL_INFERENCE_LIMITS__MAX_STREAMS"):
        found = load(path, environment={variable: "7"}, is_foreign=lambda name: True)
        assert f"environment {variable}" in found.origins.values()


@pytest.mark.parametrize("name", ["REGISTRY", "REGISTRY_USERNAME", "REGISTRY_CA_FILE", "REGISTER", "GOODBYE_MS"])
def test_the_registrys_variables_are_not_ours(tmp_path, name):
    assert list(loaded(tmp_path, SMALL, environment={f"DL_INFERENCE_{name}": "x"}).config.models) == ["m"]


def test_a_flag_replaces_all_that_was_under_its_key():
    layers = Layers({"limits": {"max_streams": 1}}, {("limits",): "x:1", ("limits", "max_streams"): "x:2"})
    layers.add_flags({"limits": {"max_in_flight": 2}})
    assert layers.data == {"limits": {"max_in_flight": 2}}
    assert layers.origins == {("limits",): "flag --limits", ("limits", "max_in_flight"): "flag --limits"}


def test_a_value_that_is_missing_is_where_the_nearest_one_around_it_is():
    layers = Layers({}, {(): "x.yaml:1", ("models", "m"): "x.yaml:3"})
    assert layers.place(("models", "m", "endpoints")) == "x.yaml:3 models.m.endpoints"
    assert layers.place(("models", "n")) == "x.yaml:1 models.n"
    assert Layers({}, {}).place(("models", "n")) == "models.n"
