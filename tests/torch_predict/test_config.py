from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

import torch_predict
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.settings import ModelFolderError, read_model_settings
from torch_predict import repository, summary
from torch_predict.config import ModelSettings, ServerSettings
from torch_predict.front import worker_config
from torch_predict.repository import ModelFolder, Version
from torch_predict.runtimes import RUNTIMES
from torch_predict.signature import Signature, TensorSpec

CONFIG_RS = Path(torch_predict.__file__).parents[1] / "dataplane/crates/core/src/config.rs"


def rust_fields(struct):
    body = re.search(rf"pub struct {struct} \{{(.*?)\n\}}", CONFIG_RS.read_text(), re.S)[1]
    return set(re.findall(r"pub (\w+):", body))


def rust_type(struct, field):
    return re.search(rf"pub struct {struct} \{{.*?pub {field}: (\w+),", CONFIG_RS.read_text(), re.S)[1]


def worker_document():
    settings = ModelSettings(versions=[2, 3], labels={"stable": 2, "new": 3}, aliases=["39"], timeout_ms=3, max_batch=4)
    metadata = Signature(None, (TensorSpec("x", "float32", (-1, 4)),))
    version = Version(2, Path("m/2"), Path("m/2/model.pt"), RUNTIMES[0])
    folder = ModelFolder("m", Path("m"), settings, (version,))
    options = ServeOptions(model_dir=Path("m"), listen=("a",))
    return json.loads(worker_config(options, folder, version, metadata, joined="shapes").model_dump_json())


def test_the_front_gets_exactly_the_fields_that_it_requires():
    assert set(worker_document()) == rust_fields("WorkerConfig")
    assert set(worker_document()["limits"]) == rust_fields(rust_type("WorkerConfig", "limits"))
    assert worker_document()["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, 4]}]
    assert set(worker_document()["inputs"][0]) == rust_fields("TensorConfig")


def test_the_front_gets_what_model_yaml_says_of_the_version_that_it_serves():
    assert (worker_document()["labels"], worker_document()["aliases"]) == (["stable"], ["39"])
    assert (worker_document()["timeout_ms"], worker_document()["max_batch"]) == (3, 4)


@pytest.mark.parametrize("model", [ModelSettings, ServerSettings])
def test_every_setting_is_documented(model):
    assert [n for n, f in model.model_fields.items() if not f.description] == []


def test_settings_come_from_the_environment():
    settings = ServerSettings.from_environment({"DL_INFERENCE_TORCH_THREADS": "3", "OTHER": "x"})
    assert settings.torch_threads == 3
    assert ServerSettings.from_environment({}).torch_threads >= 1


def test_a_wrong_variable_is_named():
    with pytest.raises(ValueError, match="DL_INFERENCE_TORCH_THREADS=0: Input should be greater than 0"):
        ServerSettings.from_environment({"DL_INFERENCE_TORCH_THREADS": "0"})


def test_settings_for_hooks_may_be_whatever_json_can_hold(tmp_path):
    (tmp_path / "model.yaml").write_text("settings: {a: true, b: [1, 2.5, null], c: {d: text}}\n")
    found = read_model_settings(tmp_path / "model.yaml", ModelSettings).settings
    assert found == {"a": True, "b": [1, 2.5, None], "c": {"d": "text"}}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{since: 2024-01-01}", "model.yaml:1: settings.since"),
        ("{a: {1: x}}", "settings.a"),
        ("[a]", "should be a valid dictionary"),
        ("&a {b: *a}", "cyclic reference detected"),
    ],
)
def test_settings_for_hooks_that_json_cannot_hold_are_refused_with_their_place(tmp_path, settings, words):
    (tmp_path / "model.yaml").write_text(f"settings: {settings}\n")
    with pytest.raises(ModelFolderError, match=words):
        read_model_settings(tmp_path / "model.yaml", ModelSettings)


def test_each_process_gets_the_next_device_of_the_list():
    several = ModelSettings(device=["cuda:0", "cuda:1", "cpu"])
    assert [several.device_of(instance) for instance in range(5)] == ["cuda:0", "cuda:1", "cpu", "cuda:0", "cuda:1"]
    assert ModelSettings(device="cuda").device_of(7) == "cuda"
    assert ModelSettings().device_of(1) == "auto"


@pytest.mark.parametrize("wrong", ["", "GPU 0", "cuda:", [], ["cpu", "1"], 0, True])
def test_what_cannot_be_a_device_is_refused(wrong):
    with pytest.raises(ValueError, match="device"):
        ModelSettings(device=wrong)


@pytest.mark.parametrize("wrong", [0, 65, True])
def test_instances_are_bounded(wrong):
    with pytest.raises(ValueError, match="instances"):
        ModelSettings(instances=wrong)


def test_a_variable_wins_over_model_yaml_and_that_over_the_default():
    said = ServerSettings.from_environment({"DL_INFERENCE_TORCH_DEVICE": "cpu"})
    completed = said.completed(torch_device="cuda:1", torch_threads=3)
    assert (completed.torch_device, completed.torch_threads) == ("cpu", 3)
    assert said.completed(torch_threads=None).torch_threads == said.torch_threads


def test_a_process_hangs_after_ten_deadlines_unless_model_yaml_says_otherwise():
    assert ModelSettings(timeout_ms=500).hang_ms() == 5000
    assert ModelSettings(timeout_ms=500, hang_timeout_ms=7).hang_ms() == 7
    assert ModelSettings(hang_timeout_ms=0).hang_ms() == 0


def test_check_shows_processes_devices_and_interpreter(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    yaml = f"{{instances: 3, device: ['cuda:0', 'cuda:1'], python: {sys.executable}}}"
    (tmp_path / "model.yaml").write_text(yaml)
    shown = summary.of(repository.find(tmp_path))
    assert (shown["instances"], shown["device"], shown["python"]) == ("3", "cuda:0, cuda:1", sys.executable)


def test_memory_is_given_as_people_write_it():
    assert ModelSettings(max_memory="1.5GiB").max_memory == 1536 * 2**20
    for wrong in ("2 apples", "5B", True):
        with pytest.raises(ValueError, match="max_memory"):
            ModelSettings(max_memory=wrong)
