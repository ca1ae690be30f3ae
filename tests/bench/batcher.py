"""The batcher that tunes itself against fixed sizes and delays, on real models behind the real server.

`make bench-batcher` calls it. For each model one server tunes itself, and one runs each pair of `max_rows` and
`max_delay_ms`; all get the same calls, in turn. What counts is the share of the calls that are answered within their
deadline. Writes results/batcher.json and .png.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench import machine
from bench.batcher_plot import draw
from bench.measure import TARGET, Shape, Work, h2load
from bench.model_contenders import Server, ours
from bench.model_messages import SELDON
from bench.models import WARM_UP_CALLS, made_models
from bench.payloads import framed

RESULTS = Path(__file__).parent / "results"
LEARNT = "learnt"
PAIRS = [(1, 0), *((rows, delay) for rows in (8, 64) for delay in (0, 5))]
"""(max_rows, max_delay_ms)."""
FULL = Shape("64 at once", 4, 16)
# Parts of what a closed loop got: an open one costs its generator more, on cores that it shares with the server.
STEADY_LOAD, BURST_LOAD, BURST = 0.5, 0.5, 48
# The CNN answers some hundred calls a second: its traces take so many times longer.
SLOW_TIMES = 2
# Shorter ones are missed by what else the machine does.
LEAST_DEADLINE_MS = 20.0
# Waiting for one batch and being in the next takes two.
DEADLINE_BATCHES = 3


@dataclass(frozen=True)
class Trace:
    """Calls to come: when each is due, s, and how long its caller waits, ms."""

    name: str
    due: list[float]
    deadline_ms: float


def steady(capacity: float, seconds: float, seed: int) -> Trace:
    """Return calls that come by themselves, at a part of what a server can do."""
    rng, due, now = random.Random(seed), [], 0.0
    while (now := now + rng.expovariate(STEADY_LOAD * capacity)) < seconds:
        due.append(now)
    return Trace("steady", due, deadline_ms(capacity))


def bursts(capacity: float, seconds: float, seed: int) -> Trace:
    """Return calls that come many at once, and none between."""
    rng, due, begins = random.Random(seed), [], 0.0
    while begins < seconds:
        due += sorted(begins + rng.random() * 0.3 * BURST / capacity for _ in range(BURST))
        begins += BURST / (BURST_LOAD * capacity)
    return Trace("bursts", due, deadline_ms(capacity))


def deadline_ms(capacity: float) -> float:
    """Return how long callers wait for a server that answers so many calls a second."""
    return max(LEAST_DEADLINE_MS, DEADLINE_BATCHES * FULL.connections * FULL.streams / capacity * 1000)


def verdict(shares: Mapping[str, float]) -> dict[str, float]:
    """Return how the learnt batches do beside the best and the median pair; shares are of the calls in time."""
    fixed = [share for name, share in shares.items() if name != LEARNT]
    best, median = max(fixed), statistics.median(fixed)
    return {"of_best": shares[LEARNT] / max(best, 1e-9), "of_median": shares[LEARNT] / max(median, 1e-9)}


def main() -> None:
    """Measure as the command line says, write the results, print them."""
    options = _options()
    facts = machine.describe()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        made = made_models(Path(name) / "models")
        for workload in options.only.split(","):
            results += _measure(Path(name), workload, options)
    arguments = " ".join(sys.argv[1:])
    result = {
        "what": "calls answered within their deadline, by one process on one torch thread; load on the same machine",
        "command": f'make bench-batcher BENCH_ARGS="{arguments}"' if arguments else "make bench-batcher",
        **facts,
        **made,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "results": results,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / ("batcher-quick.json" if options.quick else "batcher.json")
    path.write_text(json.dumps(result, indent=1) + "\n")
    draw(result, path.with_suffix(".png"))
    for each in results:
        words = f"{each['of_best']:.3f} of the best pair, {each['of_median']:.2f} of the median one"
        print(f"{each['workload']:4} {each['trace']:7} {each['shares'][LEARNT]:.3f} in time: {words}")
    print(f"\nwritten: {path} and .png")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.5, help="of each trace")
    parser.add_argument("--only", default="mlp,cnn", help="models, with commas between")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s, into batcher-quick.*")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    return options


def _measure(folder: Path, workload: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one model on every trace."""
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name, settings in _settings().items():
            own = folder / name / workload
            shutil.copytree(folder / "models" / workload, own)
            (own / "model.yaml").write_text(json.dumps({"batching": settings}))
            servers[name] = ours(own)
            stack.callback(servers[name].process.kill)
        for name, server in servers.items():
            server.check(folder / name / workload)
        work = _work(folder, workload)
        seconds = options.seconds * (SLOW_TIMES if workload == "cnn" else 1)
        # The first calls teach the one that tunes itself, and say how many the others may be.
        rate = h2load(servers[LEARNT].address, work, FULL, 60, WARM_UP_CALLS)["rps"]
        calls = max(WARM_UP_CALLS, int(rate * seconds) // 64 * 64)
        capacity = h2load(servers[LEARNT].address, work, FULL, 60, calls)["rps"]
        found: dict[str, dict[str, Any]] = {}
        for seed in range(options.rounds):
            for make in (steady, bursts):
                trace = make(capacity, seconds, seed)
                row = found.setdefault(trace.name, {"deadline_ms": trace.deadline_ms, "each": {}})
                for name, server in servers.items():
                    row["each"].setdefault(name, []).append(_in_time(server, work, trace, folder / "arrivals"))
    rows = []
    for trace_name, row in found.items():
        shares = {name: statistics.fmean(each) for name, each in row["each"].items()}
        figures = {"shares": shares, **verdict(shares), **row}
        rows.append({"workload": workload, "trace": trace_name, "capacity": capacity, **figures})
    return rows


def _settings() -> dict[str, dict[str, int]]:
    pairs = {f"{rows} rows, {delay} ms": {"max_rows": rows, "max_delay_ms": delay} for rows, delay in PAIRS}
    return {LEARNT: {}, **pairs}


def _in_time(server: Server, work: Work, trace: Trace, file: Path) -> float:
    """Send a trace's calls; return the share of them that were answered in time."""
    file.write_text("".join(f"{due * 1e6:.0f} 0\n" for due in trace.due))
    command = [str(TARGET / "load"), server.address, "--path", work.path, "--body", str(work.message)]
    command += ["--arrivals", str(file), "--deadline-ms", f"{trace.deadline_ms:.3f}", "--connections", "4"]
    limit_s = trace.due[-1] + 60
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=limit_s, stdin=subprocess.DEVNULL
    )
    report = json.loads(done.stdout.splitlines()[-1])
    return float(report["ok"] / report["calls"])


def _work(folder: Path, workload: str) -> Work:
    known = json.loads((folder / "models" / workload / "known.json").read_text())
    message = SELDON.write(np.array(known[0]["x"]))
    paths = [folder / f"{workload}-{name}" for name in ("message", "body", "log")]
    paths[0].write_bytes(message)
    paths[1].write_bytes(framed(message))
    return Work(SELDON.path, *paths, SELDON.content_type)


if __name__ == "__main__":
    main()
