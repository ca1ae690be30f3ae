"""Measure balancers beside each other while endpoints fail, hang, slow down and come back: ``make bench-balance``.

Every scenario (docs/simulate.md) on every contender, each with endpoints of its own, several contenders at once; they
sleep more than they compute. Prints a table, writes results/balance.json and its pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from bench import machine, network
from bench.balance_plot import draw
from bench.balance_table import table
from bench.balancers import BALANCERS, find, missing
from bench.figures import codes, figures, over_time, summary
from bench.replay import Run, direct, replay
from bench.scenario import Scenario, known, load
from bench.virtual import simulated, verdict
from fixtures.processes import ROOT

RESULTS = Path(__file__).parent / "results"
# The rows of the first comparison: what round robin by outcomes alone was bad at.
FIRST = [
    "moving-slowness", "unequal-speeds", "freezes", "headers-only", "heavy-requests", "all-refuse", "heal",
]  # fmt: skip
# Made for a simulator of many endpoints, or of many proxies.
VIRTUAL_ONLY = ("five-of-hundred-slow", "slow-x4-twenty-proxies", "fast-fail-twenty-proxies")
# The load says when it could not keep its times; above this the figures are of the machine, not of the contender.
MAX_SEND_LAG_MS = 10.0
# A scenario whose fault comes once needs no longer.
SHORT_S = 12
# Calls a second, of all contenders that run: beyond it the cores would say how long a call takes, not the endpoints.
MAX_RATE = 4800
# Runs of the simulator, which costs little.
VIRTUAL_SEEDS = 5
# Width of one step of the lines over time.
STEP_S = 0.5


def main() -> None:
    """Measure as the command line says, write the results, print the table."""
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    scheduler = _undisturbed()
    if refused := network.enter():
        print(f"no network of its own ({refused}): scenarios that lose packets are left out", file=sys.stderr)
        options.only = [one for one in options.only if not one.losses()]
    result: dict[str, Any] = {
        "what": "open-loop load on proxies in front of the same misbehaving endpoints, all on one machine",
        "command": f'make bench-balance BENCH_ARGS="{" ".join(sys.argv[1:])}"',
        **machine.describe(),
        "scheduler": scheduler,
        "seeds": options.seeds,
        "at_once": options.at_once,
        "contenders": {},
        "scenarios": {},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker is another user
        result["direct"] = direct(max(options.only, key=lambda one: one.facts["load"]["rate"]), folder)
        alone = result["direct"]
        late, took = alone["send_lag_ms"]["p99"], alone["latency_ms"]["p99"]
        print(f"without a contender, at the highest rate: p99 {took:.1f} ms, calls sent {late:.1f} ms late (p99)")
        for scenario in options.only:
            row = _measure(scenario, options, folder, result["contenders"])
            result["scenarios"][scenario.name] = row
            print(table({**result, "scenarios": {scenario.name: row}}), flush=True)
    result["simulated"] = verdict(result)
    _write(result, options)


def _stop(number: int, _: object) -> None:
    """End what was started, and at once: threads that wait for it would finish their runs first."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ends by itself just now
            parent = int(stat.read_text().rpartition(")")[2].split()[1])  # proc(5)
            if parent == os.getpid():
                os.killpg(int(stat.parent.name), signal.SIGKILL)
    os._exit(128 + number)


def _undisturbed() -> str:
    """Let what is measured run before other programs, where that is allowed; return what was got.

    A wait for a core is milliseconds on a busy machine, and five processes wait in a row for a call.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return "as any program: other work on the machine is in the latencies (run it as root)"
    return "real-time, before other programs"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(FIRST), help="scenarios, with commas between, or all")
    more = "ours:policy=p2c+max_attempts=3 is this product with settings of its cluster"
    parser.add_argument("--contenders", default=",".join(BALANCERS), help=f"with commas between; {more}")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, with other arrivals")
    parser.add_argument("--at-once", type=int, default=3, help="most contenders that run at the same time")
    parser.add_argument(
        "--full", action="store_true", help=f"do not shorten scenarios to {SHORT_S} s where that can be"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "balance.json")
    options = parser.parse_args()
    if options.only == "all":
        options.only = ",".join(name for name in known() if name not in VIRTUAL_ONLY)
    options.contenders = options.contenders.split(",")
    for who, remedy in missing().items():
        if who in options.contenders:
            print(f"{who} is left out: {remedy}", file=sys.stderr)
            options.contenders.remove(who)
    try:
        for who in options.contenders:
            find(who)
        options.only = [load(name, None if options.full else SHORT_S) for name in options.only.split(",")]
    except ValueError as error:
        parser.error(str(error))
    return options


def _measure(scenario: Scenario, options: argparse.Namespace, folder: Path, contenders: dict[str, Any]) -> Any:
    """Run a scenario on every contender, seed by seed; return its part of the result."""
    runs: dict[str, list[Run]] = {who: [] for who in options.contenders}
    at_once = max(1, min(options.at_once, int(MAX_RATE / scenario.facts["load"]["rate"])))
    for seed, group in _groups(options, at_once):
        with ThreadPoolExecutor(len(group)) as threads:
            begun = {who: threads.submit(_replay, scenario, who, seed, folder) for who in group}
            for who, future in begun.items():
                try:
                    runs[who].append(future.result())
                except AssertionError as error:
                    print(f"{scenario.name}: {who} is left out: {error}", file=sys.stderr)
    runs = {who: found for who, found in runs.items() if found}
    for who, found in runs.items():
        contenders[who] = {"version": found[0].contender.version, "config": found[0].contender.config}
    virtual = simulated(scenario, options.contenders, VIRTUAL_SEEDS)
    return {
        "about": scenario.facts["about"],
        "warmup_s": scenario.warmup_s,
        "windows_s": scenario.windows(),
        "contenders": {
            who: _result(scenario, found) | {"simulated": virtual.get(who, {})} for who, found in runs.items()
        },
    }


def _groups(options: argparse.Namespace, at_once: int) -> Iterator[tuple[int, list[str]]]:
    """Yield seeds and who runs at once; the order turns with the seed, so that nobody has always the same company."""
    for seed in range(1, options.seeds + 1):
        turn = seed % len(options.contenders)
        order = options.contenders[turn:] + options.contenders[:turn]
        for begin in range(0, len(order), at_once):
            yield seed, order[begin : begin + at_once]


def _replay(scenario: Scenario, who: str, seed: int, folder: Path) -> Run:
    place = Path(tempfile.mkdtemp(dir=folder))
    place.chmod(0o755)
    return replay(scenario, who, seed, place)


def _result(scenario: Scenario, runs: list[Run]) -> dict[str, Any]:
    each = [figures(scenario, run.calls) | {"cpu_us": run.cpu_us} for run in runs]
    lag = max(run.report["send_lag_ms"]["p99"] for run in runs)
    times, p99 = over_time(runs[0].calls, STEP_S, lambda calls: float(np.percentile(calls["latency_ms"], 99)))
    _, errors = over_time(runs[0].calls, STEP_S, lambda calls: 100 * float((calls["code"] != 0).mean()))
    return {
        "calls": sum(run.report["calls"] for run in runs),
        "codes": codes(runs[0].calls),
        "send_lag_p99_ms": lag,
        "is_trusted": lag <= MAX_SEND_LAG_MS,
        **{name: summary([one[name] for one in each]) for name in each[0]},
        "over_time": {"t_s": times, "p99_ms": p99, "errors_percent": errors},
    }


def _write(result: dict[str, Any], options: argparse.Namespace) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    draw(result, options.out.with_suffix(".png"))
    shown = options.out.relative_to(ROOT) if options.out.is_relative_to(ROOT) else options.out
    print(f"\n{result['simulated']}")
    print(f"written: {shown} and .png")


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    main()
