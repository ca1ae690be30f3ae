"""The access service's settings beside those of the model servers."""

import pytest

from access.errors import ConfigError
from dl_inference.commands import access_settings
from dl_inference.serving.given import numbers_of
from tf_predict.config import ModelSettings as TensorFlowModel
from tf_predict.config import ServerSettings as TensorFlowSettings
from torch_predict.config import ModelSettings as TorchModel
from torch_predict.config import ServerSettings as TorchSettings

SMALL = "models: {m: {endpoints: [a:1]}}\n"


@pytest.mark.parametrize(
    "name",
    [
        "DL_INFERENCE_TORCH_THREADS",
        "DL_INFERENCE_TORCH_DEVICE",
        "DL_INFERENCE_TENSORFLOW_THREADS",
        "DL_INFERENCE_MAX_QUEUE",
        "DL_INFERENCE_MAX_BATCH",
        "DL_INFERENCE_STREAM_IDLE_TIMEOUT_MS",
    ],
)
def test_the_model_servers_variables_are_theirs(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    (tmp_path / "access.yaml").write_text(SMALL)
    assert list(access_settings.read(tmp_path / "access.yaml").config.models) == ["m"]
    assert access_settings.read_without_file({"workers": 3}, {}).config.workers == 3


def test_every_variable_of_a_model_server_is_known():
    numbers = {*numbers_of(TorchModel), *numbers_of(TensorFlowModel)}
    assert numbers >= {"max_queue", "max_batch", "timeout_ms"}
    for name in {*TorchSettings.model_fields, *TensorFlowSettings.model_fields, *numbers}:
        assert access_settings.is_of_a_model_server(f"DL_INFERENCE_{name.upper()}")


def test_flags_are_read(tmp_path):
    (tmp_path / "access.yaml").write_text(SMALL)
    assert access_settings.read(tmp_path / "access.yaml", {"listen": ["a:1"]}).config.listen == ("a:1",)
    assert access_settings.read_without_file({}, {"listen": ["a:1"]}).config.listen == ("a:1",)


def test_a_variable_that_nobody_reads_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_INFERENCE_TORCH_THREAD", "1")
    (tmp_path / "access.yaml").write_text(SMALL)
    with pytest.raises(ConfigError, match="there is no 'torch_thread'"):
        access_settings.read(tmp_path / "access.yaml")
    with pytest.raises(ConfigError, match="there is no 'torch_thread'"):
        access_settings.read_without_file({}, {})
