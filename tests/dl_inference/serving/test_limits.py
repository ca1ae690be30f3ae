"""The limits of model servers: by flag, environment, model.yaml or default; every wrong name and value is said."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from typer.testing import CliRunner

from access.config.load import load_without_file
from access.config.sections import Limits as AccessLimits
from dl_inference import AsyncClient, Client, cli
from dl_inference.serving.given import Given
from dl_inference.serving.limits import OF_THE_ACCESS_SERVICE, CommonLimits, ServerLimits
from dl_inference.serving.settings import ModelFolderError, read_model_settings
from tf_predict.config import ModelSettings as SavedModelSettings
from tf_predict.server import limit_options
from torch_predict.config import ModelSettings

LIMIT = "DL_INFERENCE_LIMITS__"


def read(tmp_path: Path, yaml: str = "", settings=ModelSettings, flags=None, **environment: str):
    (tmp_path / "model.yaml").write_text(yaml)
    return read_model_settings(tmp_path / "model.yaml", settings, Given(environment, flags or {}))


def test_a_flag_wins_over_a_variable_that_over_the_file_and_that_over_the_default(tmp_path: Path):
    yaml = "limits: {max_streams: 2, max_in_flight: 2, max_connections: 2}\nmax_queue: 2\nmax_batch: 2\ntimeout_ms: 2"
    variables = {f"{LIMIT}MAX_STREAMS": "3", f"{LIMIT}MAX_IN_FLIGHT": "3", "DL_INFERENCE_MAX_BATCH": "3"}
    variables |= {"DL_INFERENCE_TIMEOUT_MS": "3"}
    found = read(tmp_path, yaml, flags={"max_streams": "4", "timeout_ms": "4"}, **variables)
    assert (found.limits.max_streams, found.limits.max_in_flight, found.limits.max_connections) == (4, 3, 2)
    assert (found.timeout_ms, found.max_batch, found.max_queue) == (4, 3, 2)
    assert found.limits.max_message_bytes == 64 << 20
    assert found.stream_idle_timeout_ms == 300_000


@pytest.mark.parametrize(
    ("yaml", "flags", "variables", "said"),
    [
        (
            "limits: {max_mesage_bytes: 1}",
            {},
            {},
            "limits.max_mesage_bytes: is not a known key; did you mean 'max_m",
        ),
        ("limits: {max_message_bytes: 1}", {}, {}, "limits.max_message_bytes: Input should be greater than or equal"),
        ("limits: {keepalive_ms: 1}", {}, {}, "limits.keepalive_ms: keepalive_ms is the access service's"),
        ("limits: {max_streams: true}", {}, {}, "limits.max_streams: a limit is a whole number, not true or false"),
        ("limits: {tcp_user_timeout_ms: off}", {}, {}, "limits.tcp_user_timeout_ms: a limit is a whole number, not"),
        ("limits: 3", {}, {f"{LIMIT}MAX_STREAMS": "1"}, "model.yaml:1: limits: "),
        ("", {"max_stream": "5"}, {}, "--limit max_stream=5: is not a known key; did you mean 'max_streams'?"),
        ("", {"max_streams": "many"}, {}, "--limit max_streams=many: Input should be a valid integer"),
        (
            "",
            {},
            {f"{LIMIT}MAX_STREAM": "5"},
            f"environment {LIMIT}MAX_STREAM: is not a known key; did you mean",
        ),
        ("", {}, {f"{LIMIT}MAX_STREAMS": "0"}, f"{LIMIT}MAX_STREAMS=0: Input should be greater than or equal to 1"),
        (
            "limits: {cors_origins: [example.com]}",
            {},
            {},
            "'example.com' is not an origin: write it as browsers send it",
        ),
        ("", {"cors_origins": "https://a.example/"}, {}, "'https://a.example/' is not an origin"),
        ("", {"cors_origins": "https://A.example"}, {}, "'https://A.example' is not an origin"),
        ("", {}, {"DL_INFERENCE_MAX_QUEUE": "x"}, "DL_INFERENCE_MAX_QUEUE=x: Input should be a valid integer"),
    ],
)
def test_a_limit_that_is_none_is_named_with_its_place(tmp_path: Path, *, yaml, flags, variables, said):
    with pytest.raises(ModelFolderError) as caught:
        read(tmp_path, yaml, flags=flags, **variables)
    assert said in str(caught.value)


def test_origins_are_a_list_in_a_file_and_have_commas_elsewhere(tmp_path: Path):
    origins = ("https://a.example", "http://localhost:3000", "http://[::1]:80")
    yaml = "limits: {cors_origins: ['https://a.example', 'http://localhost:3000', 'http://[::1]:80']}"
    assert read(tmp_path, yaml).limits.cors_origins == origins
    assert read(tmp_path, flags={"cors_origins": ", ".join(origins)}).limits.cors_origins == origins
    assert read(tmp_path, **{f"{LIMIT}CORS_ORIGINS": "*"}).limits.cors_origins == ("*",)
    assert read(tmp_path).limits.cors_origins == ()
    variables = {f"{LIMIT}CORS_ORIGINS": "https://a.example"}
    assert load_without_file({}, flags={}, environment=variables).config.limits.cors_origins == origins[:1]
    # As `predict` gives the limits of a folder to the port in front of it.
    given = {"limits": {"cors_origins": origins}}
    assert load_without_file({}, flags=given, environment={}).config.limits.cors_origins == origins


def test_check_says_what_is_wrong_with_limits(tmp_path: Path, monkeypatch):
    (tmp_path / "saved_model.pb").touch()
    (tmp_path / "model.yaml").write_text("limits: {max_streams: 0}")
    monkeypatch.setenv(f"{LIMIT}MAX_STREAM", "5")
    result = CliRunner().invoke(cli.app, ["check", str(tmp_path)])
    assert result.exit_code == 1
    assert "limits.max_streams: Input should be greater" in result.output
    assert f"environment {LIMIT}MAX_STREAM: is not a known key" in result.output


def test_a_flag_that_is_no_pair_is_named():
    result = CliRunner().invoke(cli.app, ["predict", "m", "--limit", "max_streams"])
    assert result.exit_code == 2
    assert "max_streams is not NAME=VALUE" in result.output


def test_a_variable_that_another_program_of_the_machine_knows_is_passed_over(tmp_path: Path):
    variables = {f"{LIMIT}{name.upper()}": "nonsense" for name in OF_THE_ACCESS_SERVICE}
    assert read(tmp_path, **variables).limits == ServerLimits()
    assert read(tmp_path, settings=SavedModelSettings, **variables, **{f"{LIMIT}FRAME_CREDIT": "5"})


def test_limits_in_one_variable_are_the_access_services(tmp_path: Path):
    """It reads them; under `serve` the model processes have the same environment, and pass them over."""
    variable = {"DL_INFERENCE_LIMITS": "{max_streams: 7}"}
    assert load_without_file({}, flags={}, environment=variable).config.limits.max_streams == 7
    assert read(tmp_path, **variable).limits == ServerLimits()


def test_whatever_the_access_service_takes_a_model_server_takes(tmp_path: Path):
    """`serve` and its processes read the same variables."""
    assert {*ServerLimits.model_fields, *OF_THE_ACCESS_SERVICE} == set(AccessLimits.model_fields)
    for name, field in ServerLimits.model_fields.items():
        assert field.metadata == AccessLimits.model_fields[name].metadata, name


def test_every_limit_says_what_it_is_and_has_a_default_in_range():
    assert [name for name, field in ServerLimits.model_fields.items() if not field.description] == []
    assert ServerLimits.model_validate(ServerLimits().model_dump()) == ServerLimits()


def test_a_client_takes_by_default_what_the_servers_take():
    for client in (Client, AsyncClient):
        default = inspect.signature(client).parameters["max_message_bytes"].default
        assert default == ServerLimits().max_message_bytes == CommonLimits().max_message_bytes


# --- the TensorFlow server


def test_the_tensorflow_server_refuses_in_model_yaml_what_it_does_not_have(tmp_path: Path):
    with pytest.raises(ModelFolderError, match=r"limits\.frame_credit: this server has no frame_credit"):
        read(tmp_path, "limits: {frame_credit: 5}", settings=SavedModelSettings)


def test_grpcio_is_told_the_limits_that_were_given_and_those_of_messages_always(tmp_path: Path):
    always = {"grpc.max_receive_message_length", "grpc.max_send_message_length", "grpc.max_metadata_size"}
    assert dict(limit_options(CommonLimits())).keys() == always
    limits = read(tmp_path, "limits: {max_message_bytes: 2048, max_streams: 5}", settings=SavedModelSettings).limits
    told = dict(limit_options(limits))
    assert told["grpc.max_receive_message_length"] == told["grpc.max_send_message_length"] == 2048
    assert told["grpc.max_concurrent_streams"] == 5
    everything = dict(limit_options(CommonLimits.model_validate(CommonLimits().model_dump())))
    assert len(everything) == len(CommonLimits.model_fields) + 1
