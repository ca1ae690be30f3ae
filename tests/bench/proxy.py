"""The proxy table: ours, Envoy, nginx, HAProxy, grpc.aio and no proxy, in one run. `make bench` calls it.

Each contender has one worker and the same two endpoints. A round measures every (payload, shape) with each contender in
turn; CPU is user + system time of all the contender's processes per request. Writes results/proxy.json and .png.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import machine
from bench.contenders import CONTENDERS, Contender
from bench.fleet import Fleet
from bench.goals import Rounds, judge
from bench.measure import SHAPES, Shape, Work, fixed_rate, h2load, summaries
from bench.payloads import PATH, SIZES, framed, predict
from bench.plot import draw
from bench.proc import cpu_seconds
from fixtures.processes import ROOT

RESULTS = Path(__file__).parent / "results"
FIRST_PORT = 18700
# Calls/s of the open-loop measurement: below the limit of every contender.
FIXED_RATE = 1000
FIXED = Shape(f"{FIXED_RATE}/s", 16, 0)
WARM_UP_CALLS = 512
# Other people's work shares caches and cores: Envoy's CPU per request doubled beside two compilers.
MIN_IDLE_SHARE = 0.95


@dataclass
class Run:
    """What one run works with, and what it has measured."""

    options: argparse.Namespace
    folder: Path
    fleet: Fleet
    contenders: list[Contender]
    rounds: Rounds = field(default_factory=dict)

    def keep(
        self, contender: Contender, payload: str, shape: Shape, figures: dict[str, float], cpu_seconds: float
    ) -> None:
        """Keep one measurement."""
        figures["cpu_us"] = cpu_seconds / figures["calls"] * 1e6
        self.rounds.setdefault((contender.name, payload, shape.name), []).append(figures)


def main() -> None:
    """Measure as the command line says, write the results, print the tables."""
    options = _options()
    facts = machine.describe()
    if facts["idle_share"] < MIN_IDLE_SHARE:
        print(f"the machine is busy: only {facts['idle_share']:.0%} idle; figures will be too high", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker is another user
        fleet = stack.enter_context(Fleet(2, options.reply_bytes))
        contenders = [_start(stack, who, fleet, folder) for who in options.only]
        run = Run(options, folder, fleet, contenders)
        for number in range(options.rounds):
            for payload in options.payloads:
                _measure(run, payload)
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr, flush=True)
    _write({**facts, **_result(run)}, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    parser.add_argument("--only", default=",".join(CONTENDERS), help="contenders, with commas between")
    parser.add_argument("--payloads", default=",".join(SIZES))
    parser.add_argument("--shapes", default=",".join(shape.name for shape in [*SHAPES, FIXED]))
    parser.add_argument("--reply-bytes", type=int, default=64, help="size of each answer; 0 sends the request back")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s, into proxy-quick.*")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    shapes = {shape.name for shape in [*SHAPES, FIXED]}
    for name, known in (("only", CONTENDERS), ("payloads", SIZES), ("shapes", shapes)):
        chosen = getattr(options, name).split(",")
        if wrong := [one for one in chosen if one not in known]:
            parser.error(f"--{name}: {', '.join(wrong)} is not one of {', '.join(known)}")
        setattr(options, name, chosen)
    return options


def _start(stack: ExitStack, who: str, fleet: Fleet, folder: Path) -> Contender:
    """Start a contender and see that it answers rightly, by a real client, before anything is timed."""
    place = folder / who
    place.mkdir(mode=0o755)
    address = f"127.0.0.1:{FIRST_PORT + list(CONTENDERS).index(who)}"
    contender = CONTENDERS[who](address, fleet.addresses, place)
    if contender.process is not None:
        stack.callback(contender.process.kill)
    for size in SIZES.values():
        fleet.check(contender, predict(size))
    return contender


def _measure(run: Run, payload: str) -> None:
    """One round of one payload: every shape, every contender in turn."""
    work = Work(PATH, run.folder / "message", run.folder / "body", run.folder / "log")
    work.message.write_bytes(predict(SIZES[payload]))
    work.body.write_bytes(framed(work.message.read_bytes()))
    for shape in [one for one in SHAPES if one.name in run.options.shapes]:
        for contender in run.contenders:
            h2load(contender.address, work, shape, 60, WARM_UP_CALLS)
            with run.fleet.counted() as count, _Cpu(contender) as cpu:
                figures = h2load(contender.address, work, shape, run.options.seconds)
            # A proxy that answers errors by itself is fast, and h2load does not read grpc-status.
            if count.calls < figures["calls"]:
                raise RuntimeError(f"{contender.name} answered {figures['calls']:g}, endpoints got {count.calls}")
            run.keep(contender, payload, shape, figures, cpu.seconds)
    if payload == "small" and FIXED.name in run.options.shapes:
        for contender in run.contenders:
            with _Cpu(contender) as cpu:
                figures = fixed_rate(contender.address, work, FIXED_RATE, run.options.seconds, FIXED.connections)
            run.keep(contender, payload, FIXED, figures, cpu.seconds)


class _Cpu:
    """CPU seconds that a contender uses inside the block; 0 for no proxy."""

    def __init__(self, contender: Contender) -> None:
        self._process = contender.process
        self.seconds = 0.0

    def __enter__(self) -> _Cpu:
        self.seconds -= self._used()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += self._used()

    def _used(self) -> float:
        return 0.0 if self._process is None else cpu_seconds(self._process.pid)


def _result(run: Run) -> dict[str, Any]:
    arguments = " ".join(sys.argv[1:])
    options = run.options
    return {
        "what": "a proxy with 1 worker in front of 2 endpoints, plaintext HTTP/2, round robin, all on one machine",
        "command": f'make bench BENCH_ARGS="{arguments}"' if arguments else "make bench",
        "rounds": options.rounds,
        "seconds": options.seconds,
        "payload_bytes": SIZES,
        "reply_bytes": options.reply_bytes,
        "contenders": {one.name: {"version": one.version, "config": one.config, **one.notes} for one in run.contenders},
        "goals": judge(run.rounds),
        "results": [
            {"contender": who, "payload": payload, "shape": shape, **summaries(measured), "each": measured}
            for (who, payload, shape), measured in run.rounds.items()
        ],
    }


def _write(result: dict[str, Any], options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / ("proxy-quick.json" if options.quick else "proxy.json")
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    draw(result, path.with_suffix(".png"))
    print(table(result))
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    print(f"\nwritten: {shown} and .png")


def table(result: dict[str, Any]) -> str:
    """Return the results and goals as text."""
    lines = [f"{'payload':8}{'shape':10}{'contender':10}{'CPU us/request':>26}{'req/s':>10}{'p50 ms':>9}{'p99 ms':>9}"]
    for row in result["results"]:
        cpu = row["cpu_us"]
        cells = f"{row['payload']:8}{row['shape']:10}{row['contender']:10}"
        cells += f"{cpu['median']:10.1f} ({cpu['min']:.1f}-{cpu['max']:.1f})".ljust(26).rjust(26)
        cells += f"{row['rps']['median']:10,.0f}"
        for name in ("p50_ms", "p99_ms"):
            cells += f"{row[name]['median']:9.3f}" if name in row else " " * 9
        lines.append(cells)
    for goal in result["goals"]:
        ratio = goal["ratio"]
        word = "reached" if goal["reached"] else "NOT reached"
        lines.append(f"{word}: {goal['goal']}: {ratio['median']:.3f} ({ratio['min']:.3f}-{ratio['max']:.3f})")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
