"""One scenario on one contender: a process for each endpoint, the contender, the load, the faults at their times."""

from __future__ import annotations

import csv
import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from bench.balancers import Fleet, find
from bench.contenders import Contender
from bench.measure import TARGET
from bench.network import lossy
from bench.payloads import PATH, SIZES, predict
from bench.proc import cpu_seconds
from bench.scenario import CONTINUE, STOP, Event, Scenario
from fixtures.processes import Load, Process

# Fixed, and below what the system gives to connects: an endpoint that comes back finds its port free.
PORT = 18_720
CONNECTIONS = 4
# How long a contender may take to its first answer, and to start at all.
START_S = 30
DIRECT_S = 5.0
_places = itertools.count()


@dataclass(frozen=True)
class Run:
    """What came of it."""

    contender: Contender
    calls: dict[str, np.ndarray]
    """``due_s``, ``latency_ms``, ``code``, ``class``, ``endpoint`` (number, -1: not known) of each call."""
    report: dict[str, Any]
    """Of ``load``."""
    cpu_us: float
    """Of the contender, per call; 0 where it is none of our processes."""


def _host() -> str:
    """Return a loopback address of one's own: all of 127.0.0.0/8 is the machine itself."""
    return f"127.{20 + os.getpid() % 200}.{next(_places) % 250}"


def replay(scenario: Scenario, who: str, seed: int, folder: Path) -> Run:
    """Run a scenario once.

    Args:
        scenario: what is run.
        who: as bench.balancers.find takes it.
        seed: of the arrivals and the endpoints.
        folder: empty, for configurations and files.

    Raises:
        AssertionError: a program did not do what it was started for.
    """
    host = _host()
    with ExitStack() as stack:
        processes = [stack.enter_context(_endpoint(scenario, host, seed, n)) for n in range(scenario.endpoints)]
        addresses = [f"{host}.{number + 1}:{PORT}" for number in range(scenario.endpoints)]
        fleet = Fleet(addresses, scenario.weights, scenario.deadline_ms)
        events = scenario.events()
        for event in (one for one in events if one.at_s < 0):
            _do(event, processes)
        contender = find(who)(f"{host}.250:{PORT}", fleet, folder)
        if contender.process is not None:
            stack.callback(contender.process.kill)
        _wait_answer(contender)
        for numbers, share in scenario.losses():
            stack.enter_context(lossy([f"{host}.{number + 1}" for number in numbers], share))
        files = _files(scenario, seed, folder)
        before = _cpu(contender)
        process = Process([TARGET / "load", contender.address, *_load_options(scenario, files)])
        stack.callback(process.kill)
        load = Load(process)
        _follow([one for one in events if one.at_s >= 0], processes, time.monotonic())
        report = load.report(scenario.duration_s + scenario.deadline_ms / 1000 + 30)
        used = _cpu(contender) - before
        _check(contender, processes)
        calls = _read(files["records"])
    return Run(contender, calls, report, used / report["calls"] * 1e6)


def direct(scenario: Scenario, folder: Path) -> dict[str, Any]:
    """Send a scenario's calls to one endpoint that answers at once; return what load and machine add by themselves."""
    address = f"{_host()}.1:{PORT}"
    with ExitStack() as stack:
        endpoint = Process([TARGET / "endpoint", address])
        stack.callback(endpoint.kill)
        endpoint.wait_line("^ready")
        files = _files(scenario, 0, folder)
        process = Process([TARGET / "load", address, *_load_options(scenario, files)])
        stack.callback(process.kill)
        load = Load(process)
        time.sleep(DIRECT_S)
        report = load.stop()
    return {name: report[name] for name in ("calls", "failed", "latency_ms", "send_lag_ms")}


@contextmanager
def _endpoint(scenario: Scenario, host: str, seed: int, number: int) -> Iterator[Process]:
    options = scenario.endpoint_options(number, seed)
    process = Process([TARGET / "endpoint", f"{host}.{number + 1}:{PORT}", *options])
    try:
        process.wait_line("^ready")
        yield process
    finally:
        process.kill()


def _wait_answer(contender: Contender) -> None:
    """Call until it answers OK: it starts, or has to see that its endpoints are back."""
    limit = time.monotonic() + START_S
    with grpc.insecure_channel(contender.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        while True:
            try:
                channel.unary_unary(PATH)(predict(SIZES["small"]), timeout=START_S, wait_for_ready=True)
            except grpc.RpcError as error:
                if time.monotonic() < limit:
                    time.sleep(0.1)
                    continue
                log = contender.process.log.splitlines()[-20:] if contender.process else []
                raise AssertionError("\n".join([f"{contender.name}: no OK in {START_S} s: {error}", *log])) from None
            return


def _files(scenario: Scenario, seed: int, folder: Path) -> dict[str, Path]:
    files = {name: folder / name for name in ("arrivals", "records", "body")}
    files["arrivals"].write_text(scenario.arrivals(seed))
    files["body"].write_bytes(predict(SIZES["small"]))
    for each in scenario.classes:
        # A class is a model: those that look at models tell them apart.
        (folder / f"body-{each.name}").write_bytes(predict(SIZES["small"] + len(each.name), each.name))
    return files


def _load_options(scenario: Scenario, files: dict[str, Path]) -> list[str]:
    options = ["--path", PATH, "--body", str(files["body"]), "--arrivals", str(files["arrivals"])]
    options += ["--records", str(files["records"]), "--share-by", "endpoint-name"]
    options += ["--connections", str(CONNECTIONS), "--deadline-ms", f"{scenario.deadline_ms:g}"]
    for each in scenario.classes:
        options += ["--class", f"{each.options},body={files['body'].parent / f'body-{each.name}'}"]
    return options


def _follow(events: list[Event], processes: list[Process], start: float) -> None:
    for event in events:
        time.sleep(max(0.0, start + event.at_s - time.monotonic()))
        _do(event, processes)


def _do(event: Event, processes: list[Process]) -> None:
    process = processes[event.endpoint]
    if event.command in (STOP, CONTINUE):
        process.signal(signal.Signals[event.command])
    else:
        process.send_line(event.command)


def _check(contender: Contender, processes: list[Process]) -> None:
    """See that the endpoints understood what they were told, and that everybody is alive."""
    for process in processes:
        process.signal(signal.SIGCONT)
        before = process.line_count()
        process.send_line("count")
        process.wait_line("^count ", after=before)
        if "\nerror " in process.log:
            raise AssertionError(f"an endpoint refused a command:\n{process.log}")
    _wait_answer(contender)


def _cpu(contender: Contender) -> float:
    return 0.0 if contender.process is None else cpu_seconds(contender.process.pid)


def _read(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    due = np.array([int(row["due_us"]) for row in rows])
    return {
        "due_s": due / 1e6,
        "latency_ms": (np.array([int(row["done_us"]) for row in rows]) - due) / 1e3,
        "code": np.array([int(row["code"]) for row in rows]),
        "class": np.array([row["class"] for row in rows]),
        "endpoint": np.array([int(row["endpoint"] or -1) for row in rows]),
    }
