"""The table of model servers: ours, seldon-core's wrapper, grpc.aio, mosec, LitServe, MLServer, and torch without any.

`make bench-models` calls it. Each runs the same hooks and model in one process that computes, on one torch thread, and
is loaded in its own protocol. A round measures each in turn: 64 calls at once, one at a time, and in an open loop at
80 % of what it took. CPU is that of all its processes per request. Writes results/models.json and .png.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bench import machine
from bench.measure import Shape, Work, fixed_rate, h2load, summaries
from bench.model_contenders import CONTENDERS, ENVIRONMENTS, ONE_THREAD, Server, lacking
from bench.model_goals import FULL, LONE, PART, PINNED, Key, Rounds, judge
from bench.model_plot import draw
from bench.model_table import table
from bench.payloads import framed
from bench.pinned import pinned
from bench.proc import cpu_seconds
from fixtures.processes import ROOT

RESULTS = Path(__file__).parent / "results"
WORKLOADS = ("echo", "mlp", "cnn")
# No server: the model called in a process of its own.
LIMIT = "torch"
# gRPC servers get 64 calls on 4 connections; HTTP/1.1 has no streams, so 64 connections.
FULL_GRPC, FULL_HTTP1 = Shape(FULL, 4, 16), Shape(FULL, 64, 1)
PART_OF_CAPACITY = 0.8
WARM_UP_CALLS = 256
MANY_CALLS = 20 * 64
# The CNN answers 64 calls in a third of a second: its measurements take so many times longer.
SLOW_TIMES = 4
BATCH_CALLS = 400
BATCHES = (1, 2, 4, 8, 16, 32, 64)
# A machine that stalls makes queues run full: such calls are counted and shown, and do not end a run of an hour.
LIMITS: dict[str, Any] = {"deadline_ms": 10_000, "may_fail": True}
MIN_IDLE_SHARE = 0.95
FAIRNESS = [
    "every server: one process that computes, one torch thread, the same processor.py and model.pt2",
    "ours, seldon, grpc.aio: SeldonMessage.tensor; mlserver: OIP raw; gRPC, 4 connections of 16 streams",
    "mosec: raw doubles; litserve: JSON; HTTP/1.1, which has no streams, 64 connections",
    "mosec, litserve, mlserver: batches of up to 64 requests, 1 ms of waiting (mosec's least)",
    "mlserver gives hooks the joined rows, as ours-batch does; all others one request each",
    "torch: the model alone in a process, without hooks; at 64 streams the best batch size up to 64",
]


@dataclass
class Run:
    """What one run works with, and what it has measured."""

    options: argparse.Namespace
    folder: Path
    rounds: Rounds = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)

    def keep(self, key: Key, figures: dict[str, float]) -> None:
        """Keep one measurement."""
        self.rounds.setdefault(key, []).append(figures)


def main() -> None:
    """Measure as the command line says, write the results, print the tables."""
    options = _options()
    # The programs that it has started end with it, also where a time limit ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    facts = machine.describe()
    if facts["idle_share"] < MIN_IDLE_SHARE:
        print(f"the machine is busy: only {facts['idle_share']:.0%} idle; figures will be too high", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        run = Run(options, Path(name))
        made = made_models(run.folder / "models")
        for workload in options.only:
            _measure(run, workload)
            # After each: what a later one breaks off would be lost.
            result = {**facts, **made, **_result(run)}
            path = _write(result, options)
            print(f"{workload} done", file=sys.stderr, flush=True)
    print(table(result))
    print(f"\nwritten: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path} and .png")


def made_models(folder: Path) -> dict[str, Any]:
    """Write the model folders; return what is to be told of them."""
    made: dict[str, Any] = json.loads(_program("make_models", folder))
    return made


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--only", default=",".join(WORKLOADS), help="workloads, with commas between")
    parser.add_argument("--contenders", help="with commas between; default: all whose environment is there")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s, into models-quick.*")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    known = [*CONTENDERS, LIMIT]
    options.only = options.only.split(",")
    is_named = options.contenders is not None
    options.contenders = options.contenders.split(",") if is_named else known
    for flag, names, allowed in (("only", options.only, WORKLOADS), ("contenders", options.contenders, known)):
        if wrong := [one for one in names if one not in allowed]:
            parser.error(f"--{flag}: {', '.join(wrong)} is not one of {', '.join(allowed)}")
    for reason in filter(None, [lacking(name) for name in options.contenders if name in ENVIRONMENTS]):
        if is_named:
            parser.error(reason)
        print(f"left out: {reason}", file=sys.stderr)
    options.contenders = [name for name in options.contenders if lacking(name) is None]
    return options


def _measure(run: Run, workload: str) -> None:
    """Start every contender on a workload, measure all rounds, stop them."""
    folder = run.folder / "models" / workload
    with ExitStack() as stack:
        servers = {}
        for name in [each for each in run.options.contenders if each != LIMIT]:
            servers[name] = CONTENDERS[name](folder)
            stack.callback(servers[name].process.kill)
        for server in servers.values():
            server.check(folder)
        run.servers |= servers
        for _ in range(run.options.rounds):
            for server in servers.values():
                _round(run, workload, server)
            if LIMIT in run.options.contenders and workload != "echo":
                _torch_alone(run, workload)
            if "ours" in servers:
                _batch_sizes(run, workload, servers["ours"])
            if "ours" in servers and workload == "cnn":
                _pinned(run, servers["ours"])


def _round(run: Run, workload: str, server: Server) -> None:
    """Measure one server once: all at once, one at a time, and at a part of what it took."""
    work = _work(run, workload, server)
    full = FULL_HTTP1 if work.is_http1 else FULL_GRPC
    seconds = run.options.seconds * (SLOW_TIMES if workload == "cnn" else 1)
    rate = h2load(server.address, work, full, 60, WARM_UP_CALLS)["rps"]
    # Of a slow server what is in flight when a time is up would be a part of the CPU, but not of the calls.
    calls = None if rate * seconds > MANY_CALLS else max(int(rate * seconds) // 64, 2) * 64
    measured = {}
    for shape in (full, Shape(LONE, 1, 1)):
        cpu = -cpu_seconds(server.process.pid)
        amount = calls if shape is full else None
        measured[shape.name] = figures = h2load(server.address, work, shape, seconds, amount)
        figures["cpu_us"] = (cpu + cpu_seconds(server.process.pid)) / figures["calls"] * 1e6
        run.keep((server.name, workload, shape.name), figures)
    # An open loop costs its generator more than 64 calls at once do, on cores that it shares with the server: a fast
    # server takes less of it, and at 80 % of the closed loop's rate it would be measured in overload.
    took = _offer(work, server, measured[FULL]["rps"], seconds)
    sustained = (took["calls"] - took["failed"]) / (seconds + took["max_ms"] / 1000)
    run.keep((server.name, workload, PART), _part(work, server, min(sustained, measured[FULL]["rps"]), seconds))


def _part(work: Work, server: Server, capacity: float, seconds: float) -> dict[str, float]:
    """Measure a server in an open loop at a part of a capacity."""
    cpu = -cpu_seconds(server.process.pid)
    figures = _offer(work, server, PART_OF_CAPACITY * capacity, seconds)
    return {**figures, "cpu_us": (cpu + cpu_seconds(server.process.pid)) / figures["calls"] * 1e6}


def _offer(work: Work, server: Server, rate: float, seconds: float) -> dict[str, float]:
    """Call a server in an open loop."""
    return fixed_rate(server.address, work, rate, seconds, 256 if work.is_http1 else 4, **LIMITS)


def _torch_alone(run: Run, workload: str, core: int | None = None) -> dict[str, dict[str, float]]:
    """Call the model in a process of its own, for as many batch sizes as we send."""
    arguments = [run.folder / "models" / workload, str(run.options.seconds)]
    found = json.loads(_program("in_process", *arguments, *([] if core is None else [str(core)])))
    if core is None:
        for size, each in found.items():
            run.keep((LIMIT, workload, f"{size} rows"), {"p50_ms": each["p50_us"] / 1000})
        lone = found["1"]
        latency = {"p50_ms": lone["p50_us"] / 1000, "p99_ms": lone["p99_us"] / 1000}
        run.keep((LIMIT, workload, LONE), {**latency, "cpu_us": lone["cpu_us"], "rps": lone["calls_s"]})
        cpu_us = min(each["cpu_us"] / int(size) for size, each in found.items())
        rows_s = max(each["calls_s"] * int(size) for size, each in found.items())
        run.keep((LIMIT, workload, FULL), {"cpu_us": cpu_us, "rps": rows_s})
    return found


def _batch_sizes(run: Run, workload: str, server: Server) -> None:
    """One call at a time of more and more rows."""
    for size in BATCHES:
        work = _work(run, workload, server, size)
        figures = h2load(server.address, work, Shape(LONE, 1, 1), 60, max(BATCH_CALLS // size, 10))
        run.keep((server.name, workload, f"{size} rows"), {"p50_ms": figures["p50_ms"]})


def _pinned(run: Run, server: Server) -> None:
    """Give torch a core of its own, everything else the other, and offer 80 % of what torch does there alone."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return
    work = _work(run, "cnn", server)
    with pinned(server.process.pid, torch_core=cores[-1], others_core=cores[0]):
        alone = _torch_alone(run, "cnn", cores[-1])["1"]
        run.keep((LIMIT, "cnn", PINNED), {"cpu_us": alone["cpu_us"], "rps": alone["calls_s"]})
        run.keep((server.name, "cnn", PINNED), _part(work, server, alone["calls_s"], SLOW_TIMES * run.options.seconds))


def _work(run: Run, workload: str, server: Server, rows: int = 1) -> Work:
    """Return what is sent to a server: some known row."""
    known = json.loads((run.folder / "models" / workload / "known.json").read_text())
    message = server.wire.write(np.repeat(np.array(known[0]["x"]), rows, axis=0))
    paths = [run.folder / name for name in ("message", "body", "log")]
    paths[0].write_bytes(message)
    paths[1].write_bytes(message if server.wire.is_http1 else framed(message))
    return Work(server.wire.path, *paths, server.wire.content_type)


def _program(name: str, *arguments: Path | str) -> str:
    """Run a program of model_peers with our environment's torch; return its last line."""
    command = [sys.executable, "-m", f"bench.model_peers.{name}", *map(str, arguments)]
    env = {**os.environ, **ONE_THREAD, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    return done.stdout.splitlines()[-1]


def _result(run: Run) -> dict[str, Any]:
    arguments = " ".join(sys.argv[1:])
    options = run.options
    return {
        "what": "model servers with one process that computes, on one torch thread, all on one machine",
        "command": f'make bench-models BENCH_ARGS="{arguments}"' if arguments else "make bench-models",
        "rounds": options.rounds,
        "seconds": options.seconds,
        "fairness": FAIRNESS,
        "contenders": {
            **{one.name: {"version": one.version, "wire": one.wire.name, **one.notes} for one in run.servers.values()},
            **({LIMIT: {"what": "no server: the model in a process"}} if LIMIT in options.contenders else {}),
        },
        "goals": judge(run.rounds),
        "results": [
            {"contender": who, "workload": workload, "shape": shape, **summaries(measured), "each": measured}
            for (who, workload, shape), measured in run.rounds.items()
        ],
    }


def _write(result: dict[str, Any], options: argparse.Namespace) -> Path:
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / ("models-quick.json" if options.quick else "models.json")
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    draw(result, path.with_suffix(".png"))
    return path


if __name__ == "__main__":
    main()
