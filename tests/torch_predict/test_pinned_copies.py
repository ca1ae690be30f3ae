"""How inputs come to the device: to a GPU from pinned memory, to the CPU as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from torch_predict.calling import Model


def model_on(device: str) -> Model:
    return Model(lambda x: x, torch.device(device), None)


def test_what_stays_on_the_cpu_is_never_pinned(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pytest.fail("pinned"), raising=False)
    for array, dtype in ((np.ones(2), torch.float32), (np.ones(2, np.int64), torch.int64)):
        assert model_on("cpu")._tensor("x", array).dtype is dtype


def test_what_goes_to_a_gpu_is_cast_then_pinned_then_copied_without_waiting(monkeypatch):
    steps: list[Any] = []

    def to(tensor: torch.Tensor, *target: Any, **how: Any) -> torch.Tensor:
        steps.append((*target, how))
        return tensor

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: steps.append("pinned") or tensor, raising=False)
    model_on("cuda:0")._tensor("x", np.ones(2))
    assert steps == [(torch.float32, {}), "pinned", (torch.device("cuda:0"), {"non_blocking": True})]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gets_the_same_values():
    model = model_on("cuda")
    arrays = [np.random.default_rng(each).standard_normal((64, 1000)) for each in range(50)]
    for array, tensor in zip(arrays, [model._tensor("x", each) for each in arrays], strict=True):
        assert tensor.device.type == "cuda"
        np.testing.assert_array_equal(tensor.cpu().numpy(), array.astype(np.float32))
