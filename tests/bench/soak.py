"""`dl-inference serve` for a long time: mixed load, a model swapped every 20 s, a process killed every 60 s.

`make soak` calls it. No call may be lost, no answer be another's or of a model that was never there, and the access
service's memory must be flat over the second half. Writes results/soak.json; exit status 1 where something was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from bench import machine
from bench.measure import TARGET
from bench.model_messages import SELDON
from bench.soak_models import MODELS, WIDTH, options, write_model
from bench.soak_verdict import GROWTH_BAR, SHOWN, counts, growth, lost, read, verdict
from fixtures.processes import Process
from fixtures.serve_process import Serve, replace

RESULTS = Path(__file__).parent / "results"
DEFAULT_SECONDS = 600
LOOK_S = 1.0
CALL_S = 30
# After the load: calls in flight, and the file of records.
END_S = 120


@dataclass
class Watch:
    """What is seen while the load runs."""

    memory: list[tuple[float, int]] = field(default_factory=list)
    model_memory: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    swaps: int = 0
    kills: int = 0
    written: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MODELS, 0))
    live: dict[str, set[int]] = field(default_factory=lambda: {name: set() for name in MODELS})
    checked: int = 0
    wrong: list[str] = field(default_factory=list)


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=DEFAULT_SECONDS)
    parser.add_argument("--swap-s", type=float, default=20, help="between two swaps")
    parser.add_argument("--kill-s", type=float, default=60, help="between two kills")
    parser.add_argument("--out", type=Path, help="default: results/soak.json, for short runs soak-quick.json")
    given = parser.parse_args()
    # The programs that it has started end with it, also where a time limit ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    name = "soak.json" if given.seconds >= DEFAULT_SECONDS else "soak-quick.json"
    found = {**machine.describe(), **run(given)}
    wrong = verdict(found)
    found["reached"] = not wrong
    path = given.out or RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    shown = ("calls", "lost", "checked_answers", "swaps", "swaps_live", "kills", "growth_second_half", "outcomes")
    print(json.dumps({key: found[key] for key in shown}, indent=1))
    print("\n".join(wrong) if wrong else "reached: no lost call, no wrong answer, flat memory", f"({path})")
    sys.exit(bool(wrong))


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Serve, load, swap and kill; return what was found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in MODELS:
            write_model(folder / "models" / each, 0)
        processes: list[Process] = []

        def start(command: list[str | Path], **more: Any) -> Process:
            processes.append(Process(command, **more))
            return processes[-1]

        try:
            serve = Serve(start, folder / "models", "--replicas", "2", "--plain", real=True)
            for each in MODELS:
                serve.wait_state(each, "serving", 300)
            records = folder / "records"
            command = [TARGET / "load", serve.address, *options(folder, given.seconds), "--records", records]
            load = start(command)
            load.wait_line("^started")
            watch = _watch(serve, folder / "models", given)
            load.wait(END_S)
            return _found(given, watch, records)
        finally:
            for process in reversed(processes):
                process.kill()


def _watch(serve: Serve, models: Path, given: argparse.Namespace) -> Watch:
    """Sample memory, swap models and kill processes until the time is over."""
    watch, chance, over = Watch(), random.Random(1), threading.Event()
    checker = threading.Thread(target=_check, args=(serve.address, watch, over))
    checker.start()
    start = time.monotonic()
    next_swap, next_kill = given.swap_s, given.kill_s
    try:
        while (at := time.monotonic() - start) < given.seconds:
            watch.memory.append((at, _resident(serve.process.pid)))
            watch.model_memory.append((at, {each: sum(map(_resident, serve.pids(each))) for each in MODELS}))
            if at >= next_swap:
                next_swap += given.swap_s
                _swap(models, MODELS[watch.swaps % len(MODELS)], watch)
            if at >= next_kill:
                next_kill += given.kill_s
                if pids := serve.pids(MODELS[watch.kills % len(MODELS)]):
                    os.kill(chance.choice(pids), signal.SIGKILL)
                    watch.kills += 1
            over.wait(LOOK_S)
    finally:
        over.set()
        checker.join(2 * CALL_S)
    return watch


def _swap(models: Path, name: str, watch: Watch) -> None:
    watch.swaps += 1
    watch.written[name] += 1  # before it can answer
    replace(models / name, partial(write_model, variant=watch.written[name]))


def _check(address: str, watch: Watch, over: threading.Event) -> None:
    """Call with a client of grpcio's, rows of one's own each, and compare the answers."""
    random_rows = np.random.default_rng(1)
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(SELDON.path)
        while not over.wait(0.05):
            for name in MODELS:
                x = random_rows.integers(-9, 9, (1, WIDTH)).astype(float)
                try:
                    answer = SELDON.read(call(SELDON.write(x), timeout=CALL_S, metadata=[("x-model", name)]))
                except grpc.RpcError as error:
                    watch.wrong.append(f"{name}: {error.code().name}: {error.details()}")
                    continue
                watch.checked += 1
                total, variant = answer[0]
                if total != x.sum() or variant not in range(watch.written[name] + 1):
                    watch.wrong.append(f"{name}: {answer.tolist()} for a sum of {x.sum()}")
                watch.live[name].add(int(variant))


def _resident(pid: int) -> int:
    """Return a process's resident memory in bytes; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _found(given: argparse.Namespace, watch: Watch, path: Path) -> dict[str, Any]:
    records = read(path)
    missing = lost(records)
    step = max(len(watch.memory) // 60, 1)
    return {
        "what": "serve with 2 models of 2 processes each under mixed load; models swapped, processes killed",
        "command": f"make soak SOAK_SECONDS={given.seconds:g}",
        "seconds": given.seconds,
        "calls": len(records),
        "outcomes": counts(records),
        "lost": len(missing),
        "lost_calls": missing[:SHOWN],
        "checked_answers": watch.checked,
        "wrong_answers": watch.wrong[:SHOWN],
        "swaps": watch.swaps,
        "swaps_live": sum(len(each - {0}) for each in watch.live.values()),
        "kills": watch.kills,
        "growth_second_half": growth(watch.memory, given.seconds),
        "bar": GROWTH_BAR,
        "resident_bytes": watch.memory[::step],
        "model_processes_resident_bytes": watch.model_memory[::step],
    }


if __name__ == "__main__":
    main()
