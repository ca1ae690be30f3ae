"""Model folders and model servers for the tests of OIP."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import torch
from processes import Process

_SERVE = """
import sys
from pathlib import Path
from torch_predict.server import serve
sys.exit(serve(Path(sys.argv[1]), sys.argv[2:]))
"""

# What is asked for in the parameter "do"; else what came goes back.
_ECHO = """
    import time
    from pathlib import Path
    import numpy as np
    import torch_predict

    def preprocess(x, **kwargs):
        do = kwargs["meta"].get("tags", {}).get("do")
        if do == "raise":
            raise KeyError("password=1234")
        if do == "invalid":
            raise torch_predict.InvalidInput("send something else")
        if do == "meta":
            return dict(kwargs["meta"], type=type(x).__name__, dtype=str(getattr(x, "dtype", "")))
        if do == "text":
            return "text"
        if do == "slow":
            Path("slow").touch()
            while not Path("go").exists():
                time.sleep(0.01)
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            x += 0
        return x

    def run_model(model, x):
        return x
"""


def echo(folder: Path) -> Path:
    """Write a model whose hooks give back what they get."""
    folder.mkdir()
    (folder / "processor.py").write_text(textwrap.dedent(_ECHO))
    (folder / "model.py").write_text(
        "import torch\nclass Model(torch.nn.Linear):\n    def __init__(self): super().__init__(1, 1)\n"
    )
    torch.save(torch.nn.Linear(1, 1).state_dict(), folder / "model.pt")
    (folder / "model.yaml").write_text("aliases: ['39']\nlabels: {stable: 1}\n")
    return folder


def scores(folder: Path) -> Path:
    """Write a model without hooks: float32 [n, 4] -> [n, 3], with two samples."""
    folder.mkdir()
    (folder / "model.py").write_text(
        "import torch\nclass Model(torch.nn.Linear):\n    def __init__(self): super().__init__(4, 3)\n"
    )
    torch.manual_seed(4)
    torch.save(torch.nn.Linear(4, 3).state_dict(), folder / "model.pt")
    cases = [{"request": {"data": {"tensor": {"shape": [n, 4], "values": [0.5] * 4 * n}}}} for n in (1, 2)]
    (folder / "samples").mkdir()
    (folder / "samples" / "expected.json").write_text(json.dumps(cases))
    return folder


def start(folder: Path) -> Process:
    """Start a model server for a folder; `wait` tells its address. The caller kills it."""
    env = {"DL_INFERENCE_TORCH_THREADS": "1", "DL_INFERENCE_TORCH_DEVICE": "cpu"}
    return Process([sys.executable, "-c", _SERVE, folder, "127.0.0.1:0"], env=env)


def wait(process: Process) -> str:
    """Return the address of a started model server."""
    address: Any = process.wait_line(r"serving \S+ version 1 on (\S+)", timeout_s=120)[1]
    return str(address)
