"""Torch in this process, without a server: ``python in_process.py FOLDER SECONDS [CORE]``. Prints a line of JSON.

For each batch size: µs of wall time and of CPU for a call of the model alone, medians. With CORE it runs on that one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from bench.model_peers.hooks import Model

SIZES = (1, 2, 4, 8, 16, 32, 64)
MIN_CALLS = 5


def measure(model: Model, x: np.ndarray, seconds: float) -> dict[str, float]:
    """Call the model for some seconds."""
    walls, calls = [], 0
    model.run(x)
    begin, cpu = time.perf_counter(), time.process_time()
    while calls < MIN_CALLS or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        model.run(x)
        walls.append(time.perf_counter() - start)
        calls += 1
    used, lasted = time.process_time() - cpu, time.perf_counter() - begin
    p50, p99 = np.percentile(walls, [50, 99]) * 1e6
    return {
        "p50_us": p50,
        "p99_us": p99,
        "cpu_us": used / calls * 1e6,
        "calls_s": calls / lasted,
    }


def main(folder: Path, seconds: float, core: str = "") -> None:
    """Measure every size."""
    if core:
        os.sched_setaffinity(0, {int(core)})
    model = Model(folder)
    row = np.array(json.loads((folder / "known.json").read_text())[0]["x"])
    found = {size: measure(model, np.repeat(row, size, axis=0), seconds / len(SIZES)) for size in SIZES}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:])
