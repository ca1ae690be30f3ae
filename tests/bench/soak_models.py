"""The models and requests of ``bench.soak``: folders that change, and calls of several sizes, wrong ones, slow ones."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from bench.model_messages import SELDON
from safetensors.numpy import save_file

from dl_inference.messages import SeldonMessage

MODELS = ("first", "second")
WIDTH = 64
MODEL = f"""
import torch


def Model() -> torch.nn.Module:
    return torch.nn.Linear({WIDTH}, 2)
"""
PROCESSOR = f"""
import time

import torch_predict


def preprocess(x, **kwargs):
    if x.ndim != 2 or x.shape[1] != {WIDTH}:
        raise torch_predict.InvalidInput(f"send rows of {WIDTH} numbers, not {{list(x.shape)}}")
    time.sleep(kwargs["meta"].get("tags", {{}}).get("seconds", 0))
    return x


def postprocess(x, **kwargs):
    return x.numpy()
"""
# Calls/s, rows and the caller's deadline; the names begin with what is expected (soak_verdict.RIGHT_CODES).
CLASSES = {
    "good-small": (60.0, 1, 30_000),
    "good-medium": (10.0, 64, 30_000),
    "good-large": (1.0, 2048, 30_000),
    "wrong": (5.0, 1, 30_000),
    "given up": (2.0, 1, 10),
}
# How long a call computes that its caller gives up.
GIVEN_UP_S = 0.03


def write_model(folder: Path, variant: int) -> None:
    """Write a model that answers [sum of the row, variant]."""
    folder.mkdir(parents=True)
    weights = np.zeros((2, WIDTH), np.float32)
    weights[0] = 1
    save_file({"weight": weights, "bias": np.float32([0, variant])}, folder / "model.safetensors")
    (folder / "model.py").write_text(MODEL.lstrip())
    (folder / "processor.py").write_text(PROCESSOR.lstrip())


def options(folder: Path, seconds: float) -> list[str]:
    """Write the bodies and arrivals of a run; return the options of `load`."""
    bodies = {}
    for name, (_, rows, _) in CLASSES.items():
        x = np.ones((rows, WIDTH - 1 if name == "wrong" else WIDTH))
        message = SeldonMessage.FromString(SELDON.write(x))
        if name == "given up":
            message.meta.tags["seconds"].number_value = GIVEN_UP_S
        bodies[name] = folder / f"body {name}"
        bodies[name].write_bytes(message.SerializeToString())
    random_times = random.Random(1)
    found, due = [], []
    for name, (rate, _, deadline_ms) in CLASSES.items():
        for model in MODELS:
            label = f"{name}-{model}"
            found += ["--class", f"{label},x-model={model},body={bodies[name]},deadline-ms={deadline_ms}"]
            at = random_times.expovariate(rate)
            while at < seconds:
                due.append((at, len(found) // 2 - 1))
                at += random_times.expovariate(rate)
    arrivals = folder / "arrivals"
    arrivals.write_text("".join(f"{at * 1e6:.0f} {number}\n" for at, number in sorted(due)))
    return ["--path", SELDON.path, "--body", str(bodies["good-small"]), "--arrivals", str(arrivals), *found]
