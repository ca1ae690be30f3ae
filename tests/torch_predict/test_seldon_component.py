from __future__ import annotations

import numpy as np
import pytest
import torch

import torch_predict
from torch_predict import metrics
from torch_predict.errors import InvalidInput
from torch_predict.seldon_component import HookFailed, SeldonComponent

PROCESSOR = """
import torch, torch_predict
calls = []
def preprocess(x, **kwargs):
    calls.append(x)
    if isinstance(x, str): raise TypeError(x)
    if isinstance(x, bytes): raise torch_predict.InvalidInput("bytes")
    if isinstance(x, dict):
        request = torch_predict.request()
        return {"id": request.id, "parameters": request.parameters, "left": request.deadline_s,
                "inputs": request.inputs, "settings": dict(torch_predict.settings()), "weight": WEIGHT}
    x += 1
    return torch.from_numpy(x).float()
WEIGHT = []
def initialise(model): WEIGHT[:] = model.weight.tolist()
def run_model(model, x): return x if isinstance(x, dict) else model(x)
def postprocess(x): return x.numpy() if isinstance(x, torch.Tensor) else x
@torch_predict.method
def plain(model, x): return model(torch.tensor(x).float())
"""


@pytest.fixture
def component(write):
    folder = write({"processor.py": PROCESSOR, "model.py": "import torch\nModel = lambda: torch.nn.Linear(2, 1)\n"})
    torch.save({"weight": torch.tensor([[1.0, 10.0]]), "bias": torch.zeros(1)}, folder / "model.pt")
    component = SeldonComponent(str(folder))
    component.load()
    return component


def test_hooks_may_write_into_the_wrappers_read_only_arrays(component):
    x = np.frombuffer(np.array([[1.0, 2.0]]).tobytes()).reshape(1, 2)
    assert component.predict(x, [], meta={}).tolist() == [[32.0]]


def test_a_type_error_of_a_hook_is_none_for_the_wrapper(component):
    with pytest.raises(HookFailed, match="the model failed on this request"):
        component.predict("secret", [], meta={})


def test_invalid_input_keeps_its_words(component):
    with pytest.raises(InvalidInput, match="bytes"):
        component.predict(b"", [])


def test_only_a_model_folder_that_names_classes_has_class_names(component, write):
    assert not hasattr(component, "class_names")
    write({"model.yaml": "class_names: [a, b]"})
    component.load()
    assert component.class_names == ["a", "b"]


def test_hooks_get_settings_request_and_model_as_under_our_server(component, write):
    write({"model.yaml": "settings: {a: 1}"})
    component.load()
    found = component.predict({}, [], meta={"puid": "7", "tags": {"b": 2.0}})
    assert found == {
        "id": "7",
        "parameters": {"b": 2.0},
        "left": None,
        "inputs": {},
        "settings": {"a": 1},
        "weight": [[1.0, 10.0]],
    }
    with pytest.raises(RuntimeError, match="there is no request"):
        torch_predict.request()


def test_a_method_is_addressed_by_its_tag_under_the_wrapper_too(component):
    x = np.ones((1, 2))
    assert component.predict(x, [], meta={"tags": {"method": "plain"}}).tolist() == [[11.0]]
    with pytest.raises(InvalidInput, match="name one of plain"):
        component.predict(x, [], meta={"tags": {"method": "other"}})


def test_metrics_are_told_as_the_wrapper_adds_them_up(component, monkeypatch):
    monkeypatch.setattr(metrics, "_metrics", {})
    cats, length = metrics.counter("cats", "x", ["size"]), metrics.gauge("length", "x")
    metrics.histogram("no_form", "x", [1]).observe(1)
    cats.inc(2, size="big")
    length.set(7)
    assert component.metrics() == [
        {"type": "COUNTER", "key": "model_cats", "value": 2, "tags": {"size": "big"}},
        {"type": "GAUGE", "key": "model_length", "value": 7, "tags": {}},
    ]
    assert component.metrics() == []
    cats.inc(3, size="big")
    cats.inc(size="small")
    assert component.metrics() == [
        {"type": "COUNTER", "key": "model_cats", "value": 3, "tags": {"size": "big"}},
        {"type": "COUNTER", "key": "model_cats", "value": 1, "tags": {"size": "small"}},
    ]
