from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import torch_predict
from torch_predict.config import Limits, ModelSettings, ServerSettings
from torch_predict.signature import Signature, TensorSpec

CONFIG_RS = Path(torch_predict.__file__).parents[1] / "dataplane/crates/core/src/config.rs"


def rust_fields(struct):
    body = re.search(rf"pub struct {struct} \{{(.*?)\n\}}", CONFIG_RS.read_text(), re.S)[1]
    return set(re.findall(r"pub (\w+):", body))


def worker_document():
    settings = ModelSettings(versions=[2, 3], labels={"stable": 2, "new": 3}, aliases=["39"], timeout_ms=3)
    metadata = Signature(None, (TensorSpec("x", "float32", (-1, 4)),))
    return json.loads(
        ServerSettings().worker_json(
            listen=["a"], admin=None, model="m", version=2, settings=settings, platform="p", metadata=metadata
        )
    )


def test_the_front_gets_exactly_the_fields_that_it_requires():
    assert set(worker_document()) == rust_fields("WorkerConfig")
    assert set(worker_document()["limits"]) == rust_fields("Limits")
    assert worker_document()["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, 4]}]
    assert set(worker_document()["inputs"][0]) == rust_fields("TensorConfig")


def test_the_front_gets_the_labels_of_its_own_version():
    assert (worker_document()["labels"], worker_document()["aliases"]) == (["stable"], ["39"])


@pytest.mark.parametrize("model", [Limits, ModelSettings, ServerSettings])
def test_every_setting_is_documented(model):
    assert [n for n, f in model.model_fields.items() if not f.description and n != "limits"] == []


def test_settings_come_from_the_environment():
    settings = ServerSettings.from_environment({"DL_INFERENCE_TORCH_THREADS": "3", "OTHER": "x"})
    assert settings.torch_threads == 3
    assert ServerSettings.from_environment({}).torch_threads >= 1


def test_a_wrong_variable_is_named():
    with pytest.raises(ValueError, match="DL_INFERENCE_MAX_QUEUE=0: Input should be greater than 0"):
        ServerSettings.from_environment({"DL_INFERENCE_MAX_QUEUE": "0"})
