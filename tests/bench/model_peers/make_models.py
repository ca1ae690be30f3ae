"""Writes the model folders of ``bench.models``: ``python make_models.py OUT``, with torch. Prints what it made as JSON.

Every folder has processor.py, model.pt2 and known.json (some requests with their answers). ``echo`` has a model only
because our server wants one: its hook never calls it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from bench.model_peers.hooks import Model

ROW = {"echo": (64,), "mlp": (64,), "cnn": (1, 32, 32)}
KNOWN_REQUESTS = 8
CNN_MS = 5.0
# Smaller steps than this differ by less than a busy machine's noise.
CHANNEL_STEP = 8

ECHO = """
def run_model(model, x, **kwargs):
    return x
"""
HOOKS = """
def preprocess(x, **kwargs):
    return x / 16


def postprocess(x, **kwargs):
    return 100 * x.numpy()
"""


def joined(hooks: str) -> str:
    """Return the same hooks, for whole batches of our server."""
    return "import torch_predict\n\n\n" + hooks.replace("def ", "@torch_predict.joined\ndef ")


def perceptron() -> torch.nn.Module:
    """Return the MLP 64-256-64-2."""
    layers = [torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(64, 2))


def convolutions(channels: int) -> torch.nn.Module:
    """Return a small CNN for rows of [1, 32, 32]."""
    layers = [torch.nn.Conv2d(1, channels, 3, padding=1), torch.nn.ReLU()]
    for _ in range(2):
        layers += [torch.nn.Conv2d(channels, channels, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(channels * 64, 10))


def calibrated() -> int:
    """Return the channels at which a row takes about CNN_MS of CPU here, on one thread."""
    channels = CHANNEL_STEP
    while (taken := _row_ms(convolutions(channels))) < CNN_MS:
        # Time grows with their square; half of the way, for it does not so where the caches end.
        channels += max(CHANNEL_STEP, int(channels * ((CNN_MS / taken) ** 0.5 - 1) / 2) // CHANNEL_STEP * CHANNEL_STEP)
    return channels


def _row_ms(model: torch.nn.Module) -> float:
    x = torch.zeros(1, *ROW["cnn"])
    taken = []
    with torch.inference_mode():
        for _ in range(20):
            begin = time.process_time()  # the same where others use the machine, too
            model(x)
            taken.append(time.process_time() - begin)
    return float(np.median(taken)) * 1000


def write(folder: Path, workload: str, model: torch.nn.Module, hooks: str) -> None:
    """Write one folder."""
    folder.mkdir(parents=True)
    examples = (torch.zeros(2, *ROW[workload]),)  # two rows: export takes a size of 1 for a constant
    rows = torch.export.Dim("rows", min=1, max=4096)
    torch.export.save(torch.export.export(model.eval(), examples, dynamic_shapes=({0: rows},)), folder / "model.pt2")
    (folder / "processor.py").write_text(hooks)
    random = np.random.default_rng(1)
    requests = [random.normal(size=(1, *ROW[workload])) for _ in range(KNOWN_REQUESTS)]
    answering = Model(folder)
    known = [{"x": x.tolist(), "answer": answering.one(x).tolist()} for x in requests]
    (folder / "known.json").write_text(json.dumps(known))


def main(out: Path) -> None:
    """Write all folders, those of our batch hooks below ``batch``."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    channels = calibrated()
    models = {"echo": torch.nn.Identity(), "mlp": perceptron(), "cnn": convolutions(channels)}
    for workload, model in models.items():
        hooks = (ECHO if workload == "echo" else HOOKS).lstrip()
        write(out / workload, workload, model, hooks)
        write(out / "batch" / workload, workload, model, joined(hooks))
    print(json.dumps({"cnn_channels": channels, "torch": torch.__version__}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
