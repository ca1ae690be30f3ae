from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import torch_predict
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.settings import ModelFolderError, read_model_settings
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
    return json.loads(worker_config(options, folder, version, metadata, joins=True).model_dump_json())


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
