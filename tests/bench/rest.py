"""The table of HTTP and JSON: our model server alone and behind the access service, FastAPI, nginx before it, MLServer.

`make bench-http` calls it. The model is an echo: a hook that gives back its rows, and of an image its size, so that
what is measured is HTTP, JSON and base64. A round loads each contender in turn, with the others stopped: 64
connections, then one. CPU is that of all processes that a request passes, per request. Writes results/http.json, .png.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from bench import http_contenders as contenders
from bench import machine
from bench.contenders import PEERS
from bench.http_contenders import Contender, alone
from bench.measure import Shape, Work, h2load, summaries
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
WORKLOADS = ("rows", "image", "binary")
SHAPES = [Shape("64 connections", 64, 1), Shape("1 connection", 1, 1)]
WARM_UP_CALLS = 200
# Of the figure of the other contender, at 64 connections.
GOALS = {"fastapi": 1 / 10, "mlserver": 1 / 20}
PROCESSOR = """import numpy as np


def run_model(model, x, **kwargs):
    return x if isinstance(x, np.ndarray) and x.ndim > 1 else np.array([[float(len(x))]])
"""

Rounds = dict[tuple[str, str, str], list[dict[str, float]]]


def main() -> None:
    """Measure as the command line says, write the results, print the table."""
    options = _options()
    facts = machine.describe()
    rounds: Rounds = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        started = _start(Path(name), options.contenders, stack)
        for each in started:
            for workload in each.forms:
                each.check(workload)
        for _ in range(options.rounds):
            for each in started:
                with alone(each, [other for other in started if not _is_part(other, each)]):
                    _round(each, Path(name), options.seconds, rounds)
        versions = {each.name: each.version for each in started}
    result = {**facts, "seconds": options.seconds, "rounds": options.rounds, "versions": versions}
    result["results"] = [
        {"contender": who, "workload": workload, "shape": shape, **summaries(found)}
        for (who, workload, shape), found in rounds.items()
    ]
    result["goals"] = _goals(result["results"])
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / ("http-quick.json" if options.quick else "http.json")
    path.write_text(json.dumps(result, indent=1) + "\n")
    _draw(result, path.with_suffix(".png"))
    print(_table(result))
    print(f"\nwritten: {path} and .png")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    known = ["ours", "access+ours", "fastapi", "nginx+fastapi", "mlserver"]
    parser.add_argument("--contenders", default=",".join(known), help="with commas between")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s, into http-quick.*")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    options.contenders = options.contenders.split(",")
    if wrong := [name for name in options.contenders if name not in known]:
        parser.error(f"--contenders: {', '.join(wrong)} is not one of {', '.join(known)}")
    for name in list(options.contenders):
        environment = contenders.ENVIRONMENTS.get(name)
        if environment and not (PEERS / environment / ".installed").exists():
            print(f"left out: {name}: no environment .peers/{environment}", file=sys.stderr)
            options.contenders.remove(name)
    return options


def _start(folder: Path, names: list[str], stack: ExitStack) -> list[Contender]:
    """Start them; one that is behind another is started with it."""
    (folder / "m").mkdir()
    (folder / "m" / "processor.py").write_text(PROCESSOR)
    # Our server wants one; the hook never calls it.
    model = torch.export.export(torch.nn.Identity(), (torch.zeros(2, 64),))
    torch.export.save(model, folder / "m" / "model.pt2")
    started = []

    def started_one(contender: Contender) -> Contender:
        stack.callback(contender.processes[0].kill)
        started.append(contender)
        return contender

    if {"ours", "access+ours"} & set(names):
        server = started_one(contenders.ours(folder))
        if "access+ours" in names:
            started_one(contenders.ours_behind(server, folder))
    if {"fastapi", "nginx+fastapi"} & set(names):
        server = started_one(contenders.fastapi(folder))
        if "nginx+fastapi" in names:
            started_one(contenders.nginx_before(server, folder))
    if "mlserver" in names:
        started_one(contenders.mlserver(folder))
    return started


def _is_part(one: Contender, other: Contender) -> bool:
    """Whether a contender has a process that another one needs."""
    return any(process in other.processes for process in one.processes)


def _round(contender: Contender, folder: Path, seconds: float, rounds: Rounds) -> None:
    for workload, form in contender.forms.items():
        body = folder / "body"
        body.write_bytes(form.body)
        work = Work(form.path, body, body, folder / "h2load.log", form.content_type, form.headers)
        h2load(contender.address, work, SHAPES[0], 60, calls=WARM_UP_CALLS)
        for shape in SHAPES:
            before = contender.cpu_seconds()
            figures = h2load(contender.address, work, shape, seconds)
            used = contender.cpu_seconds() - before
            figures["cpu_us"] = used / figures["calls"] * 1e6
            rounds.setdefault((contender.name, workload, shape.name), []).append(figures)


def _median(rows: list[dict[str, Any]], who: str, workload: str, shape: str, figure: str) -> float | None:
    for row in rows:
        if (row["contender"], row["workload"], row["shape"]) == (who, workload, shape) and figure in row:
            return float(row[figure]["median"])
    return None


def _goals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return our CPU per request as a part of others', and whether that is as little as was aimed at."""
    found = []
    for workload in WORKLOADS:
        own = _median(rows, "ours", workload, SHAPES[0].name, "cpu_us")
        for other, goal in GOALS.items():
            theirs = _median(rows, other, workload, SHAPES[0].name, "cpu_us")
            if own is not None and theirs:
                part = own / theirs
                found.append(
                    {"workload": workload, "beside": other, "part": part, "goal": goal, "is_met": part <= goal}
                )
    return found


def _table(result: dict[str, Any]) -> str:
    lines = [
        "| workload | contender | CPU µs | requests/s | CPU µs, 1 connection | p50 ms | p99 ms |",
        "|---" * 7 + "|",
    ]
    rows = result["results"]
    for workload in WORKLOADS:
        for who in result["versions"]:
            full = [_median(rows, who, workload, SHAPES[0].name, name) for name in ("cpu_us", "rps")]
            lone = [_median(rows, who, workload, SHAPES[1].name, name) for name in ("cpu_us", "p50_ms", "p99_ms")]
            if full[0] is not None:
                cells = [*(f"{value:,.0f}" for value in [*full, lone[0]] if value is not None)]
                cells += [f"{value:.2f}" for value in lone[1:] if value is not None]
                lines.append(f"| {workload} | {who} | {' | '.join(cells)} |")
    for goal in result["goals"]:
        said = "met" if goal["is_met"] else "not met"
        text = f"CPU of ours on {goal['workload']}: 1/{1 / goal['part']:.1f} of {goal['beside']}'s"
        lines.append(f"{text}, goal 1/{1 / goal['goal']:.0f}: {said}")
    return "\n".join(lines)


def _draw(result: dict[str, Any], path: Path) -> None:
    """Write two panels of bars."""
    names = list(result["versions"])
    panels = (("cpu_us", "CPU per request, µs (log scale, lower is better)"), ("rps", "requests/s (log scale)"))
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(12, 5), layout="constrained")
        for axes, (what, title) in zip(figure.subplots(1, 2), panels, strict=True):
            for index, who in enumerate(names):
                values = [_median(result["results"], who, each, SHAPES[0].name, what) or 0 for each in WORKLOADS]
                places = [place + index * 0.15 for place in range(len(WORKLOADS))]
                axes.bar(places, values, 0.14, label=who)
            axes.set_xticks([place + 0.3 for place in range(len(WORKLOADS))], WORKLOADS)
            axes.set_yscale("log")
            axes.set_title(title)
        axes.legend()
        figure.suptitle(
            f"HTTP, echo model, 64 connections, {result['date'][:10]}, commit {result['commit'][:9]}, {result['cpu']}, "
            f"{result['cores']} cores for load and server; median of {result['rounds']} round(s)"
        )
        figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
